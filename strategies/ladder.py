"""The grid's ladder: which passive orders stand around a fair value, and how to get there in few commands."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from strategies.contracts import ContractSpec
from strategies.policy import Amend, Cancel, Intent, Place, WorkingOrder


class Rung(NamedTuple):
    """One wanted passive order."""

    side: int
    price: float
    quantity: float
    reduce_only: bool


def build_ladder(
    center: float,
    spacing: float,
    levels: int,
    unit: float,
    inventory: float,
    bid: float,
    ask: float,
    spec: ContractSpec,
    *,
    reduce_only: bool = False,
) -> tuple[Rung, ...]:
    """Orders that make inventory follow ``-(price - center) / spacing`` units, bounded by ``levels`` units.

    Level ``k`` stands at ``center - k * spacing``. With an inventory of ``m`` units, buys stand on the levels
    above ``m`` up to ``levels`` and sells on those below ``m`` down to ``-levels``, one unit each (the
    nearest the rest of a unit), so each step out and back earns one spacing, and position plus all orders of
    a side never exceed ``levels`` units. Orders are passive: a level that would take is moved to the last
    tick that does not.

    Parameters
    ----------
    center, spacing : float
        In price units.
    levels : int
        Bound of the inventory, in units, on each side.
    unit : float
        Contracts a level.
    inventory : float
        Signed contracts held.
    bid, ask : float
        Best prices of the market; without a book both are its last price.
    reduce_only : bool
        Only orders that bring inventory back to zero.

    Returns
    -------
    tuple of Rung
        Buys from the top, then sells from the bottom.
    """
    m = inventory / unit
    rungs: list[Rung] = []
    for side in (1, -1):
        # Seen from the side of the order: levels still free in its direction, and where the last one is.
        held = side * m
        last = 0 if reduce_only else levels
        k = math.floor(held + 1e-9) + 1
        if k < -levels:  # more held than the ladder is wide: the rest joins the outermost level
            k = -levels
        done = held
        while k <= last:
            quantity = spec.floor_quantity((k - done) * unit)
            level = center - side * k * spacing
            if side > 0:
                level = min(spec.floor_price(level), _below(ask, spec))
            else:
                level = max(spec.ceil_price(level), _above(bid, spec))
            # Too small an order joins the next level.
            if level > 0 and not spec.below_minimum(quantity, level):
                done = k
                rungs.append(Rung(side, level, quantity, reduce_only))
            k += 1
    return tuple(rungs)


def _below(price: float, spec: ContractSpec) -> float:
    """The highest tick under ``price``."""
    tick = spec.floor_price(price)
    return tick if tick < price else round(tick - spec.price_increment, spec.price_precision)


def _above(price: float, spec: ContractSpec) -> float:
    tick = spec.ceil_price(price)
    return tick if tick > price else round(tick + spec.price_increment, spec.price_precision)


def requote(
    standing: Sequence[WorkingOrder],
    wanted: Sequence[Rung],
    increment: float,
    *,
    tolerance: float = 0.0,
    slack: float = 0.0,
) -> tuple[Intent, ...]:
    """The fewest commands from the standing orders to the wanted ladder.

    An order that already stands as wanted keeps its place in the queue; others are moved (one command) rather
    than cancelled and sent anew (two); what is left over is cancelled, what is missing is sent.

    Parameters
    ----------
    increment : float
        Size increment: quantities closer than half of it are equal.
    tolerance : float
        How far from its price an order may stand, so that one held back from taking does not follow the
        market tick by tick.
    slack : float
        How many contracts less than wanted an order may have, so that a small fill elsewhere moves nothing.
    """
    less = max(slack, 0.5 * increment)
    cancels: list[Intent] = []
    amends: list[Intent] = []
    places: list[Intent] = []
    for side, reduce_only in ((1, False), (1, True), (-1, False), (-1, True)):
        olds = [o for o in standing if o.side == side and o.reduce_only == reduce_only]
        missing = []
        for rung in wanted:
            if rung.side != side or rung.reduce_only != reduce_only:
                continue
            alike = [o for o in olds if -0.5 * increment < rung.quantity - o.quantity < less]
            nearest = min(alike, key=lambda o: abs(o.price - rung.price), default=None)
            if nearest is not None and abs(nearest.price - rung.price) <= tolerance:
                olds.remove(nearest)
            else:
                missing.append(rung)
        # Nearest to the market with nearest: moves stay short.
        olds.sort(key=lambda o: -side * o.price)
        missing.sort(key=lambda r: -side * r.price)
        cancels += [Cancel(o.id) for o in olds[len(missing) :]]
        amends += [Amend(o.id, r.quantity, r.price) for o, r in zip(olds, missing, strict=False)]
        places += [
            Place.passive("quote", side, r.quantity, r.price, reduce_only) for r in missing[len(olds) :]
        ]
    return (*cancels, *amends, *places)
