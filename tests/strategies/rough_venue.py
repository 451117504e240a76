"""A venue that misbehaves at random: late, partial, refusing, cancelling; and what it checks meanwhile.

It speaks to a ``Trader`` as Nautilus does, by the same events, and enforces one net position: reduce-only
orders are capped at it when they fill, and rejected where there is nothing to reduce.
"""

import itertools
import math
import random
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
from nautilus_trader.model import LiquiditySide, OrderSide

from actors.trader import Trader, TraderConfig
from core.journal import MemoryJournal
from core.messages import BarState, Forecast, RegimeState, RiskState, VolatilityState
from strategies import DeskConfig
from strategies.contracts import ContractSpec
from strategies.governor import RiskSettings
from strategies.handover import leave
from strategies.momentum import MomentumSettings
from strategies.policy import Amend, Cancel, Decision, Place
from tests.strategies.tiny_market import linear_perpetual

SPEC = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3, min_quantity=0.005, max_quantity=4.0, min_notional=5.0)
RISK = RiskSettings(exposure_cap=0.1)  # of 10,000: about ten contracts at 100
EQUITY = 10_000.0


class Whims:
    """A policy that enters, quotes, moves, cancels and leaves at random."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.reached = 0

    def decide(self, view: Any) -> Decision:
        rng, side = self._rng, self._rng.choice((1, -1))
        quotes = [o for o in view.orders if o.role == "quote"]
        what = rng.random()
        if what < 0.2:
            return Decision("enter", "", (Place("entry", side, rng.uniform(0.001, 12.0)),))
        if what < 0.4:
            price = view.price - side * rng.uniform(0.1, 1.0)
            return Decision("ladder", "", (Place.passive("quote", side, rng.uniform(0.001, 3.0), price),))
        if what < 0.5 and view.position:
            away = -1 if view.position > 0 else 1
            price = view.price * (1 - 0.005 * away)
            return Decision(
                "ladder", "", (Place.passive("quote", away, abs(view.position) / 2, price, True),)
            )
        if what < 0.6 and quotes:
            o = rng.choice(quotes)
            return Decision("ladder", "", (Amend(o.id, rng.uniform(0.001, 3.0), o.price),))
        if what < 0.7 and quotes:
            return Decision("cancel", "", (Cancel(rng.choice(quotes).id),))
        if what < 0.8:
            return leave(view, "exit", "whim")
        return Decision("hold", "")

    def stop_price(self, position: float, entry_price: float) -> float:
        return entry_price * (0.98 if position > 0 else 1.02)

    def stopped(self, ts: int) -> None:
        self.reached += 1

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, memory: dict[str, Any]) -> None:
        pass


def event(kind: str, order: Any, **facts: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(client_order_id=order.client_order_id, **facts)


class Number(float):
    """A quantity as Nautilus has them, to count with."""

    def as_double(self) -> float:
        return float(self)


class RoughVenue:
    """Host, cache, clock, factory and market of a trader with ``desks`` whimsical desks."""

    def __init__(self, seed: int, desks: int, refuses: float) -> None:
        self.rng, self._refuses = random.Random(seed), refuses
        self.price, self.now, self.net = 100.0, 0, 0.0
        self._ids = itertools.count()
        self.book: dict[str, Any] = {}
        self.queue: list[tuple[str, Any, Any]] = []
        self.alarms: list[Any] = []
        self.placed: list[Any] = []
        self.strategy_id = "T"
        self.order_factory = SimpleNamespace(
            market=self._factory("market"), limit=self._factory("limit"), stop_market=self._factory("stop")
        )
        self.cache = SimpleNamespace(
            order=lambda key: SimpleNamespace(is_closed=self.book[str(key)].closed, quantity=None),
            quote=lambda _: 1,
        )
        free = SimpleNamespace(as_double=lambda: EQUITY)
        account = SimpleNamespace(balance_free=lambda _: free)
        self.portfolio = SimpleNamespace(account=lambda _: account)
        self.clock = SimpleNamespace(
            timestamp_ns=lambda: self.now,
            set_time_alert_ns=lambda *_a, callback: self.alarms.append(callback),
        )
        self.journal = MemoryJournal()
        common = {
            "instrument": "X",
            "spec": SPEC,
            "risk": RISK,
            "bars_per_year": 365.0,
            "horizon": 1,
            "maker_fee": 0.0,
            "features": (),
            "trade_from": 0,
            "journal": self.journal,
            "bundle_at": lambda _: "",
        }
        names = [f"d{i}" for i in range(desks)]
        regimes = (("trend",), ("chop",))
        config = TraderConfig(
            instrument=linear_perpetual(),
            desks=tuple(
                DeskConfig(name=n, settings=MomentumSettings(regimes=regimes[i]), **common)
                for i, n in enumerate(names)
            ),
            account=SimpleNamespace(fill=lambda *_a, **_k: 0.0, ahead=0.0),  # type: ignore[arg-type]
            currency=None,  # type: ignore[arg-type]
            journal=self.journal,
        )
        self.trader = Trader(self, config, lambda callback: callback)  # type: ignore[arg-type]
        for desk in self.trader.desks.values():
            desk.policy = Whims(self.rng)

    # -- what the trader asks for ----------------------------------------------------------------------------

    def _factory(self, kind: str) -> Any:
        def make(_iid: Any, side: Any, quantity: Any, level: Any = None, *_rest: Any, **k: Any) -> Any:
            return SimpleNamespace(
                instrument_id=_iid,
                side=side,
                order_type=SimpleNamespace(name=kind.upper()),
                status=SimpleNamespace(name="INITIALIZED"),
                tags=k["tags"],
                client_order_id=f"O-{next(self._ids)}",
                kind=kind,
                sign=1 if side is OrderSide.BUY else -1,
                quantity=Number(quantity.as_double()),
                level=None if level is None else level.as_double(),
                reduce_only=k["reduce_only"],
                role=k["tags"][0],
                desk=self.trader.desks[k["tags"][1]],
                filled=0.0,
                closed=False,
                resting=False,
                ts_init=self.now,
            )

        return make

    def submit_order(self, order: Any) -> None:
        self.book[order.client_order_id] = order
        self.placed.append(order)
        self._check_legal(order)
        if self.rng.random() < self._refuses:
            self._close(order, "OrderDenied", reason="NO_MOOD: today")
        else:
            self.queue.append(("submit", order, None))

    def modify_order(self, key: Any, **change: Any) -> None:
        self.queue.append(("modify", self.book[str(key)], change))

    def cancel_order(self, key: Any) -> None:
        self.queue.append(("cancel", self.book[str(key)], None))

    # -- what it answers -------------------------------------------------------------------------------------

    def _tell(self, kind: str, order: Any, **facts: Any) -> None:
        self.trader.on_order_event(event(kind, order, **facts))

    def _close(self, order: Any, kind: str, **facts: Any) -> None:
        order.closed = True
        self._tell(kind, order, **facts)

    def serve(self, count: int) -> None:
        """Carry out so many of the oldest commands."""
        for _ in range(min(count, len(self.queue))):
            what, order, change = self.queue.pop(0)
            if order.closed:
                continue
            if what == "submit":
                self._receive(order)
            elif what == "cancel":
                self._close(order, "OrderCanceled")
            elif self.rng.random() < self._refuses:
                self._tell("OrderModifyRejected", order, reason="no mood")
            elif order.role == "stop" and self._is_met(order, change["trigger_price"].as_double()):
                self._tell("OrderModifyRejected", order, reason="new stop px was in the market")
            else:
                level = change.get("price") or change.get("trigger_price")
                order.quantity, order.level = change["quantity"].as_double(), level.as_double()
                if order.quantity <= order.filled:
                    self._close(order, "OrderCanceled")
                else:
                    self._update(order)

    def _update(self, order: Any) -> None:
        number = SimpleNamespace(as_double=lambda: order.quantity)
        level = SimpleNamespace(as_double=lambda: order.level)
        self._tell("OrderUpdated", order, quantity=number, price=level, trigger_price=None)

    def _receive(self, order: Any) -> None:
        if order.reduce_only and order.sign * self.net >= 0:
            self._close(order, "OrderRejected", reason="Reduce-only order would have increased position")
        elif self.rng.random() < self._refuses:
            self._close(order, "OrderRejected", reason="no mood")
        elif order.kind == "market":
            self._fill(order, order.quantity * (1.0 if self.rng.random() < 0.7 else self.rng.random()))
        elif order.kind == "stop" and self._is_met(order, order.level):
            self._close(order, "OrderRejected", reason="stop px was in the market")
        else:
            order.resting = True
            self._tell("OrderAccepted", order)

    def _is_met(self, order: Any, level: float) -> bool:
        return order.sign * (self.price - level) >= 0

    def move(self, price: float) -> None:
        """The market moves: stops trigger, quotes are filled, some orders go without being asked."""
        self.price = price
        for order in [o for o in self.book.values() if o.resting and not o.closed]:
            if order.closed:
                continue
            if order.kind == "stop" and self._is_met(order, order.level):
                self._fill(order, order.quantity * (1.0 if self.rng.random() < 0.8 else self.rng.random()))
            elif order.kind == "limit" and order.sign * (order.level - price) >= 0:
                self._fill(order, order.quantity * self.rng.choice((1.0, 0.5, 0.1)))
            elif self.rng.random() < 0.02:
                self._close(order, "OrderCanceled")

    def _fill(self, order: Any, quantity: float) -> None:
        """In up to three parts of one moment."""
        left = min(SPEC.floor_quantity(min(quantity, 4.0)), round(order.quantity - order.filled, 3))
        for share in (0.3, 0.5, 1.0) if self.rng.random() < 0.3 else (1.0,):
            part = min(SPEC.floor_quantity(left * share), round(order.quantity - order.filled, 3))
            if order.reduce_only:
                room = max(0.0, round(-order.sign * self.net, 3))
                if room == 0 and not order.closed:
                    self._close(order, "OrderCanceled")
                part = min(part, room)
                if 0 < room <= part and order.quantity != round(order.filled + part, 3):
                    order.quantity = round(order.filled + part, 3)
                    self._update(order)
            if part <= 0 or order.closed:
                return
            left = round(left - part, 3)
            self._fill_part(order, part)

    def _fill_part(self, order: Any, part: float) -> None:
        desk = order.desk
        before = desk.position
        sure = not any(o is order for _, o, _ in self.queue)
        order.filled = round(order.filled + part, 3)
        order.closed = order.filled >= order.quantity - 1e-9
        self.net = round(self.net + order.sign * part, 3)
        amount = SimpleNamespace(as_decimal=lambda: Decimal(repr(part)))
        self._tell(
            "OrderFilled",
            order,
            ts_event=self.now,
            last_qty=amount,
            last_px=SimpleNamespace(as_decimal=lambda: self.price),
            is_buy=order.sign > 0,
            liquidity_side=LiquiditySide.TAKER,
        )
        if order.role == "exit" or (order.role == "stop" and sure):
            assert before * order.sign <= 0, (order, before)
            assert before * desk.position >= -1e-9, f"{order.role} turned {before} into {desk.position}"
        self._resize(order)
        self.trader.on_position_event(event("PositionChanged", order))

    def _resize(self, filled: Any) -> None:
        """Nautilus's way with reduce-only orders that rest."""
        for order in list(self.book.values()):
            if order is filled or order.closed or not order.resting or not order.reduce_only:
                continue
            room = max(0.0, -order.sign * self.net)
            if room == 0:
                self._close(order, "OrderCanceled")
            elif abs(order.quantity - order.filled - room) > 1e-9:
                order.quantity = round(order.filled + room, 3)
                self._update(order)

    # -- the bar, and what holds at it -----------------------------------------------------------------------

    def bar(self, permit: str, regime: int) -> None:
        self.now += 10**9
        posterior = tuple(float(k == regime) for k in range(3))
        self.trader.on_bar(
            BarState(
                self.now,
                np.empty(0),
                self.price,
                self.price - 0.1,
                self.price + 0.1,
                self.price,
                self.price,
                RegimeState(regime, posterior),
                VolatilityState(0.01, 0.01, True),
                Forecast(math.nan, math.nan),
                RiskState(permit, 1.0, EQUITY, 0.0),
            )
        )

    def settle(self) -> None:
        """Everything under way arrives."""
        while self.queue or self.alarms:
            self.serve(len(self.queue))
            alarms, self.alarms = self.alarms, []
            for alarm in alarms:
                alarm(None)

    def _check_legal(self, order: Any) -> None:
        lots = order.quantity / SPEC.size_increment
        assert abs(lots - round(lots)) < 1e-6, order
        assert SPEC.min_quantity <= order.quantity <= SPEC.max_quantity, order
        worth = order.quantity * (self.price if order.level is None else order.level)
        assert order.reduce_only or worth >= SPEC.min_notional * 0.95, order
        if order.role in ("entry", "quote") and order.role != "exit":
            self._check_room(order)

    def _check_room(self, order: Any) -> None:
        desk = order.desk
        key = order.client_order_id
        mine = [o for k, o in desk.orders if k != key and o.side == order.sign and not o.reduce_only]
        own = next(o for k, o in desk.orders if k == key)
        if own.reduce_only:
            assert desk.position * order.sign < 0
            return
        ahead = desk.position * order.sign + sum(o.quantity - o.filled for o in mine) + order.quantity
        assert ahead <= RISK.exposure_cap * EQUITY / self.price + 1e-6, (order, ahead)

    def check_protected(self) -> None:
        """Each position has a stop of its size, an exit under way, or a refusal that is being waited for."""
        for desk in self.trader.desks.values():
            if not desk.position:
                continue
            side = -1 if desk.position > 0 else 1
            working = desk.orders.working()
            stops = [o for o in working if o.role == "stop" and o.side == side]
            waits = (desk.orders.refusals.stops, desk.orders.refusals.exits)
            if (
                any(o.role in ("exit", "entry") for o in working)
                or desk.holding._clearing
                or desk.holding._renewed
            ):
                continue
            if any(w.waiting or w.told for w in waits):
                continue
            if any(o.pending or o.touched for o in stops):
                continue
            least = abs(desk.position) - 1e-9
            small = not SPEC.closing(abs(desk.position), 98.0, alone=False, resting=True)
            if small and len(self.trader.desks) > 1:
                continue  # beside another no order is that small
            assert sum(o.quantity for o in stops) >= least, (desk.name, desk.position, working)
