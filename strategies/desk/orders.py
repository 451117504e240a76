"""A desk's own orders: from wishes through the door to commands, and what the venue answered.

They are booked here, so that a bar needs no look into Nautilus's cache.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from strategies import execution
from strategies.contracts import ContractSpec
from strategies.desk.refusals import Backoff, Refusals
from strategies.desk.venue import Venue
from strategies.door import Passed, admit
from strategies.policy import Amend, Cancel, Intent, Limits, OrderKind, Place, WorkingOrder


@dataclasses.dataclass(slots=True)
class OwnOrder:
    """What a desk knows of one order. What does not rest is of the kind "market", and its ``price`` NaN."""

    role: str
    kind: OrderKind
    side: int
    quantity: float  # total, filled part included
    price: float
    reduce_only: bool
    filled: float = 0.0
    pending: bool = True
    removing: bool = False
    capped: bool = False  # the venue was told that it only reduces

    @classmethod
    def of(cls, wanted: Place, *, capped: bool) -> "OwnOrder":
        kind, price = wanted.kind, wanted.price
        if price is None or not wanted.resting:
            kind, price = "market", math.nan
        return cls(wanted.role, kind, wanted.side, wanted.quantity, price, wanted.reduce_only, capped=capped)

    @property
    def exits(self) -> bool:
        """Whether it closes the position now."""
        return self.reduce_only and self.kind == "market"

    @property
    def protects(self) -> bool:
        """Whether it is a protective stop."""
        return self.reduce_only and self.kind == "stop"


class OwnOrders:
    """The orders of one desk that may still fill, by id.

    Parameters
    ----------
    desk
        Whose orders they are, as the venue is told.
    venue : Venue
    spec : ContractSpec

    Attributes
    ----------
    refusals : Refusals
        What has to wait after a refusal.
    between : list of str
        Ids of the orders sent or changed since the last record.
    """

    def __init__(self, desk: Any, venue: Venue, spec: ContractSpec) -> None:
        self._desk, self._venue, self._spec = desk, venue, spec
        self._algorithms = execution.algorithms()
        self._orders: dict[str, OwnOrder] = {}
        self._working: tuple[WorkingOrder, ...] | None = ()  # None: to be built again
        self.refusals = Refusals()
        self.between: list[str] = []

    # -- what stands -----------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._orders)

    def __iter__(self) -> Iterator[tuple[str, OwnOrder]]:
        return iter(list(self._orders.items()))

    def working(self) -> tuple[WorkingOrder, ...]:
        """The orders that may still fill."""
        if self._orders:
            self._forget_closed()
        if self._working is None:
            self._working = tuple(
                WorkingOrder(
                    key,
                    o.role,
                    o.kind,
                    o.side,
                    o.quantity - o.filled,
                    o.price,
                    o.reduce_only,
                    o.pending or o.removing,
                    o.filled > 0,
                    o.capped,
                )
                for key, o in self._orders.items()
            )
        return self._working

    def adding(self) -> bool:
        """Whether an order that adds risk may still fill."""
        return any(not order.reduce_only for order in self.working())

    def leftovers(self) -> list[Intent]:
        """What an exhausted book left of orders at market: Nautilus would keep it for ever."""
        return [Cancel(key) for key, o in self if o.filled and o.kind != "limit"]

    def wait(self, intent: Intent) -> Backoff | None:
        """What an intent has to wait for after a refusal."""
        if isinstance(intent, Place):
            kind: OrderKind = intent.kind if intent.resting else "market"
            wait = self.refusals.of(kind, reduce_only=intent.reduce_only)
        else:
            order = self._orders.get(intent.id)
            if order is None or isinstance(intent, Cancel):
                return None
            wait = self._wait_of(order)
        return wait if wait.waiting else None

    def _wait_of(self, order: OwnOrder) -> Backoff:
        return self.refusals.of(order.kind, reduce_only=order.reduce_only)

    def _touch(self, key: str) -> OwnOrder | None:
        """The order, to be changed; None where it is none of this desk's any more."""
        self._working = None
        return self._orders.get(key)

    def _drop(self, key: str) -> None:
        self._working = None
        del self._orders[key]

    def _forget_closed(self) -> None:
        """Orders that ended without a word: Nautilus may cancel the rest of a market order silently."""
        for key in [key for key, o in self._orders.items() if o.pending or o.removing]:
            if self._venue.is_closed(key):
                self._drop(key)

    # -- out -------------------------------------------------------------------------------------------------

    def admit(self, intents: Sequence[Intent], position: float, limits: Limits, price: float) -> Passed:
        """Have wishes made into orders by their algorithms, and these pass the door."""
        market = execution.Market(price, self._venue.is_priced())
        worked = execution.work(intents, self._algorithms, market)
        alone = self._venue.is_alone(self._desk)
        return admit(worked, position, self.working(), limits, price, self._spec, alone=alone)

    def send(self, intents: Sequence[Intent]) -> None:
        """Send what has passed the door."""
        for intent in intents:
            if isinstance(intent, Place):
                self._venue.place(self._desk, intent)
                continue
            order = self._touch(intent.id)
            if order is None or order.removing:
                continue
            if isinstance(intent, Cancel):
                order.removing = True
                self._venue.cancel(intent.id)
            else:
                self._amend(intent, order)

    def _amend(self, intent: Amend, order: OwnOrder) -> None:
        total = order.filled + intent.quantity
        moved = abs(intent.price - order.price) > 0.5 * self._spec.price_increment
        if not moved and abs(total - order.quantity) < 0.5 * self._spec.size_increment:
            return  # nothing is left of the change: Nautilus refuses to modify nothing
        order.pending = True
        self.between.append(intent.id)
        self._venue.amend(intent.id, order.kind, total, intent.price)

    def sent(self, key: str, wanted: Place, *, capped: bool) -> None:
        """An order of this id is about to go out; ``capped`` if the venue is told that it only reduces."""
        self.add(key, OwnOrder.of(wanted, capped=capped))
        self.between.append(key)

    def add(self, key: str, order: OwnOrder) -> None:
        """An order is about to go to the venue, or was found there by a restarted session."""
        self._orders[key] = order
        self._working = None

    # -- in: each gives the order concerned, None where it is none of this desk's any more -------------------

    def accepted(self, key: str) -> OwnOrder | None:
        """The venue has the order."""
        if order := self._touch(key):
            order.pending = False
            self._wait_of(order).accepted()
        return order

    def updated(self, key: str, quantity: float, price: float | None) -> OwnOrder | None:
        """The order has this total quantity now, and this price if one is given."""
        if order := self.accepted(key):
            order.quantity = quantity
            if price is not None:
                order.price = price
        return order

    def change_refused(self, key: str, reason: str) -> OwnOrder | None:
        """The venue leaves the order as it was."""
        if order := self._touch(key):
            order.pending = False
            self._wait_of(order).refused(reason)
        return order

    def cancel_refused(self, key: str) -> None:
        """The order is not removed."""
        if order := self._touch(key):
            order.removing = False

    def closed(self, key: str, refusal: str | None) -> OwnOrder | None:
        """The order is gone: cancelled or expired, or it never stood, for the reason ``refusal``."""
        if order := self._touch(key):
            self._drop(key)
            if refusal is not None:
                self._wait_of(order).refused(refusal)
        return order

    def filled(self, key: str, quantity: float) -> OwnOrder | None:
        """So many contracts more of the order were filled."""
        if order := self._touch(key):
            order.filled += quantity
            if order.quantity - order.filled < 0.5 * self._spec.size_increment:
                self._drop(key)
            self._wait_of(order).accepted()
        return order
