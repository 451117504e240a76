"""Execution algorithms: how a wish becomes orders.

A new module here with a subclass of ``ExecutionSettings`` is found by itself; it needs a ``kind`` and
``orders``. A ``Place`` names it as its ``algorithm``.
"""

from collections.abc import Iterable, Mapping

from core.kinds import import_modules, kinds_of, tags
from strategies.execution.base import ExecutionSettings, Market
from strategies.policy import Intent, Place

import_modules(__name__, __path__)


def algorithms() -> dict[str, ExecutionSettings]:
    """Every algorithm that is known, by its kind."""
    return {kind: cls(kind=kind) for cls in kinds_of(ExecutionSettings) for kind in tags(cls)}


def work(
    intents: Iterable[Intent], known: Mapping[str, ExecutionSettings], market: Market
) -> tuple[Intent, ...]:
    """``intents`` with each wish replaced by the orders that its algorithm makes of it.

    Raises
    ------
    ValueError
        If a wish names an algorithm that is not known, or one that is not for its kind, or if that makes more
        of it than was wanted.
    """
    worked: list[Intent] = []
    for intent in intents:
        worked += _orders(intent, known, market) if isinstance(intent, Place) else (intent,)
    return tuple(worked)


def _orders(wanted: Place, known: Mapping[str, ExecutionSettings], market: Market) -> tuple[Place, ...]:
    algorithm = known.get(wanted.algorithm)
    if algorithm is None:
        there = ", ".join(sorted(known))
        raise ValueError(
            f"intent {wanted.role!r}: no execution algorithm {wanted.algorithm!r}; there are {there}"
        )
    if wanted.kind not in algorithm.works:
        raise ValueError(
            f"intent {wanted.role!r}: the algorithm {algorithm.kind!r} works {' and '.join(algorithm.works)} "
            f"orders, not a {wanted.kind} one"
        )
    orders = algorithm.orders(wanted, market)
    made = sum(order.quantity for order in orders)
    if made > wanted.quantity + 1e-9 * abs(wanted.quantity):
        raise ValueError(
            f"intent {wanted.role!r}: the algorithm {algorithm.kind!r} makes {made:.12g} contracts of "
            f"{wanted.quantity:.12g}"
        )
    return orders


__all__ = ["ExecutionSettings", "Market", "algorithms", "work"]
