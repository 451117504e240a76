"""What a desk asks of the Nautilus strategy it works in."""

from typing import Any, Protocol

from strategies.policy import OrderKind, Place


class Venue(Protocol):
    """The trader, as a desk sees it."""

    def place(self, desk: Any, wanted: Place) -> None:
        """Send an order; ``desk.orders.sent`` is told its id first, because a denial comes back at once."""
        ...

    def amend(self, order_id: str, kind: OrderKind, quantity: float, price: float) -> None:
        """Change an order to this total quantity and price."""
        ...

    def cancel(self, order_id: str) -> None: ...

    def settle(self, desk: Any) -> None:
        """Call ``desk.holding.protect`` once all that happens at this moment has been heard."""
        ...

    def is_closed(self, order_id: str) -> bool:
        """Whether nothing of the order can fill any more."""
        ...

    def is_alone(self, desk: Any) -> bool:
        """Whether the venue's net position is the desk's, and no order of another can change that."""
        ...

    def is_priced(self) -> bool:
        """Whether an order at market can be judged."""
        ...

    def free_margin(self) -> float:
        """In the settlement currency."""
        ...
