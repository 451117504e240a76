"""What a desk holds: its position by its own fills, and the stop and the exits that end it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from strategies.contracts import ContractSpec
from strategies.desk.orders import OwnOrder, OwnOrders
from strategies.desk.protection import keep_stops
from strategies.desk.refusals import triggers_at_once
from strategies.desk.venue import Venue
from strategies.door import Passed
from strategies.handover import close_out
from strategies.policy import Cancel, Intent, Limits, Place

_TRIES = 3  # refused stops in a row until the position is closed instead


class Holding:
    """A position under a stop at the venue, of its size, at the level that the policy names.

    The stop is placed and moved at fills and bars. Where it cannot stand (the market has passed it, or it was
    refused time and again) the position is closed at market. An exit never turns the position: it is
    reduce-only, and beside another desk's position it waits until no other order can close what it closes.

    Parameters
    ----------
    desk
        Whose position it is, as the venue is told.
    orders : OwnOrders
        Of the desk.
    venue : Venue
    spec : ContractSpec
        Of the traded instrument.
    stop_fraction : float
        Distance of the stop, as a fraction of the entry price, where the policy names none.
    ask : callable
        Calls the policy's method of this name.

    Attributes
    ----------
    position : float
        Signed contracts.
    entry : float
        Average entry price, NaN while flat.
    demand : str
        Why the position has to be closed, whatever the policy wishes, else ``""``.
    ts, price
        The last moment (ns) and price heard of, at a bar or a fill.
    notes : list of str
        What happened since the last record without the policy's deciding it.
    """

    def __init__(
        self,
        desk: Any,
        orders: OwnOrders,
        venue: Venue,
        spec: ContractSpec,
        stop_fraction: float,
        ask: Callable[..., Any],
    ) -> None:
        self._desk, self._orders, self._venue, self._spec = desk, orders, venue, spec
        self._stop_fraction = stop_fraction
        self._ask = ask
        self.position = 0.0
        self.entry = self.price = math.nan
        self.ts = 0
        self.demand = ""
        self._clearing = False  # an exit waits until nothing else can close what it closes
        self._renewed = False  # a stop that the venue had cancelled, since the last bar
        self.notes: list[str] = []

    def bar(self, ts: int, price: float) -> None:
        """A bar begins; its price is NaN where none is known."""
        self.ts = ts
        if price > 0:
            self.price = price
        self._clearing = self._renewed = False

    def admit(self, intents: Sequence[Intent], limits: Limits) -> Passed:
        """Pass the door."""
        return self._orders.admit(intents, self.position, limits, self.price)

    def send(self, intents: Sequence[Intent]) -> None:
        """Send what has passed the door; an exit that has to wait follows when it may go."""
        for intent in intents:
            if isinstance(intent, Place) and intent.exits and self._is_in_the_way(intent.side):
                self._clearing = True
            else:
                self._orders.send((intent,))

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
        self._withdraw()
        self._exit()

    def _withdraw(self) -> None:
        """Cancel what neither closes nor protects."""
        working = self._orders.working()
        self._orders.send([Cancel(o.id) for o in working if not (o.exits or o.protects)])

    def _exit(self) -> None:
        exits = self._orders.refusals.exits
        if not (exits.waiting or exits.told):
            intents = close_out(self.position, self._orders.working())
            self._reduce([intent for intent in intents if isinstance(intent, Place)])

    def _is_in_the_way(self, side: int) -> bool:
        """Whether other orders could close the position beside an exit, and turn it: these go first.

        Where the position is the venue's whole net position, reduce-only orders cannot turn it.
        """
        others = [o for o in self._orders.working() if o.side == side and not o.exits]
        if others and self._venue.is_alone(self._desk):
            others = [o for o in others if o.protects and not o.capped]
        self._orders.send([Cancel(o.id) for o in others])
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
        level = self._ask("stop_price", self.position, self.entry)
        if not 0 < level < math.inf:
            away = -self._stop_fraction if self.position > 0 else self._stop_fraction
            level = self.entry * (1 + away)
        return max(float(level), self._spec.price_increment)

    def is_passed(self, level: float) -> bool:
        """Whether the last known price lies beyond the stop."""
        return self.price <= level if self.position > 0 else self.price >= level

    def protect(self) -> tuple[Intent, ...]:
        """Have a stop of the position's size stand at its level; what was sent for it."""
        refused = self._orders.refusals.stops
        if not self.position:
            refused.reset()
            if not self._orders:
                return ()
        working = self._orders.working()
        stops = [o for o in working if o.protects]
        if not self.position:
            return self._reduce([Cancel(o.id) for o in stops if not o.pending])
        alone = self._venue.is_alone(self._desk)
        capped = [Cancel(o.id) for o in stops if o.capped and not o.pending]
        if capped and not alone:
            # Nautilus resizes these to the whole net position, which is not ours alone any more: others come.
            return self._reduce(capped)
        # A stop that was touched has triggered: its rest fills, or an exit follows at the next bar.
        if self._clearing or any(o.exits or (o.protects and o.touched) for o in working):
            return ()
        if refused.waiting or refused.told:
            return ()
        level = self.stop_level()
        if self.is_passed(level):
            self._passed()
            return ()
        return self._reduce(keep_stops(self.position, level, stops, self._spec, alone=alone))

    def _passed(self) -> None:
        """The market is beyond the stop, which therefore cannot stand."""
        self._ask("stopped", self.ts)
        self.leave("stop passed")

    # -- what the venue says ---------------------------------------------------------------------------------

    def on_accepted(self, key: str) -> None:
        """The venue has the order."""
        self._heard(self._orders.accepted(key))

    def on_updated(self, key: str, quantity: float, price: float | None) -> None:
        """The order has this total quantity now, and this price if one is given."""
        self._heard(self._orders.updated(key, quantity, price))

    def _heard(self, order: OwnOrder | None) -> None:
        if order is not None and order.protects:
            self.protect()  # there may have been fills while it was on its way

    def on_change_refused(self, key: str, reason: str) -> None:
        """The venue leaves the order as it was."""
        order = self._orders.change_refused(key, reason)
        if order is not None and order.protects and self.position:
            if triggers_at_once(reason):
                self._passed()
            else:  # some venues move no stop: it goes, and another comes
                self._orders.send([Cancel(key)])

    def on_closed(self, key: str, refusal: str | None = None) -> None:
        """The order is gone: cancelled or expired, or it never stood, for the reason ``refusal``."""
        order = self._orders.closed(key, refusal)
        if order is None:
            return
        if order.protects and order.side * self.position < 0:
            self._lost_stop(order, refusal)
        elif order.exits or (order.kind == "market" and order.filled):
            self.protect()  # of what a thin book left
        self._cleared()

    def _lost_stop(self, order: OwnOrder, refusal: str | None) -> None:
        if refusal is not None and triggers_at_once(refusal):
            self._passed()
        elif refusal is not None and self._orders.refusals.stops.count + 1 >= _TRIES:
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
        order = self._orders.filled(key, quantity)
        if order is None:
            return 0
        self.ts, self.price = ts, price
        self.hold(order.side * quantity, price)
        if order.protects and order.filled == quantity:  # its first fill
            self.notes.append("stop filled")
            self._ask("stopped", ts)
            self._withdraw()
        return order.side

    def on_position(self) -> None:
        """The venue's books know of the last fill: only now may an order reduce what was filled."""
        working = self._orders.working()
        if any(o.kind == "market" and not o.reduce_only and o.touched for o in working):
            self._venue.settle(self._desk)  # the rest of it may be filled within this moment
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
