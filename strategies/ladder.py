"""The grid's ladder: which passive orders stand around a fair value, and how to get there in few commands."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from strategies.policy import Amend, Cancel, Intent, Place, WorkingOrder
from strategies.sizing import ContractSpec


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
    tick that does not, and orders of one price are one order.

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
    rungs: dict[tuple[int, float], float] = {}
    for side in (1, -1):
        # Seen from the side of the order: levels still free in its direction, and where the last one is.
        held = side * m
        last = 0 if reduce_only else levels
        k = math.floor(held + 1e-9) + 1
        if k < -levels:  # more held than the ladder is wide: the rest joins the outermost level
            k = -levels
        done = held
        while k <= last:
            quantity = (k - done) * unit
            level = center - side * k * spacing
            if side > 0:
                level = min(spec.floor_price(level), _below(ask, spec))
            else:
                level = max(spec.ceil_price(level), _above(bid, spec))
            small = spec.floor_quantity(quantity) == 0 if reduce_only else spec.below_minimum(quantity, level)
            if level > 0 and not small:  # too small an order joins the next level
                done = k
                rungs[side, level] = rungs.get((side, level), 0.0) + quantity
            k += 1
    wanted = (Rung(side, level, spec.floor_quantity(q), reduce_only) for (side, level), q in rungs.items())
    return tuple(rung for rung in wanted if rung.quantity > 0)


def _below(price: float, spec: ContractSpec) -> float:
    """The highest tick under ``price``."""
    tick = spec.floor_price(price)
    return tick if tick < price else round(tick - spec.price_increment, spec.price_precision)


def _above(price: float, spec: ContractSpec) -> float:
    tick = spec.ceil_price(price)
    return tick if tick > price else round(tick + spec.price_increment, spec.price_precision)


def requote(standing: Sequence[WorkingOrder], wanted: Sequence[Rung], increment: float) -> tuple[Intent, ...]:
    """The fewest commands from the standing orders to the wanted ladder.

    An order that already stands as wanted keeps its place in the queue; others are moved (one command) rather
    than cancelled and sent anew (two); what is left over is cancelled, what is missing is sent.

    Parameters
    ----------
    increment : float
        Size increment: quantities closer than half of it are equal.
    """
    free = {(o.side, o.price, o.reduce_only): o for o in standing}
    spare = [o for o in standing if free[o.side, o.price, o.reduce_only] is not o]
    missing: list[Rung] = []
    for rung in wanted:
        order = free.pop((rung.side, rung.price, rung.reduce_only), None)
        if order is None:
            missing.append(rung)
        elif abs(order.quantity - rung.quantity) >= 0.5 * increment:
            spare.append(order)
            missing.append(rung)
    spare.extend(free.values())
    cancels: list[Intent] = []
    amends: list[Intent] = []
    places: list[Intent] = []
    for side, reduce_only in ((1, False), (1, True), (-1, False), (-1, True)):
        olds = [o for o in spare if o.side == side and o.reduce_only == reduce_only]
        rungs = [r for r in missing if r.side == side and r.reduce_only == reduce_only]
        # Nearest to the market with nearest: moves stay short.
        olds.sort(key=lambda o: -side * o.price)
        rungs.sort(key=lambda r: -side * r.price)
        cancels += [Cancel(o.id) for o in olds[len(rungs) :]]
        amends += [Amend(o.id, r.quantity, r.price) for o, r in zip(olds, rungs, strict=False)]
        places += [Place("quote", side, r.quantity, r.price, reduce_only) for r in rungs[len(olds) :]]
    return (*cancels, *amends, *places)
