"""What an execution algorithm is: it makes of a wish the orders that the venue gets."""

from typing import ClassVar, NamedTuple

from core.kinds import Family
from strategies.policy import OrderKind, Place


class Market(NamedTuple):
    """What an algorithm may know of the market."""

    price: float  # the last that was heard of, at a bar or a fill
    priced: bool  # whether the venue can judge an order at market; by a book alone Nautilus cannot


class ExecutionSettings(Family):
    """What every execution algorithm is configured with."""

    verbs: ClassVar[tuple[str, ...]] = ("orders",)

    works: ClassVar[tuple[OrderKind, ...]]
    """The kinds of wish it is for."""

    def orders(self, wanted: Place, market: Market) -> tuple[Place, ...]:
        """The orders of a wish, as the venue is to get them: together no more than its quantity.

        They go through the door afterwards, so what no cap allows is cut there whatever comes of this. Pure:
        no clock, no randomness, no memory.
        """
        raise NotImplementedError(f"{type(self).__name__} has no orders")
