"""What becomes of orders and position while a strategy may not add risk."""

from collections.abc import Iterable

from core.messages import REGIMES
from strategies.policy import Cancel, Decision, Intent, MarketView, Place, WorkingOrder

CLOSED = ("halted", "liquidated")
"""Permits under which nothing may be held."""


def why_not(label: int, owned: bool, permit: str) -> str:
    """Why no new risk may be taken, or ``""``."""
    if permit in CLOSED:
        return "trading halted" if permit == "halted" else permit
    if label < 0:
        return "no valid model"
    if not owned:
        return f"regime is {REGIMES[label]}"
    return "" if permit == "active" else "reduce only"


def close_out(position: float, orders: Iterable[WorkingOrder]) -> tuple[Intent, ...]:
    """Every order cancelled and the position closed at market. Its stops stand until that is done."""
    intents: list[Intent] = [Cancel(o.id) for o in orders if not (o.exits or o.protects)]
    if position and not any(o.exits for o in orders):
        intents.append(Place("exit", -1 if position > 0 else 1, abs(position), reduce_only=True))
    return tuple(intents)


def leave(view: MarketView, action: str, reason: str, *, passive: str = "none") -> Decision:
    """``close_out`` as a decision; ``passive`` is its action where nothing is left to send."""
    intents = close_out(view.position, view.orders)
    closes = any(isinstance(i, Place) for i in intents)
    return Decision(action if intents else passive, reason, intents, bound="position" if closes else "")


def stand_down(view: MarketView, reason: str) -> Decision:
    """``close_out`` because the strategy may hold nothing."""
    wish = leave(view, "flatten", reason)
    return wish if wish.bound or not wish.intents else wish._replace(action="cancel")


def only_reduce(view: MarketView, wish: Decision, reason: str) -> Decision:
    """The policy's wish, less what adds risk, and with every order that could add risk cancelled."""
    adding = [o.id for o in view.orders if not o.reduce_only]
    kept = tuple(i for i in wish.intents if (i.reduce_only if isinstance(i, Place) else i.id not in adding))
    intents = (*(Cancel(key) for key in adding), *kept)
    if not intents:
        return Decision("hold" if view.position else "none", reason)
    return Decision("reduce" if kept else "cancel", f"{reason}: {wish.reason}" if kept else reason, intents)
