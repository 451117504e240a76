"""The stops that protect a position: which stand, which are missing, and how to get there in few commands."""

from collections.abc import Sequence

from strategies.contracts import ContractSpec
from strategies.policy import Amend, Cancel, Intent, Place, WorkingOrder


def keep_stops(
    position: float, level: float, stops: Sequence[WorkingOrder], spec: ContractSpec, *, alone: bool
) -> tuple[Intent, ...]:
    """Commands that leave stops of the position's size at ``level``, and no others.

    Parameters
    ----------
    position : float
        Signed contracts, not zero.
    level : float
        Trigger price.
    stops : sequence of WorkingOrder
        Those that may still fill. While the venue owes an answer about one, the position's stops wait for it.
    alone : bool
        Whether the venue's net position is this one: see ``ContractSpec.closing``.
    """
    side = -1 if position > 0 else 1
    strangers = tuple(Cancel(o.id) for o in stops if o.side != side and not o.pending)
    standing = [o for o in stops if o.side == side]
    if any(o.pending for o in standing):
        return strangers
    level = spec.floor_price(level) if side > 0 else spec.ceil_price(level)
    held = abs(position)
    pieces = spec.closing(held, level, alone=alone, resting=True)
    changed: list[Intent] = []
    for order, piece in zip(standing, pieces, strict=False):
        # Nautilus resizes a reduce-only order to the whole position at every fill; where the position is ours
        # alone that closes no more than it should.
        least, most = min(piece, held), max(piece, held) if alone else piece
        enough = least - 0.5 * spec.size_increment < order.quantity < most + 0.5 * spec.size_increment
        if not enough or abs(order.price - level) > 0.5 * spec.price_increment:
            changed.append(Amend(order.id, piece, level))
    missing = [Place.stop(side, piece, level) for piece in pieces[len(standing) :]]
    surplus = [Cancel(o.id) for o in standing[len(pieces) :]]
    return (*strangers, *changed, *missing, *surplus)
