"""Deciding: at every bar the policy is asked, and what it wants passes the door and is written down."""

import math
from typing import Any

import numpy as np

from core import records
from core.errors import PartError
from core.messages import BarState, Forecast, RegimeState, RiskState, VolatilityState
from strategies.desk.config import DeskConfig
from strategies.desk.holding import Holding
from strategies.desk.orders import OwnOrders
from strategies.desk.recording import DeskRecords
from strategies.desk.venue import Venue
from strategies.handover import CLOSED, close_out, leave, only_reduce, stand_down, why_not
from strategies.policy import (
    Cancel,
    Decision,
    Intent,
    Limits,
    MarketView,
    Place,
    PolicyContext,
)
from strategies.sizing import cap

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


class Desk:
    """Trades by a pure policy, inside its regimes, its permit and its caps.

    At every ``BarState`` it builds a ``MarketView`` of the bar and its own orders, lets the policy decide,
    sends what passes the door and leaves one decision record. When the strategy does not own the regime (or
    no model is valid, or trading is halted) its orders that add risk are cancelled, and its position is
    closed or worked out reduce-only as ``on_leave`` says; halted always closes it. At a bar without a price
    nothing is opened and nothing closed: orders that add risk are cancelled, those that protect a position
    stand. What other desks hold uses up the same caps, and nothing is opened against it. After refused orders
    it waits before it asks again.
    """

    def __init__(self, config: DeskConfig, venue: Venue) -> None:
        self.config = config
        self.name = config.name
        context = PolicyContext(
            config.spec,
            config.risk,
            config.bars_per_year,
            config.horizon,
            config.maker_fee,
            config.features,
        )
        self.policy = config.settings.policy(context)
        self._spec, self._venue = config.spec, venue
        self.orders = OwnOrders(self, venue, config.spec)
        self.holding = Holding(self, self.orders, venue, config.spec, config.risk.stop.fraction, self._ask)
        self._records = DeskRecords(config)
        self._labels = config.settings.labels
        self._flattens = config.settings.on_leave == "flatten"
        self._bar = _SILENCE

    @property
    def position(self) -> float:
        """Signed contracts, by its own fills."""
        return self.holding.position

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
        self.holding.bar(bar.ts, bar.price)
        self.orders.refusals.bar()
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
            self.holding.entry,
            self.orders.working(),
            Limits(risk.permit, False, 0.0, "", 0.0) if reason or others_add else self._limits(bar, others),
        )
        wish = self._ask("decide", view) if bar.price > 0 else Decision("none", "")
        if bar.ts <= self.config.trade_from:
            return
        if self.orders:
            self.orders.send(self.orders.leftovers())
        if not bar.price > 0:  # what was sent now would be filled at a price that nobody knows
            decision = only_reduce(view, wish, "no price")
        elif not reason:
            decision = wish
        elif risk.permit in CLOSED or (self._flattens and not owned):
            decision = stand_down(view, reason)
        else:
            decision = only_reduce(view, wish, reason)
        self._act(view, self._put_off(self._demanded(view, decision)), digest)

    def _ask(self, what: str, *about: Any) -> Any:
        """A method of the policy; what it raises names it and the bar."""
        try:
            return getattr(self.policy, what)(*about)
        except Exception as error:
            part = f"strategies.{self.name} ({self.config.settings.kind})"
            raise PartError(part, self._bar.ts, error) from error

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

    # -- what comes before the policy's wish -----------------------------------------------------------------

    def _demanded(self, view: MarketView, decision: Decision) -> Decision:
        """``decision``, unless the position has to be closed now."""
        holding = self.holding
        if not view.position:
            holding.demand = ""
            return decision
        if not view.price > 0:
            return decision
        left = any(o.protects and o.touched for o in view.orders)  # it triggered, and found too little
        if not holding.demand and (left or holding.is_passed(holding.stop_level())):
            holding.demand = "stop passed"
            self._ask("stopped", view.ts)
        exits = any(isinstance(i, Place) and i.exits for i in decision.intents)
        if not holding.demand or exits:
            return decision
        return leave(view, "exit", holding.demand, passive="hold")

    def _put_off(self, decision: Decision) -> Decision:
        """``decision`` without what has to wait after a refusal."""
        waits = [(intent, self.orders.wait(intent)) for intent in decision.intents]
        late = next((wait for _, wait in waits if wait is not None), None)
        if late is None:
            return decision
        kept = tuple(intent for intent, wait in waits if wait is None)
        if any(not isinstance(intent, Cancel) for intent in kept):
            return decision._replace(intents=kept)
        reason = f"{decision.action} put off after a refusal: {late.reason}"
        return Decision("cancel" if kept else "none", reason, kept)

    # -- the door, and the record ----------------------------------------------------------------------------

    def _act(self, view: MarketView, decision: Decision, digest: str) -> None:
        action, reason, intents, size, bound = decision
        if intents:
            passed = self.holding.admit(intents, self._at_door(view))
            size = _contracts(passed.intents)
            bound = passed.bound or bound
            if not passed.intents:
                action, reason = "none", f"{action} refused: {bound}" + self._dust(bound)
            self.holding.send(passed.intents)
        stops = self.holding.protect()
        if stops and action in ("none", "hold"):
            action, size, bound = "protect", _contracts(stops), "position"
        notes, between = self.holding.notes, self.orders.between
        if notes:
            reason = "; ".join(text for text in (*notes, reason) if text)
            notes.clear()
        ids = ",".join(between)
        between.clear()
        self._records.decision(view, Decision(action, reason, intents, size, bound), digest, ids)

    def _dust(self, bound: str) -> str:
        if bound != "dust":
            return ""
        worth = abs(self.position) * self._spec.value(self.holding.price)
        return f" ({abs(self.position):.12g} contracts worth {worth:.4g}: no legal order is that small)"

    # -- beginning and end of a session ----------------------------------------------------------------------

    def stop(self, *, flatten: bool) -> None:
        """Orders that could add risk go; the position is closed at market, or stays under its stop."""
        self.orders.send([Cancel(key) for key, o in self.orders if flatten or not o.protects])
        if flatten and self.position:
            nothing = Limits("halted", False, 0.0, "", 0.0)
            self.orders.send(self.holding.admit(close_out(self.position, ()), nothing).intents)

    def dust(self) -> dict[str, Any] | None:
        """The position, where it is too small for an order by itself: contracts, and their worth in the
        settlement currency."""
        held = abs(self.position)
        if not held or not self._spec.below_minimum(held, self.holding.price):
            return None
        worth = held * self._spec.value(self.holding.price)
        return {"strategy": self.name, "contracts": self.position, "worth": worth}

    def save(self) -> dict[str, Any]:
        """What the next session of this desk has to know, as JSON values."""
        return {
            "policy": self.policy.save(),
            "refusals": self.orders.refusals.save(),
            "demand": self.holding.demand,
        }

    def load(self, memory: dict[str, Any]) -> None:
        """Continue from what ``save`` gave."""
        self.policy.load(memory["policy"])
        self.orders.refusals.load(memory["refusals"])
        self.holding.demand = str(memory["demand"])

    # -- what the venue says ---------------------------------------------------------------------------------

    def on_fill(self, key: str, ts: int, quantity: float, price: float, fee: float, maker: bool) -> None:
        """``quantity`` contracts of an order were filled at ``price``; a ``fee`` paid is negative."""
        side = self.holding.on_filled(key, ts, quantity, price)
        if side:
            mid = self._bar.price
            self._records.fill(self._bar, ts, key, side * quantity, price, fee, maker=maker, mid=mid)

    def surrender(self, ts: int, price: float, charge: float) -> None:
        """The venue takes the position over at ``price``, for ``charge`` (negative): no order stands any
        more."""
        self.orders.send([Cancel(key) for key, _ in self.orders])
        if self.position or charge:
            key, closing = records.LIQUIDATION, -self.position
            self._records.fill(self._bar, ts, key, closing, price, charge, maker=False, mid=_NAN)
        self.holding.position, self.holding.entry = 0.0, _NAN


def _contracts(intents: tuple[Intent, ...]) -> float:
    return sum(i.quantity for i in intents if not isinstance(i, Cancel))
