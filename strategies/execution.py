"""What a desk has at the venue: its orders, its position, and the stop that protects it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from strategies.door import Passed, admit
from strategies.handover import close_out
from strategies.own_orders import OwnOrder, OwnOrders
from strategies.policy import Cancel, Intent, Limits, Place, Policy
from strategies.protection import keep_stops
from strategies.refusals import Refusals, triggers_at_once
from strategies.sizing import ContractSpec

_TRIES = 3  # refused stops in a row until the position is closed instead


class Venue(Protocol):
    """What a desk asks of the Nautilus strategy it works in."""

    def place(self, desk: Any, wanted: Place) -> None:
        """Send an order; ``desk.sent`` is told its id first, because a denial comes back at once."""
        ...

    def amend(self, order_id: str, role: str, quantity: float, price: float) -> None:
        """Change an order to this total quantity and price."""
        ...

    def cancel(self, order_id: str) -> None: ...

    def settle(self, desk: Any) -> None:
        """Call ``desk.protect`` once all that happens at this moment has been heard."""
        ...

    def is_closed(self, order_id: str) -> bool:
        """Whether nothing of the order can fill any more."""
        ...

    def is_alone(self, desk: Any) -> bool:
        """Whether the venue's net position is the desk's, and no order of another can change that."""
        ...

    def free_margin(self) -> float:
        """In the settlement currency."""
        ...


class Execution:
    """Orders and position of one desk, kept by what the venue says of them.

    A position stands under a stop at the venue, of its size, at the level that the policy names: placed and
    moved at fills and bars. Where the stop cannot stand (the market has passed it, or it was refused time and
    again) the position is closed at market. An exit never turns the position: it is reduce-only, and beside
    another desk's position it waits until no other order can close what it closes.

    Parameters
    ----------
    spec : ContractSpec
        Of the traded instrument.
    stop_fraction : float
        Distance of the stop, as a fraction of the entry price, where the policy names none.
    policy : Policy
    venue : Venue
    ask : callable
        Calls a method of the policy.

    Attributes
    ----------
    position : float
        Signed contracts, by its own fills.
    entry : float
        Average entry price, NaN while flat.
    orders : OwnOrders
    refusals : Refusals
    demand : str
        Why the position has to be closed, whatever the policy wishes, else ``""``.
    ts, price
        The last moment (ns) and price heard of, at a bar or a fill.
    between : list of str
        Ids of the orders sent or changed since the last record.
    notes : list of str
        What happened since then without the policy's deciding it.
    """

    def __init__(
        self,
        spec: ContractSpec,
        stop_fraction: float,
        policy: Policy,
        venue: Venue,
        ask: Callable[..., Any],
    ) -> None:
        self._spec = spec
        self._stop_fraction = stop_fraction
        self.policy = policy
        self._venue = venue
        self._ask = ask
        self.position = 0.0
        self.entry = self.price = math.nan
        self.ts = 0
        self.orders = OwnOrders(venue.is_closed)
        self.refusals = Refusals()
        self.demand = ""
        self._clearing = False  # an exit waits until nothing else can close what it closes
        self._renewed = False  # a stop that the venue had cancelled, since the last bar
        self.between: list[str] = []
        self.notes: list[str] = []

    # -- sending ---------------------------------------------------------------------------------------------

    def admit(self, intents: Sequence[Intent], limits: Limits) -> Passed:
        """Pass the door."""
        alone = self._venue.is_alone(self)
        orders = self.orders.working()
        return admit(intents, self.position, orders, limits, self.price, self._spec, alone=alone)

    def send(self, intents: Sequence[Intent]) -> None:
        """Send what has passed the door."""
        for intent in intents:
            if isinstance(intent, Place):
                if intent.role == "exit" and self._is_in_the_way(intent.side):
                    self._clearing = True
                else:
                    self._venue.place(self, intent)
                continue
            order = self.orders.touch(intent.id)
            if order is None or order.removing:
                continue
            if isinstance(intent, Cancel):
                order.removing = True
                self._venue.cancel(intent.id)
                continue
            total = order.filled + intent.quantity
            moved = abs(intent.price - order.price) > 0.5 * self._spec.price_increment
            if not moved and abs(total - order.quantity) < 0.5 * self._spec.size_increment:
                continue  # nothing is left of the change: Nautilus refuses to modify nothing
            order.pending = True
            self.between.append(intent.id)
            self._venue.amend(intent.id, order.role, total, intent.price)

    def sent(self, key: str, wanted: Place, *, capped: bool) -> None:
        """An order of this id is about to go out; ``capped`` if the venue is told that it only reduces."""
        self.orders.add(key, OwnOrder.of(wanted, capped=capped))
        self.between.append(key)

    def _reduce(self, intents: Sequence[Intent]) -> tuple[Intent, ...]:
        """Send what may not add, without waiting for a bar; what of it went."""
        if not intents:
            return ()
        passed = self.admit(intents, Limits("active", False, 0.0, "", 0.0)).intents
        self.send(passed)
        return passed

    # -- closing ---------------------------------------------------------------------------------------------

    def leave(self, reason: str) -> None:
        """Close the position at market, whatever the policy wishes."""
        self.demand = reason
        self.notes.append(f"{reason}: closed at market")
        self.send([Cancel(o.id) for o in self.orders.working() if o.role in ("entry", "quote")])
        self._exit()

    def _exit(self) -> None:
        if not (self.refusals.exits.waiting or self.refusals.exits.told):
            exits = close_out(self.position, self.orders.working())
            self._reduce([intent for intent in exits if isinstance(intent, Place)])

    def _is_in_the_way(self, side: int) -> bool:
        """Whether other orders could close the position beside an exit, and turn it: these go first.

        Where the position is the venue's whole net position, reduce-only orders cannot turn it.
        """
        others = [o for o in self.orders.working() if o.side == side and o.role != "exit"]
        if others and self._venue.is_alone(self):
            others = [o for o in others if o.role == "stop" and not o.capped]
        self.send([Cancel(o.id) for o in others])
        return bool(others)

    def _cleared(self) -> None:
        """Send the exit that waited, once it may go."""
        side = -1 if self.position > 0 else 1
        if self._clearing and not self._is_in_the_way(side):
            self._clearing = False
            self._exit()

    # -- the protective stop ---------------------------------------------------------------------------------

    def stop_level(self) -> float:
        """Where the stop of the position stands; NaN while flat."""
        if not self.position:
            return math.nan
        level = self._ask(self.policy.stop_price, self.position, self.entry)
        if not 0 < level < math.inf:
            away = -self._stop_fraction if self.position > 0 else self._stop_fraction
            level = self.entry * (1 + away)
        return max(float(level), self._spec.price_increment)

    def is_passed(self, level: float) -> bool:
        """Whether the last known price lies beyond the stop."""
        return self.price <= level if self.position > 0 else self.price >= level

    def protect(self) -> tuple[Intent, ...]:
        """Have a stop of the position's size stand at its level; what was sent for it."""
        if not self.position:
            self.refusals.stops.reset()
            if not self.orders:
                return ()
        working = self.orders.working()
        stops = [o for o in working if o.role == "stop"]
        if not self.position:
            return self._reduce([Cancel(o.id) for o in stops if not o.pending])
        alone = self._venue.is_alone(self)
        capped = [Cancel(o.id) for o in stops if o.capped and not o.pending]
        if capped and not alone:
            # Nautilus resizes these to the whole net position, which is not ours alone any more: others come.
            return self._reduce(capped)
        # A stop that was touched has triggered: its rest fills, or an exit follows at the next bar.
        if self._clearing or any(o.role == "exit" or (o.role == "stop" and o.touched) for o in working):
            return ()
        if self.refusals.stops.waiting or self.refusals.stops.told:
            return ()
        level = self.stop_level()
        if self.is_passed(level):
            self._passed()
            return ()
        return self._reduce(keep_stops(self.position, level, stops, self._spec, alone=alone))

    def _passed(self) -> None:
        """The market is beyond the stop, which therefore cannot stand."""
        self._ask(self.policy.stopped, self.ts)
        self.leave("stop passed")

    # -- what the venue says ---------------------------------------------------------------------------------

    def on_accepted(self, key: str) -> None:
        """The venue has the order."""
        if order := self.orders.touch(key):
            order.pending = False
            self._heard(order)

    def on_updated(self, key: str, quantity: float, price: float | None) -> None:
        """The order has this total quantity now, and this price if one is given."""
        if order := self.orders.touch(key):
            order.pending = False
            order.quantity = quantity
            if price is not None:
                order.price = price
            self._heard(order)

    def _heard(self, order: OwnOrder) -> None:
        self.refusals.of(order.role, reduce_only=order.reduce_only).accepted()
        if order.role == "stop":
            self.protect()  # there may have been fills while it was on its way

    def on_change_refused(self, key: str, reason: str) -> None:
        """The venue leaves the order as it was."""
        order = self.orders.touch(key)
        if order is None:
            return
        order.pending = False
        self.refusals.of(order.role, reduce_only=order.reduce_only).refused(reason)
        if order.role == "stop" and self.position:
            if triggers_at_once(reason):
                self._passed()
            else:  # some venues move no stop: it goes, and another comes
                self.send([Cancel(key)])

    def on_cancel_refused(self, key: str) -> None:
        """The order is not removed."""
        if order := self.orders.touch(key):
            order.removing = False

    def on_closed(self, key: str, refusal: str | None = None) -> None:
        """The order is gone: cancelled or expired, or it never stood, for the reason ``refusal``."""
        order = self.orders.touch(key)
        if order is None:
            return
        self.orders.drop(key)
        if refusal is not None:
            self.refusals.of(order.role, reduce_only=order.reduce_only).refused(refusal)
        if order.role == "stop" and order.side * self.position < 0:
            self._lost_stop(order, refusal)
        elif order.role == "exit" or (order.role == "entry" and order.filled):
            self.protect()  # of what a thin book left
        self._cleared()

    def _lost_stop(self, order: OwnOrder, refusal: str | None) -> None:
        stops = self.refusals.stops
        if refusal is not None and triggers_at_once(refusal):
            self._passed()
        elif refusal is not None and stops.count + 1 >= _TRIES:
            self.leave(f"stop refused {_TRIES} times")
        elif refusal is None and order.removing:
            self.protect()
        elif refusal is None:
            self.notes.append("stop cancelled by the venue")
            if not self._renewed:  # at once the first time, then at bars
                self._renewed = True
                self.protect()

    def on_filled(self, key: str, ts: int, quantity: float, price: float) -> int:
        """``quantity`` contracts of an order were filled at ``price``; its side, or 0 if it is unknown."""
        order = self.orders.touch(key)
        if order is None:
            return 0
        self.ts, self.price = ts, price
        first = not order.filled
        order.filled += quantity
        if order.quantity - order.filled < 0.5 * self._spec.size_increment:
            self.orders.drop(key)
        self.hold(order.side * quantity, price)
        self.refusals.of(order.role, reduce_only=order.reduce_only).accepted()
        if order.role == "stop" and first:
            self.notes.append("stop filled")
            self._ask(self.policy.stopped, ts)
            self.send([Cancel(o.id) for o in self.orders.working() if o.role in ("entry", "quote")])
        return order.side

    def on_position(self) -> None:
        """The venue's books know of the last fill: only now may an order reduce what was filled."""
        if any(o.role == "entry" and o.touched for o in self.orders.working()):
            self._venue.settle(self)  # the rest of it may be filled within this moment
        else:
            self.protect()
        self._cleared()

    def hold(self, change: float, price: float) -> None:
        """Position and average entry after a fill of ``change`` signed contracts."""
        old = self.position
        new = self.position = round(old + change, self._spec.size_precision)
        if new == 0:
            self.entry = math.nan
        elif old * change > 0:
            self.entry = self._spec.average(self.entry, abs(old), price, abs(change))
        elif old * new <= 0:  # opened, or turned round
            self.entry = price
