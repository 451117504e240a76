"""The one door: every order intent passes here, and leaves with no more than permit and caps allow."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from strategies.policy import Amend, Cancel, Intent, Limits, Place, WorkingOrder
from strategies.sizing import ContractSpec


class Passed(NamedTuple):
    """What the door lets through, in order, and the cap that cut or refused something, else ``""``."""

    intents: tuple[Intent, ...]
    bound: str


def admit(
    intents: Iterable[Intent],
    position: float,
    orders: Iterable[WorkingOrder],
    limits: Limits,
    price: float,
    spec: ContractSpec,
) -> Passed:
    """Cut each intent to what may pass; drop what may not.

    An order that is not reduce-only passes only where ``limits.may_add``, and only as far as position and all
    working orders of its side, were they all to fill, stay within ``limits.quantity`` (on the side against
    ``limits.others``: within what is held the other way); an order whose cancel is on its way still counts. A
    reduce-only order passes under every permit, never larger than the position. Quantities are rounded down
    to the lot, limit prices to the passive side, stop prices towards the entry.

    Parameters
    ----------
    position : float
        Signed contracts.
    price : float
        The market's, for market orders' notional.

    Raises
    ------
    ValueError
        If an intent's side is neither 1 nor -1, or its quantity or price no positive number: no cap could be
        compared with it.
    """
    working = {order.id: order for order in orders}
    passed: list[Intent] = []
    bound = ""
    for intent in intents:
        if isinstance(intent, Cancel):
            passed.append(intent)
            continue
        if isinstance(intent, Amend):
            old = working.pop(intent.id, None)
            if old is None:  # filled or gone meanwhile
                continue
            wanted = Place(old.role, old.side, intent.quantity, intent.price, old.reduce_only)
        else:
            wanted = intent
        _check(wanted)
        quantity, cut = _quantity(wanted, position, working.values(), limits, price, spec)
        bound = cut or bound
        limit = None if wanted.price is None else _price(wanted, spec)
        if isinstance(intent, Amend):
            assert limit is not None
            passed.append(Amend(intent.id, quantity, limit) if quantity > 0 else Cancel(intent.id))
            key = intent.id
            # Until the venue answers, the old order may still fill: the larger of both counts.
            standing = max(quantity, old.quantity)  # type: ignore[union-attr]
        else:
            if quantity == 0:
                continue
            passed.append(wanted._replace(quantity=quantity, price=limit))
            if not wanted.reduce_only:
                limits = limits._replace(margin=limits.margin - quantity)
            key, standing = f"new-{len(passed)}", quantity
        working[key] = WorkingOrder(key, wanted.role, wanted.side, standing, price, wanted.reduce_only, True)
    return Passed(tuple(passed), bound)


def _check(wanted: Place) -> None:
    if wanted.side not in (1, -1):
        raise ValueError(f"intent {wanted.role!r}: side {wanted.side!r} is neither 1 (buys) nor -1 (sells)")
    for name, value in (("quantity", wanted.quantity), ("price", wanted.price)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"intent {wanted.role!r}: {name} {value!r} is not a positive number")


def _quantity(
    wanted: Place,
    position: float,
    orders: Iterable[WorkingOrder],
    limits: Limits,
    price: float,
    spec: ContractSpec,
) -> tuple[float, str]:
    held = wanted.side * position  # what is held in the order's own direction
    if wanted.reduce_only:
        room = max(0.0, -held)
        if wanted.role == "quote":  # it rests beside others of its kind; an exit goes over them
            same = (o for o in orders if o.side == wanted.side and o.reduce_only and o.role == "quote")
            room = max(0.0, room - sum(o.quantity for o in same))
        quantity = spec.floor_quantity(min(wanted.quantity, room))
        return quantity, "position" if room < wanted.quantity else ""
    if not limits.may_add:
        return 0.0, limits.permit if limits.permit != "active" else "regime"
    ahead = held + sum(o.quantity for o in orders if o.side == wanted.side and not o.reduce_only)
    most = (0.0, "netting") if limits.others * wanted.side < 0 else (limits.quantity, limits.bound)
    caps = ((most[0] - ahead, most[1]), (limits.margin + max(0.0, -held), "margin"))
    room, bound = min(caps)
    quantity = spec.floor_quantity(min(wanted.quantity, room))
    short = spec.below_minimum(quantity, wanted.price or price)
    if short and not (room < wanted.quantity):
        return 0.0, short
    return (0.0 if short else quantity), bound if room < wanted.quantity else ""


def _price(wanted: Place, spec: ContractSpec) -> float:
    assert wanted.price is not None
    # A passive buy rounds down and a passive sell up; so do stops, which brings them towards the entry they
    # protect.
    return spec.floor_price(wanted.price) if wanted.side > 0 else spec.ceil_price(wanted.price)
