"""The Nautilus shell of every strategy: gathers a bar's messages, asks the policy, sends what passes."""

import json
import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from nautilus_trader.model import (
    ClientOrderId,
    LiquiditySide,
    OrderSide,
    Price,
    Quantity,
    TriggerType,
)
from nautilus_trader.trading import Strategy

from features.messages import REGIMES, BarState, Forecast, RegimeState, RiskState, VolatilityState
from strategies.config import StrategyConfig
from strategies.door import admit
from strategies.handover import CLOSED, only_reduce, stand_down, why_not
from strategies.policy import (
    Cancel,
    Decision,
    Intent,
    Limits,
    MarketView,
    Place,
    PolicyContext,
    WorkingOrder,
)
from strategies.sizing import ContractSpec, cap

DECISION_COLUMNS = (
    "ts",  # bar close, ns
    "strategy",
    "instrument",
    "regime",  # "none" without a valid model
    "p_trend",
    "p_chop",
    "p_stress",
    "volatility",
    "risk_on",
    "p_up",
    "p_down",
    "features_hash",  # blake2b, 8 bytes, of the bar's float64 features
    "permit",
    "size_factor",
    "action",  # "none" or "hold" where nothing was done
    "reason",
    "size",  # contracts of the orders sent or amended
    "bound",  # the rule or cap that set the size, or what refused it
    "position",  # own, signed contracts, before the decision
    "price",
    "client_order_ids",  # sent or amended, comma-separated; those sent between bars stand in the next record
    "bundle",
)
"""Columns of a decision record, one a bar and strategy."""

FILL_COLUMNS = [
    "ts",
    "client_order_id",
    "strategy",
    "side",
    "qty",
    "price",
    "fee",
    "maker",
    "mid",
    "regime",
    "risk_on",
]
"""Columns of a fill record. ``mid`` is the price at the last bar's close, which every mode knows."""

_TRIGGERS = {"last": TriggerType.LAST_PRICE, "mark": TriggerType.MARK_PRICE, "bid_ask": TriggerType.BID_ASK}
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


class _Order:
    """The shell's own book-keeping of one order, so that a bar needs no look into the cache."""

    __slots__ = ("cid", "filled", "pending", "price", "quantity", "reduce_only", "removing", "role", "side")

    def __init__(
        self, cid: ClientOrderId, role: str, side: int, quantity: float, price: float, reduce_only: bool
    ):
        self.cid = cid
        self.role = role
        self.side = side
        self.quantity = quantity  # total, filled part included
        self.filled = 0.0
        self.price = price
        self.reduce_only = reduce_only
        self.pending = True
        self.removing = False


class GatedStrategy(Strategy):
    """Trades one instrument by a pure policy, inside its regimes, its permit and its caps.

    At every ``BarState`` it builds a ``MarketView`` of the bar and its own orders, lets the
    policy decide, sends what passes the door and leaves one decision record. When the strategy does not own
    the regime (or no model is valid, or trading is halted) its orders that add risk are cancelled, and its
    position is closed or worked out reduce-only as ``on_leave`` says; halted always closes it.
    """

    def __init__(self, config: StrategyConfig) -> None:
        super().__init__(config)
        self._c = config
        self._iid = config.instrument.id
        self._currency = getattr(config.instrument, "settlement_currency", config.instrument.quote_currency)
        self._spec = ContractSpec.of(config.instrument)
        context = PolicyContext(
            self._spec, config.risk, config.bars_per_year, config.horizon, config.maker_fee, config.features
        )
        self.policy = config.settings.policy(context)
        self._labels = config.settings.labels
        self._flattens = config.settings.on_leave == "flatten"
        self._trigger = _TRIGGERS[config.settings.stop_trigger]
        self._bar = _SILENCE
        self._position = 0.0
        self._entry = _NAN
        self._orders: dict[str, _Order] = {}
        self._working: tuple[WorkingOrder, ...] | None = ()  # None: to be built again
        self._due = 0  # when the last commands reach the venue
        self._between: list[str] = []  # ids sent since the last record
        watch = config.guard.watch
        self.on_order_event = watch(self, self._on_order_event)  # type: ignore[method-assign,assignment]
        self.on_position_event = watch(self, self._on_position_event)  # type: ignore[method-assign,assignment]

    # -- life cycle ------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        self._recover()
        self.subscribe_topic("bar", self._c.guard.watch(self, self._on_bar), priority=self._c.priority)

    def on_stop(self) -> None:
        """Orders that could add risk go; the rest as ``flatten_on_stop`` says."""
        if self._c.flatten_on_stop:
            self.cancel_all_orders(self._iid)
            self.close_all_positions(self._iid)
        else:
            self._send([Cancel(key) for key, order in self._orders.items() if order.role != "stop"])

    def on_save(self) -> dict[str, bytes]:
        return {"policy": json.dumps(self.policy.save()).encode()}

    def on_load(self, state: dict[str, bytes]) -> None:
        if "policy" in state:
            self.policy.load(json.loads(state["policy"]))

    def _recover(self) -> None:
        """Position and orders that a restarted session finds in the cache."""
        for position in self.cache.positions_open(None, self._iid, self.strategy_id):
            self._position = position.signed_qty
            self._entry = position.avg_px_open
        for order in self.cache.orders_open(None, self._iid, self.strategy_id):
            price = getattr(order, "trigger_price", None) or getattr(order, "price", None)
            known = _Order(
                order.client_order_id,
                (order.tags or ["quote"])[0],
                1 if order.side is OrderSide.BUY else -1,
                order.quantity.as_double(),
                _NAN if price is None else price.as_double(),
                order.is_reduce_only,
            )
            known.filled = order.filled_qty.as_double()
            known.pending = False
            self._orders[str(order.client_order_id)] = known
        self._working = None

    # -- the bar ---------------------------------------------------------------------------------------------

    def _on_bar(self, bar: BarState) -> None:
        self._bar = bar
        regime, volatility, forecast, risk = bar.regime, bar.volatility, bar.forecast, bar.risk
        owned = regime.label in self._labels
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
            self._position,
            self._entry,
            self._view_orders(),
            self._limits(risk, owned, volatility.risk_on, bar.price),
        )
        wish = self.policy.decide(view) if bar.price > 0 else Decision("none", "no price")
        if bar.ts <= self._c.trade_from:
            return
        self._send(self._leftovers())
        reason = why_not(regime.label, owned, risk.permit)
        if reason:
            leave = risk.permit in CLOSED or (self._flattens and not owned)
            decision = stand_down(view, reason) if leave else only_reduce(view, wish, reason)
        else:
            decision = wish
        self._act(view, decision)

    def _limits(self, risk: RiskState, owned: bool, risk_on: bool, price: float) -> Limits:
        permit, equity = risk.permit, risk.equity
        if permit != "active" or not owned or not equity > 0 or not price > 0:
            return Limits(permit, False, 0.0, "", 0.0)
        r = self._c.risk
        leverage = r.leverage(risk_on)
        most = cap(self._spec, equity, price, leverage, r.exposure_cap, r.max_quantity)
        # What the others hold (net, as the venue holds it) uses up the same caps.
        others = abs(float(self.portfolio.net_position(self._iid)) - self._position)
        return Limits(permit, True, max(0.0, most.quantity * risk.size_factor - others), most.bound, math.inf)

    def _at_door(self, view: MarketView) -> Limits:
        """The bar's limits with what free margin carries: asked only for orders, as it is slow."""
        if not view.limits.may_add:
            return view.limits
        account = self.portfolio.account(self._iid.venue)
        free = None if account is None else account.balance_free(self._currency)
        if free is None:
            return view.limits._replace(margin=0.0)
        notional = max(0.0, free.as_double()) * self._c.risk.leverage(view.risk_on) * view.size_factor
        return view.limits._replace(margin=notional / self._spec.value(view.price))

    def _leftovers(self) -> list[Cancel]:
        """What an exhausted book left of market orders: Nautilus would keep it for ever."""
        return [Cancel(key) for key, o in self._orders.items() if o.filled and o.role in ("entry", "exit")]

    def _view_orders(self) -> tuple[WorkingOrder, ...]:
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
            order = self.cache.order(self._orders[key].cid)
            if order is not None and order.is_closed:
                del self._orders[key]
                self._working = None

    # -- the door, and what lies behind it -------------------------------------------------------------------

    def _act(self, view: MarketView, decision: Decision) -> None:
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
        self._c.decisions.append(
            (
                view.ts,
                self._c.name,
                str(self._iid),
                REGIMES[view.regime] if view.regime >= 0 else "none",
                *view.posterior,
                view.volatility,
                view.risk_on,
                view.p_up,
                view.p_down,
                blake2b(view.features.tobytes(), digest_size=8).hexdigest(),
                view.permit,
                view.size_factor,
                action,
                reason,
                size,
                bound,
                view.position,
                view.price,
                ids,
                self._c.bundle_at(view.ts),
            )
        )

    def _send(self, intents: Sequence[Intent]) -> None:
        if intents and self._c.latency:
            self._arrive()
        for intent in intents:
            if isinstance(intent, Place):
                self._place(intent)
                continue
            order = self._orders.get(intent.id)
            if order is None or order.removing:
                continue
            self._working = None
            if isinstance(intent, Cancel):
                order.removing = True
                self.cancel_order(order.cid)
                continue
            moved = abs(intent.price - order.price) > 0.5 * self._spec.price_increment
            if (
                not moved
                and abs(order.filled + intent.quantity - order.quantity) < 0.5 * self._spec.size_increment
            ):
                continue  # nothing is left of the change: Nautilus refuses to modify nothing
            order.pending = True
            self._between.append(intent.id)
            total = Quantity(order.filled + intent.quantity, self._spec.size_precision)
            level = Price(intent.price, self._spec.price_precision)
            if order.role == "stop":
                self.modify_order(order.cid, quantity=total, trigger_price=level)
            else:
                self.modify_order(order.cid, quantity=total, price=level)

    def _arrive(self) -> None:
        """Have a timer stand where commands sent now reach the venue.

        The backtest engine looks for arrived commands only where an event or a timer is: without this they
        would meet the book as the next event leaves it, however much later that comes.
        """
        due = self.clock.timestamp_ns() + self._c.latency
        if due != self._due:
            self._due = due
            self.clock.set_time_alert_ns(f"arrival-{due}", due, callback=_nothing)

    def _place(self, intent: Place) -> None:
        factory = self.order_factory
        side = OrderSide.BUY if intent.side > 0 else OrderSide.SELL
        quantity = Quantity(intent.quantity, self._spec.size_precision)
        common: dict[str, Any] = {"reduce_only": intent.reduce_only, "tags": [intent.role]}
        if intent.price is None:
            order = factory.market(self._iid, side, quantity, **common)
        else:
            level = Price(intent.price, self._spec.price_precision)
            if intent.role == "stop":
                order = factory.stop_market(self._iid, side, quantity, level, self._trigger, **common)
            else:
                order = factory.limit(self._iid, side, quantity, level, post_only=True, **common)
        cid = order.client_order_id
        key = str(cid)
        price = _NAN if intent.price is None else intent.price
        # Known before it is sent: a denial comes back inside submit_order.
        self._orders[key] = _Order(cid, intent.role, intent.side, intent.quantity, price, intent.reduce_only)
        self._working = None
        self._between.append(key)
        self.submit_order(order)

    # -- what the venue says ---------------------------------------------------------------------------------

    def _on_order_event(self, event: Any) -> None:
        key = str(event.client_order_id)
        order = self._orders.get(key)
        if order is None:
            return
        self._working = None
        kind = type(event).__name__
        if kind == "OrderFilled":
            self._on_fill(key, order, event)
        elif kind in ("OrderCanceled", "OrderRejected", "OrderDenied", "OrderExpired"):
            del self._orders[key]
            if order.role == "entry" and order.filled:  # the book was thinner than the order
                self._protect()
        elif kind == "OrderUpdated":
            order.pending = False
            order.quantity = event.quantity.as_double()
            level = event.trigger_price if order.role == "stop" else event.price
            if level is not None:
                order.price = level.as_double()
        elif kind in ("OrderAccepted", "OrderModifyRejected"):
            order.pending = False
        elif kind == "OrderCancelRejected":
            order.removing = False

    def _on_fill(self, key: str, order: _Order, fill: Any) -> None:
        quantity = fill.last_qty.as_double()
        order.filled += quantity
        if order.quantity - order.filled < 0.5 * self._spec.size_increment:
            del self._orders[key]
        fee = 0.0 if fill.commission is None else fill.commission.as_double()
        bar = self._bar
        label = bar.regime.label
        self._c.fills.append(
            (
                fill.ts_event,
                key,
                self._c.name,
                order.side,
                quantity,
                fill.last_px.as_double(),
                fee,
                fill.liquidity_side is LiquiditySide.MAKER,
                bar.price,
                REGIMES[label] if label >= 0 else "none",
                bar.volatility.risk_on,
            )
        )

    def _on_position_event(self, event: Any) -> None:
        kind = type(event).__name__
        if kind in ("PositionOpened", "PositionChanged"):
            self._position, self._entry = event.signed_qty, event.avg_px_open
        elif kind == "PositionClosed":
            self._position, self._entry = 0.0, _NAN
        else:
            return
        self._protect()

    def _protect(self) -> None:
        """Send what the policy wants to stand without waiting for the next bar."""
        orders = self._view_orders()
        intents = self.policy.protect(self._position, self._entry, orders)
        if intents:
            limits = Limits(self._bar.risk.permit, False, 0.0, "", 0.0)  # protection never adds
            self._send(admit(intents, self._position, orders, limits, self._bar.price, self._spec).intents)


def _nothing(_event: Any) -> None:
    pass
