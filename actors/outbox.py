"""What goes to the venue: at once, or where it would meet no price, when the next one is known."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from nautilus_trader.model import ClientOrderId
from nautilus_trader.trading import Strategy

_NEVER = 2**63 - 1


class Outbox:
    """Hands commands to the venue, in the order in which they were sent.

    Parameters
    ----------
    host : Strategy
        The Nautilus strategy that submits and cancels.
    latency : int
        Nanoseconds that commands take to the venue of a backtest, 0 elsewhere.
    holes : sequence of (int, int)
        In a backtest, the stretches without a price: what would arrive between the last price before one and
        the first after it (ns) is handed over at the latter.
    watch : callable
        Guards the callbacks of its timers.

    Attributes
    ----------
    held : dict of str to int
        How long (ns) a hole kept an order from the venue, by its id: -1 where it has not come there yet.
    """

    def __init__(
        self,
        host: Strategy,
        latency: int,
        holes: Sequence[tuple[int, int]],
        watch: Callable[[Callable[[Any], None]], Callable[[Any], None]],
    ) -> None:
        self._host, self._latency, self._holes = host, latency, holes
        self._starts = [start for start, _ in holes]
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()  # when to be sent, and how
        self._unsent: dict[str, Any] = {}  # orders among them, by id
        self._due = 0  # when the last commands reach the venue
        self.held: dict[str, int] = {}
        self._release = watch(lambda _event: self._send_due())

    def submit(self, order: Any) -> None:
        """Have an order submitted."""
        key = str(order.client_order_id)
        self._unsent[key] = order
        self.send(lambda: self._submit(key))
        if key in self._unsent:
            self.held[key] = -1

    def _submit(self, key: str) -> None:
        order = self._unsent.pop(key)
        if key in self.held:
            self.held[key] = self._host.clock.timestamp_ns() - order.ts_init
        self._host.submit_order(order)

    def cancel(self, key: str) -> None:
        """Have an order cancelled: at once where the venue has it, for that needs no price."""
        name = ClientOrderId(key)
        if key in self._unsent:
            self.send(lambda: self._host.cancel_order(name))
        else:
            self._arrive()
            self._host.cancel_order(name)

    def unsent(self) -> list[Any]:
        """The orders that no price was left for: the venue never heard of them."""
        return list(self._unsent.values())

    def send(self, command: Callable[[], None]) -> None:
        """Carry out a command: now, or where it would arrive in a hole, when that is over."""
        now = self._host.clock.timestamp_ns()
        at = self._sending(now)
        if at == now:
            self._send_due()  # a hole that ends at this very moment
            self._arrive()
            command()
            return
        if at < _NEVER and (not self._waiting or self._waiting[-1][0] != at):
            self._host.clock.set_time_alert_ns(f"hole-{at}", at, callback=self._release)
        self._waiting.append((at, command))

    def _sending(self, now: int) -> int:
        """When to hand over what is sent now, so that a price stands where it arrives."""
        at = now
        while True:
            arrival = at + self._latency
            hole = bisect_left(self._starts, arrival) - 1
            over = self._holes[hole][1] if hole >= 0 else 0
            # At its end the price is known only once everything of that moment has been heard.
            if arrival > over or at >= over:
                return at
            at = over

    def _send_due(self) -> None:
        now = self._host.clock.timestamp_ns()
        while self._waiting and self._waiting[0][0] <= now:
            self._arrive()
            self._waiting.popleft()[1]()

    def _arrive(self) -> None:
        """Have a timer stand where commands sent now reach the venue.

        The backtest engine looks for arrived commands only where an event or a timer is: without this they
        would meet the book as the next event leaves it, however much later that comes.
        """
        if not self._latency:
            return
        due = self._host.clock.timestamp_ns() + self._latency
        if due != self._due:
            self._due = due
            self._host.clock.set_time_alert_ns(f"arrival-{due}", due, callback=_nothing)


def _nothing(_event: Any) -> None:
    pass
