"""The trader: carries the orders of all desks to Nautilus, and the venue's answers back.

The desks trade one instrument through one Nautilus strategy, with one net position, as a venue in one-way
mode has one.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from typing import Any

from nautilus_trader.model import (
    AggregationSource,
    ClientOrderId,
    Currency,
    LiquiditySide,
    OrderSide,
    OrderType,
    Price,
    Quantity,
    TimeInForce,
    TriggerType,
)
from nautilus_trader.trading import Strategy

from actors.orders import OrderLog
from actors.outbox import Outbox
from core.journal import Journal
from core.messages import BarState
from core.records import LIQUIDATION
from strategies.account import Account, Liquidation
from strategies.desk import Desk, DeskConfig
from strategies.desk.orders import OwnOrder
from strategies.policy import OrderKind, Place

_TRIGGERS = {"last": TriggerType.LAST_PRICE, "mark": TriggerType.MARK_PRICE, "bid_ask": TriggerType.BID_ASK}
_TIMES = {"gtc": TimeInForce.GTC, "ioc": TimeInForce.IOC}
_REDUCES = "reduces"


@dataclasses.dataclass(frozen=True)
class TraderConfig:
    """What the trader needs.

    Parameters
    ----------
    instrument
        The traded Nautilus instrument.
    desks : tuple of DeskConfig
        In the order in which they hear of a bar.
    account : Account
        Told of every fill; it says what each cost.
    currency : Currency
        Of Nautilus's account, which need not be the settlement currency (``engine/sessions/settlement.py``).
    journal : Journal
        Receives every order before it is sent, and what becomes of it.
    latency, holes
        See ``Outbox``.
    flatten_on_stop : bool
        Whether a stop cancels every order and closes the position at market, instead of leaving the position
        with its protective stop.
    """

    instrument: Any
    desks: tuple[DeskConfig, ...]
    account: Account
    currency: Currency
    journal: Journal
    latency: int = 0
    holes: Sequence[tuple[int, int]] = ()
    flatten_on_stop: bool = False


_Timer = Callable[[Any], None]


class Trader:
    """Hands every bar to its desks, their orders to the venue, and the venue's answers to the desk they
    concern.

    Orders carry tags: their role, the name of their desk, and ``reduces`` on those that only do.

    Parameters
    ----------
    host : Strategy
        The Nautilus strategy it works in.
    config : TraderConfig
    watch : callable, optional
        Guards the callbacks of its timers.

    Attributes
    ----------
    desks : dict of str to Desk
    orders : OrderLog
    outbox : Outbox
        What is on its way to the venue.
    """

    def __init__(self, host: Strategy, config: TraderConfig, watch: Callable[[_Timer], _Timer]) -> None:
        self._host = host
        self._watch = watch
        self._c = config
        self._iid = config.instrument.id
        self.desks = {desk.name: Desk(desk, self) for desk in config.desks}
        self.orders = OrderLog(config.journal)
        self._desk_of: dict[str, Desk] = {}  # by order id
        self._filled: Desk | None = None  # whose order was filled last
        self._settling: dict[str, int] = {}  # by desk, when it was last told to wait for the end of a moment
        self._priced = False
        self._surrendered = False
        self.outbox = Outbox(host, config.latency, config.holes, watch)

    # -- life cycle ------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The end of the run: see ``TraderConfig.flatten_on_stop``."""
        for desk in self.desks.values():
            desk.stop(flatten=self._c.flatten_on_stop)

    def save(self) -> dict[str, bytes]:
        """What the desks remember, by name."""
        return {name: json.dumps(desk.save()).encode() for name, desk in self.desks.items()}

    def load(self, state: Mapping[str, bytes]) -> None:
        """Continue from what ``save`` gave.

        Raises
        ------
        ValueError
            If a memory is not one that ``save`` gave.
        """
        for name, memory in state.items():
            if name not in self.desks:
                continue
            try:
                self.desks[name].load(json.loads(memory))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"the memory of strategy {name!r} is none of this version: {error!r}"
                ) from error

    def recover(self) -> None:
        """Give the desks the positions and the orders that a restarted session finds in the cache.

        Each desk's position comes from the fills of its own orders: the venue knows the sum of all alone.
        """
        fills: list[tuple[int, int, Any, int, Any]] = []
        for order in self._host.cache.orders(None, self._iid, self._host.strategy_id):
            side = 1 if order.side is OrderSide.BUY else -1
            events = [event for event in order.events() if type(event).__name__ == "OrderFilled"]
            fills += [(event.ts_event, len(fills) + i, order, side, event) for i, event in enumerate(events)]
        for _, _, order, side, event in sorted(fills, key=lambda fill: fill[:2]):
            self._owner(order).holding.hold(side * event.last_qty.as_double(), event.last_px.as_double())
        for position in self._host.cache.positions_open(None, self._iid, self._host.strategy_id):
            self._c.account.adopt(Decimal(str(position.signed_qty)), Decimal(str(position.avg_px_open)))
        for order in self._host.cache.orders_open(None, self._iid, self._host.strategy_id):
            key = str(order.client_order_id)
            desk = self._desk_of[key] = self._owner(order)
            found = OwnOrder.of(_wish_of(order), capped=order.is_reduce_only)
            found.filled, found.pending = order.filled_qty.as_double(), False
            desk.orders.add(key, found)

    def _owner(self, order: Any) -> Desk:
        return self.desks[order.tags[1]]

    def dust(self) -> list[dict[str, Any]]:
        """The positions that are too small for an order by itself: strategy, contracts, worth."""
        return [rest for desk in self.desks.values() if (rest := desk.dust()) is not None]

    # -- the bar ---------------------------------------------------------------------------------------------

    def on_bar(self, bar: BarState) -> None:
        """Let every desk decide, in the order of the config."""
        digest = blake2b(bar.features.tobytes(), digest_size=8).hexdigest()
        for desk in self.desks.values():
            adding = any(other.orders.adding() for other in self.desks.values() if other is not desk)
            desk.on_bar(bar, digest, self._others(desk), others_add=adding)

    def _others(self, desk: Desk) -> float:
        """What the other desks hold, net."""
        return sum(other.position for other in self.desks.values() if other is not desk)

    # -- what desks ask for ----------------------------------------------------------------------------------

    def place(self, desk: Desk, wanted: Place) -> None:
        """Send an order of ``desk``."""
        factory, instrument = self._host.order_factory, self._c.instrument
        side = OrderSide.BUY if wanted.side > 0 else OrderSide.SELL
        quantity = Quantity(wanted.quantity, instrument.size_precision)
        reduces = wanted.reduce_only and self._reduces(desk, wanted)
        tags = [wanted.role, desk.name, *([_REDUCES] if wanted.reduce_only else ())]
        common: dict[str, Any] = {"reduce_only": reduces, "tags": tags}
        if wanted.price is None:
            order = factory.market(self._iid, side, quantity, **common)
        elif wanted.kind == "limit":
            level = Price(wanted.price, instrument.price_precision)
            time_in_force = _TIMES[wanted.time_in_force]
            common["post_only"] = wanted.post_only
            order = factory.limit(self._iid, side, quantity, level, time_in_force, **common)
        else:
            level = Price(wanted.price, instrument.price_precision)
            trigger = _TRIGGERS[desk.config.settings.stop_trigger]
            if trigger is TriggerType.LAST_PRICE and not self.is_priced():  # there may never be a trade
                trigger = TriggerType.LAST_OR_BID_ASK
            order = factory.stop_market(self._iid, side, quantity, level, trigger, **common)
        key = str(order.client_order_id)
        self._desk_of[key] = desk
        desk.orders.sent(key, wanted, capped=reduces)
        self.orders.intend(order)
        self.outbox.submit(order)

    def _reduces(self, desk: Desk, wanted: Place) -> bool:
        """Whether the venue is told that an order only reduces.

        It knows the net position alone. An order at market only reduces that where desks do not hold against
        each other. A resting one is resized by Nautilus to the whole net position at every fill: beside
        another desk it would close what is not its own, and one of several quotes all of what is.
        """
        if len(self.desks) == 1:
            return True
        if wanted.price is None or not wanted.resting:
            return self._others(desk) * desk.position >= 0
        small = desk.config.spec.below_minimum(wanted.quantity, wanted.price)
        return (wanted.kind == "stop" or small != "") and self.is_alone(desk)

    def is_priced(self) -> bool:
        """Whether Nautilus knows a price to judge an order at market by: the book alone is none to it."""
        if not self._priced:
            cache = self._host.cache
            seen = (
                cache.quote(self._iid)
                or cache.trade(self._iid)
                or cache.bar_types(AggregationSource.EXTERNAL, self._iid)
            )
            self._priced = bool(seen)
        return self._priced

    def amend(self, order_id: str, kind: OrderKind, quantity: float, price: float) -> None:
        """Change an order to this total quantity and price."""
        instrument = self._c.instrument
        name = ClientOrderId(order_id)
        total = Quantity(quantity, instrument.size_precision)
        level = Price(price, instrument.price_precision)
        field = "trigger_price" if kind == "stop" else "price"

        def change() -> None:
            order = self._host.cache.order(name)
            if order is not None and (order.quantity, getattr(order, field, None)) == (total, level):
                # Nautilus resized it at a fill and has not told yet: it refuses to modify nothing.
                self._desk_of[order_id].holding.on_updated(order_id, quantity, price)
            elif kind == "stop":
                self._host.modify_order(name, quantity=total, trigger_price=level)
            else:
                self._host.modify_order(name, quantity=total, price=level)

        self.outbox.send(change)

    def cancel(self, order_id: str) -> None:
        """Have an order cancelled: at once where the venue has it, for that needs no price."""
        self.outbox.cancel(order_id)

    def settle(self, desk: Desk) -> None:
        """Have the desk protect its position once all that happens at this moment has been heard."""
        due = self._host.clock.timestamp_ns() + 1
        if self._settling.get(desk.name) != due:
            self._settling[desk.name] = due

            def protect(_event: Any) -> None:
                desk.holding.protect()

            after = self._watch(protect)
            self._host.clock.set_time_alert_ns(f"settle-{desk.name}-{due}", due, callback=after)

    def is_alone(self, desk: Desk) -> bool:
        """Whether the venue's net position is the desk's, and no order of another can change that."""
        return all(
            other is desk or not (other.position or other.orders.adding()) for other in self.desks.values()
        )

    def is_closed(self, order_id: str) -> bool:
        """Whether nothing of the order can fill any more."""
        order = self._host.cache.order(ClientOrderId(order_id))
        return order is not None and order.is_closed

    def free_margin(self) -> float:
        """Of Nautilus's account, whose unit is worth one of the settlement currency; 0 while unknown."""
        account = self._host.portfolio.account(self._iid.venue)
        free = None if account is None else account.balance_free(self._c.currency)
        return 0.0 if free is None else max(0.0, free.as_double() + float(self._c.account.ahead))

    def surrender(self, ts: int, ended: Liquidation) -> None:
        """The venue takes over what the desks hold at ``ts`` (ns): their books end at ``ended.price``.

        What it does with the position is its own affair: it is sent to the simulated venue as an order of
        nobody's, whose fills concern no desk.
        """
        self._surrendered = True
        desks = self.desks.values()
        gross = sum(abs(desk.position) for desk in desks)
        for desk in desks:
            share = abs(desk.position) / gross if gross else 1.0 / len(desks)
            desk.surrender(ts, ended.price, share * ended.charge)
        positions = self._host.cache.positions_open(None, self._iid, self._host.strategy_id)
        net = sum(position.signed_qty for position in positions)
        if net:
            side = OrderSide.SELL if net > 0 else OrderSide.BUY
            spec, make = next(iter(desks)).config.spec, self._host.order_factory.market
            for piece in spec.closing(abs(net), ended.price, alone=True, resting=False):
                quantity = Quantity(piece, self._c.instrument.size_precision)
                tags = [LIQUIDATION, LIQUIDATION]
                order = make(self._iid, side, quantity, reduce_only=True, tags=tags)
                self.orders.intend(order)
                self.outbox.send(partial(self._host.submit_order, order))

    # -- what the venue says ---------------------------------------------------------------------------------

    def on_order_event(self, event: Any) -> None:
        """Tell the desk whose order it is."""
        key = str(event.client_order_id)
        desk = self._desk_of.get(key)
        if desk is None:
            return
        kind = type(event).__name__
        refusal = str(event.reason) if kind in _REFUSALS else ""
        self.orders.hear(key, event, kind, refusal)
        if kind == "OrderFilled":
            if self._surrendered:  # an order that its cancel did not reach in time
                return
            self._filled = desk
            maker = event.liquidity_side is LiquiditySide.MAKER
            quantity, price = event.last_qty.as_decimal(), event.last_px.as_decimal()
            signed = quantity if event.is_buy else -quantity
            fee = self._c.account.fill(event.ts_event, signed, price, maker=maker)
            desk.on_fill(key, event.ts_event, float(quantity), float(price), fee, maker)
        elif kind in ("OrderRejected", "OrderDenied"):
            desk.holding.on_closed(key, refusal)
        elif kind in ("OrderCanceled", "OrderExpired"):
            desk.holding.on_closed(key)
        elif kind == "OrderUpdated":
            level = event.trigger_price or event.price
            desk.holding.on_updated(
                key, event.quantity.as_double(), None if level is None else level.as_double()
            )
        elif kind == "OrderAccepted":
            desk.holding.on_accepted(key)
        elif kind == "OrderModifyRejected":
            desk.holding.on_change_refused(key, refusal)
        elif kind == "OrderCancelRejected":
            desk.orders.cancel_refused(key)

    def on_position_event(self, event: Any) -> None:
        """It follows the fill that caused it: only now may an order reduce what was filled."""
        if self._filled is not None and type(event).__name__ in _MOVES:
            self._filled.holding.on_position()
            for desk in self.desks.values():
                if desk is not self._filled and desk.position:
                    desk.holding.protect()  # what may stand at the venue depends on whether it is alone there


_REFUSALS = ("OrderDenied", "OrderRejected", "OrderModifyRejected", "OrderCancelRejected")
_MOVES = ("PositionOpened", "PositionChanged", "PositionClosed")


def _wish_of(order: Any) -> Place:
    """What a desk wanted when it sent a Nautilus order."""
    side = 1 if order.side is OrderSide.BUY else -1
    level = getattr(order, "trigger_price", None) or getattr(order, "price", None)
    price = None if level is None else level.as_double()
    kind: OrderKind = "stop" if order.order_type is OrderType.STOP_MARKET else "limit"
    return Place(
        str(order.tags[0]),
        side,
        order.quantity.as_double(),
        price,
        _REDUCES in order.tags,
        "market" if price is None else kind,
        "ioc" if order.time_in_force is TimeInForce.IOC else "gtc",
    )
