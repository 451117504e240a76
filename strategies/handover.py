"""What becomes of orders and position while a strategy may not add risk."""

from features.messages import REGIMES
from strategies.policy import Cancel, Decision, Intent, MarketView, Place

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


def stand_down(view: MarketView, reason: str) -> Decision:
    """Every order cancelled, the position closed at market."""
    intents: list[Intent] = [Cancel(o.id) for o in view.orders if o.role != "exit"]
    closing = any(o.role == "exit" for o in view.orders)
    if view.position and not closing:
        side = -1 if view.position > 0 else 1
        intents.append(Place("exit", side, abs(view.position), reduce_only=True))
        return Decision("flatten", reason, tuple(intents), bound="position")
    return Decision("cancel" if intents else "none", reason, tuple(intents))


def only_reduce(view: MarketView, wish: Decision, reason: str) -> Decision:
    """The policy's wish, less what adds risk, and with every order that could add risk cancelled."""
    adding = [o.id for o in view.orders if not o.reduce_only]
    kept = tuple(i for i in wish.intents if (i.reduce_only if isinstance(i, Place) else i.id not in adding))
    intents = (*(Cancel(key) for key in adding), *kept)
    if not intents:
        return Decision("hold" if view.position else "none", reason)
    return Decision("reduce" if kept else "cancel", f"{reason}: {wish.reason}" if kept else reason, intents)
