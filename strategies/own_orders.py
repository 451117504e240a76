"""A desk's own book-keeping of its orders, so that a bar needs no look into Nautilus's cache."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from strategies.policy import Place, WorkingOrder


@dataclasses.dataclass(slots=True)
class OwnOrder:
    """What a desk knows of one order. ``price`` is NaN for market orders."""

    role: str
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
        price = math.nan if wanted.price is None else wanted.price
        return cls(wanted.role, wanted.side, wanted.quantity, price, wanted.reduce_only, capped=capped)


class OwnOrders:
    """The orders of one desk that may still fill, by id.

    Parameters
    ----------
    is_closed : callable
        From an id to whether nothing of that order can fill any more, by Nautilus's books.
    """

    def __init__(self, is_closed: Callable[[str], bool]) -> None:
        self._is_closed = is_closed
        self._orders: dict[str, OwnOrder] = {}
        self._working: tuple[WorkingOrder, ...] | None = ()  # None: to be built again

    def __bool__(self) -> bool:
        return bool(self._orders)

    def __iter__(self) -> Iterator[tuple[str, OwnOrder]]:
        return iter(list(self._orders.items()))

    def add(self, key: str, order: OwnOrder) -> None:
        """An order is about to go to the venue, or was found there."""
        self._orders[key] = order
        self._working = None

    def touch(self, key: str) -> OwnOrder | None:
        """The order, to be changed; None where it is none of this desk's any more."""
        self._working = None
        return self._orders.get(key)

    def drop(self, key: str) -> None:
        """Nothing of the order can fill any more."""
        self._working = None
        del self._orders[key]

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
                    o.capped,
                )
                for key, o in self._orders.items()
            )
        return self._working

    def _forget_closed(self) -> None:
        """Orders that ended without a word: Nautilus may cancel the rest of a market order silently."""
        for key in [key for key, o in self._orders.items() if o.pending or o.removing]:
            if self._is_closed(key):
                self.drop(key)
