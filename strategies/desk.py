"""A desk: one policy with its own orders and position; what it wants passes the door to the venue."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from features.messages import REGIMES, BarState, Forecast, RegimeState, RiskState, VolatilityState
from strategies.door import admit
from strategies.governor import RiskSettings
from strategies.handover import CLOSED, only_reduce, stand_down, why_not
from strategies.policy import (
    Cancel,
    Decision,
    Intent,
    Limits,
    MarketView,
    Place,
    PolicyContext,
    PolicySettings,
    WorkingOrder,
)
from strategies.records import LIQUIDATION, Log
from strategies.sizing import ContractSpec, cap

_NAN = math.nan
_SILENCE = BarState(
    0,
    np.empty(0),
    _NAN,
    _NAN,
    _NAN,
    _NAN,
    _NAN,
    RegimeState(-1, (_NAN, _NAN, _NAN)),
    VolatilityState(_NAN, _NAN, False),
    Forecast(_NAN, _NAN),
    RiskState("halted", 0.0, _NAN, 0.0),
)
"""Before the first bar."""


class Venue(Protocol):
    """What a desk asks of the Nautilus strategy it works in."""

    def place(self, desk: "Desk", wanted: Place) -> None:
        """Send an order; ``desk.sent`` is told its id first, because a denial comes back at once."""
        ...

    def amend(self, order_id: str, role: str, quantity: float, price: float) -> None:
        """Change an order to this total quantity and price."""
        ...

    def cancel(self, order_id: str) -> None: ...

    def is_closed(self, order_id: str) -> bool:
        """Whether nothing of the order can fill any more."""
        ...

    def free_margin(self) -> float:
        """In the settlement currency."""
        ...


@dataclasses.dataclass(frozen=True)
class DeskConfig:
    """What a desk needs.

    Parameters
    ----------
    name : str
        In records and order tags.
    settings : PolicySettings
    instrument : str
        Name in records.
    spec : ContractSpec
        Of the traded instrument.
    risk : RiskSettings
        Limits common to all strategies.
    bars_per_year, horizon
        Measured bars a year and the bars a volatility forecast covers, to annualise it.
    maker_fee : float
        Fraction of notional.
    features : tuple of str
        Names of the features of a ``BarState``.
    trade_from : int
        Bars up to this time (ns) warm up the policy: nothing is decided or recorded.
    decisions, fills : Log
        Receive records in the order of ``DECISION_COLUMNS`` and ``FILL_COLUMNS``.
    bundle_at : callable
        From a bar's ``ts`` to the name of the valid model bundle, ``""`` if there is none.
    """

    name: str
    settings: PolicySettings
    instrument: str
    spec: ContractSpec
    risk: RiskSettings
    bars_per_year: float
    horizon: int
    maker_fee: float
    features: tuple[str, ...]
    trade_from: int
    decisions: Log
    fills: Log
    bundle_at: Callable[[int], str]


@dataclasses.dataclass(slots=True)
class _Order:
    """The desk's own book-keeping of one order, so that a bar needs no look into Nautilus's cache."""

    role: str
    side: int
    quantity: float  # total, filled part included
    price: float
    reduce_only: bool
    filled: float = 0.0
    pending: bool = True
    removing: bool = False


class Desk:
    """Trades by a pure policy, inside its regimes, its permit and its caps.

    At every ``BarState`` it builds a ``MarketView`` of the bar and its own orders, lets the policy decide,
    sends what passes the door and leaves one decision record. When the strategy does not own the regime (or
    no model is valid, or trading is halted) its orders that add risk are cancelled, and its position is
    closed or worked out reduce-only as ``on_leave`` says; halted always closes it. At a bar without a price
    nothing is opened and nothing closed: orders that add risk are cancelled, those that protect a position
    stand. What other desks hold uses up the same caps, and nothing is opened against it.

    Attributes
    ----------
    policy
    position : float
        Signed contracts, by its own fills.
    entry : float
        Average entry price, NaN while flat.
    """

    def __init__(self, config: DeskConfig, venue: Venue) -> None:
        self.config = config
        self._venue = venue
        self._spec = config.spec
        self.name = config.name
        self.policy = config.settings.policy(
            PolicyContext(
                config.spec,
                config.risk,
                config.bars_per_year,
                config.horizon,
                config.maker_fee,
                config.features,
            )
        )
        self._labels = config.settings.labels
        self._flattens = config.settings.on_leave == "flatten"
        self._bar = _SILENCE
        self.position = 0.0
        self.entry = _NAN
        self._orders: dict[str, _Order] = {}
        self._working: tuple[WorkingOrder, ...] | None = ()  # None: to be built again
        self._between: list[str] = []  # ids sent since the last record

    # -- the bar ---------------------------------------------------------------------------------------------

    def on_bar(self, bar: BarState, digest: str, others: float, *, others_add: bool = False) -> None:
        """Decide on a bar.

        Parameters
        ----------
        bar : BarState
        digest : str
            Hash of its features.
        others : float
            What the other desks hold, net.
        others_add : bool
            Whether orders of theirs may still add to it: meanwhile none of this desk may.
        """
        self._bar = bar
        regime, volatility, forecast, risk = bar.regime, bar.volatility, bar.forecast, bar.risk
        owned = regime.label in self._labels
        reason = why_not(regime.label, owned, risk.permit)
        view = MarketView(
            bar.ts,
            bar.price,
            bar.bid,
            bar.ask,
            bar.features,
            regime.label,
            regime.posterior,
            volatility.volatility,
            volatility.bar_volatility,
            volatility.risk_on,
            forecast.up,
            forecast.down,
            risk.permit,
            risk.size_factor,
            risk.equity,
            risk.drawdown,
            self.position,
            self.entry,
            self.working(),
            Limits(risk.permit, False, 0.0, "", 0.0) if reason or others_add else self._limits(bar, others),
        )
        wish = self.policy.decide(view) if bar.price > 0 else Decision("none", "")
        if bar.ts <= self.config.trade_from:
            return
        if self._orders:
            self._send(self._leftovers())
        if not bar.price > 0:  # what was sent now would be filled at a price that nobody knows
            decision = only_reduce(view, wish, "no price")
        elif not reason:
            decision = wish
        elif risk.permit in CLOSED or (self._flattens and not owned):
            decision = stand_down(view, reason)
        else:
            decision = only_reduce(view, wish, reason)
        self._act(view, decision, digest)

    def _limits(self, bar: BarState, others: float) -> Limits:
        risk, price = bar.risk, bar.price
        if not risk.equity > 0 or not price > 0:
            return Limits(risk.permit, False, 0.0, "", 0.0)
        r = self.config.risk
        leverage = r.leverage(bar.volatility.risk_on)
        most = cap(self._spec, risk.equity, price, leverage, r.exposure_cap, r.max_quantity)
        quantity = max(0.0, most.quantity * risk.size_factor - abs(others))
        return Limits(risk.permit, True, quantity, most.bound, math.inf, others)

    def _at_door(self, view: MarketView) -> Limits:
        """The bar's limits with what free margin carries: asked only for orders, as it is slow."""
        if not view.limits.may_add:
            return view.limits
        notional = self._venue.free_margin() * self.config.risk.leverage(view.risk_on) * view.size_factor
        return view.limits._replace(margin=notional / self._spec.value(view.price))

    def _leftovers(self) -> list[Cancel]:
        """What an exhausted book left of market orders: Nautilus would keep it for ever."""
        return [Cancel(key) for key, o in self._orders.items() if o.filled and o.role in ("entry", "exit")]

    def adding(self) -> bool:
        """Whether an order that adds risk may still fill."""
        return any(not order.reduce_only for order in self.working())

    def working(self) -> tuple[WorkingOrder, ...]:
        """The orders that may still fill."""
        if self._orders:
            self._forget_closed()
        if self._working is None:
            self._working = tuple(
                WorkingOrder(
                    key,
                    o.role,
                    o.side,
                    o.quantity - o.filled,
                    o.price,
                    o.reduce_only,
                    o.pending or o.removing,
                    o.filled > 0,
                )
                for key, o in self._orders.items()
            )
        return self._working

    def _forget_closed(self) -> None:
        """Orders that ended without a word: Nautilus may cancel the rest of a market order silently."""
        for key in [key for key, o in self._orders.items() if o.pending or o.removing]:
            if self._venue.is_closed(key):
                del self._orders[key]
                self._working = None

    # -- the door, and what lies behind it -------------------------------------------------------------------

    def _act(self, view: MarketView, decision: Decision, digest: str) -> None:
        action, reason, intents, size, bound = decision
        if intents:
            passed = admit(intents, view.position, view.orders, self._at_door(view), view.price, self._spec)
            size = sum(i.quantity for i in passed.intents if not isinstance(i, Cancel))
            bound = passed.bound or bound
            if not passed.intents:
                action, reason = "none", f"{action} refused: {bound}"
            self._send(passed.intents)
        ids = ",".join(self._between)
        self._between.clear()
        self.config.decisions.append(
            (
                view.ts,
                self.name,
                self.config.instrument,
                REGIMES[view.regime] if view.regime >= 0 else "none",
                *view.posterior,
                view.volatility,
                view.risk_on,
                view.p_up,
                view.p_down,
                digest,
                view.permit,
                view.size_factor,
                action,
                reason,
                size,
                bound,
                view.position,
                view.price,
                ids,
                self.config.bundle_at(view.ts),
            )
        )

    def _send(self, intents: Sequence[Intent]) -> None:
        for intent in intents:
            if isinstance(intent, Place):
                self._venue.place(self, intent)
                continue
            order = self._orders.get(intent.id)
            if order is None or order.removing:
                continue
            self._working = None
            if isinstance(intent, Cancel):
                order.removing = True
                self._venue.cancel(intent.id)
                continue
            total = order.filled + intent.quantity
            moved = abs(intent.price - order.price) > 0.5 * self._spec.price_increment
            if not moved and abs(total - order.quantity) < 0.5 * self._spec.size_increment:
                continue  # nothing is left of the change: Nautilus refuses to modify nothing
            order.pending = True
            self._between.append(intent.id)
            self._venue.amend(intent.id, order.role, total, intent.price)

    def sent(self, key: str, wanted: Place) -> None:
        """An order of this id is about to go to the venue."""
        price = _NAN if wanted.price is None else wanted.price
        self._orders[key] = _Order(wanted.role, wanted.side, wanted.quantity, price, wanted.reduce_only)
        self._working = None
        self._between.append(key)

    def stop(self, *, flatten: bool) -> None:
        """Orders that could add risk go; the position is closed at market, or stays under its stop."""
        self._send([Cancel(key) for key, o in self._orders.items() if flatten or o.role != "stop"])
        if flatten and self.position:
            side = -1 if self.position > 0 else 1
            self._reduce((Place("exit", side, abs(self.position), reduce_only=True),))

    def recover(self, key: str, wanted: Place, filled: float) -> None:
        """An order that a restarted session finds at the venue."""
        price = _NAN if wanted.price is None else wanted.price
        self._orders[key] = _Order(
            wanted.role, wanted.side, wanted.quantity, price, wanted.reduce_only, filled, pending=False
        )
        self._working = None

    # -- what the venue says ---------------------------------------------------------------------------------

    def on_accepted(self, key: str) -> None:
        """The venue has the order, or leaves it as it was."""
        if order := self._known(key):
            order.pending = False

    def on_updated(self, key: str, quantity: float, price: float | None) -> None:
        """The order has this total quantity now, and this price if one is given."""
        if order := self._known(key):
            order.pending = False
            order.quantity = quantity
            if price is not None:
                order.price = price

    def on_cancel_rejected(self, key: str) -> None:
        if order := self._known(key):
            order.removing = False

    def on_closed(self, key: str) -> None:
        """The order is gone: cancelled, rejected, denied or expired."""
        if order := self._known(key):
            del self._orders[key]
            if order.role == "entry" and order.filled:  # the book was thinner than the order
                self.protect()

    def on_fill(self, key: str, ts: int, quantity: float, price: float, fee: float, maker: bool) -> None:
        """``quantity`` contracts of an order were filled at ``price``; a ``fee`` paid is negative."""
        order = self._known(key)
        if order is None:
            return
        order.filled += quantity
        if order.quantity - order.filled < 0.5 * self._spec.size_increment:
            del self._orders[key]
        self._hold(order.side * quantity, price)
        self._record_fill(ts, key, order.side, quantity, price, fee, maker, self._bar.price)

    def surrender(self, ts: int, price: float, charge: float) -> None:
        """The venue takes the position over at ``price``, for ``charge`` (negative): no order stands any
        more."""
        self._send([Cancel(key) for key in self._orders])
        if self.position or charge:
            side = -1 if self.position > 0 else 1
            self._record_fill(ts, LIQUIDATION, side, abs(self.position), price, charge, False, _NAN)
        self.position, self.entry = 0.0, _NAN

    def _record_fill(
        self,
        ts: int,
        key: str,
        side: int,
        quantity: float,
        price: float,
        fee: float,
        maker: bool,
        mid: float,
    ) -> None:
        label, risk_on = self._bar.regime.label, self._bar.volatility.risk_on
        regime = REGIMES[label] if label >= 0 else "none"
        row = (ts, key, self.name, side, quantity, price, fee, maker, mid, regime, risk_on)
        self.config.fills.append(row)

    def _known(self, key: str) -> _Order | None:
        self._working = None
        return self._orders.get(key)

    def _hold(self, change: float, price: float) -> None:
        """Position and average entry after a fill of ``change`` signed contracts."""
        old = self.position
        new = self.position = round(old + change, self._spec.size_precision)
        if new == 0:
            self.entry = _NAN
        elif old * change > 0:
            self.entry = self._spec.average(self.entry, abs(old), price, abs(change))
        elif old * new <= 0:  # opened, or turned round
            self.entry = price

    def protect(self) -> None:
        """Send what the policy wants to stand without waiting for the next bar."""
        self._reduce(self.policy.protect(self.position, self.entry, self.working()))

    def _reduce(self, intents: Sequence[Intent]) -> None:
        """Send intents between bars, which may not add."""
        if intents:
            limits = Limits(self._bar.risk.permit, False, 0.0, "", 0.0)
            orders, price = self.working(), self._bar.price
            self._send(admit(intents, self.position, orders, limits, price, self._spec).intents)
