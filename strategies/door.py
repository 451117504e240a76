"""The one door: every order intent passes here, and leaves with no more than permit and caps allow."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from strategies.contracts import ContractSpec
from strategies.policy import Amend, Cancel, Intent, Limits, Place, WorkingOrder


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
    *,
    alone: bool = True,
) -> Passed:
    """Cut each intent to what may pass; drop what may not.

    An order that is not reduce-only passes only where ``limits.may_add``, and only as far as position and all
    working orders of its side, were they all to fill, stay within ``limits.quantity`` (on the side against
    ``limits.others``: within what is held the other way); an order whose cancel is on its way still counts. A
    reduce-only order passes under every permit, never closing more than the position: an exit or a stop as
    the orders that ``ContractSpec.closing`` says, which may be several. Other quantities are rounded down to
    the lot, limit prices to the passive side, stop prices towards the entry.

    Parameters
    ----------
    position : float
        Signed contracts.
    price : float
        The market's, for market orders' notional.
    alone : bool
        Whether the venue's net position is this one.

    Raises
    ------
    ValueError
        If an intent's side is neither 1 nor -1, its quantity or price no positive number, so that no cap
        could be compared with it, or it has a price that its kind has not.
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
            wanted = Place(old.role, old.side, intent.quantity, intent.price, old.reduce_only, old.kind)
        else:
            wanted = intent
        _check(wanted)
        if wanted.reduce_only and (wanted.exits or wanted.kind == "stop"):
            quantities, cut = _closing(wanted, position, price, spec, alone=alone)
        else:
            quantity, cut = _quantity(wanted, position, working.values(), limits, price, spec, alone=alone)
            quantities = (quantity,) if quantity > 0 else ()
        bound = cut or bound
        limit = None if wanted.price is None else _price(wanted, spec)
        if isinstance(intent, Amend):
            assert limit is not None
            quantity = quantities[0] if quantities else 0.0
            passed.append(Amend(intent.id, quantity, limit) if quantities else Cancel(intent.id))
            # Until the venue answers, the old order may still fill: the larger of both counts.
            standing = max(quantity, old.quantity)  # type: ignore[union-attr]
            working[intent.id] = _standing(intent.id, wanted, standing, price)
            continue
        for quantity in quantities:
            passed.append(wanted._replace(quantity=quantity, price=limit))
            if not wanted.reduce_only:
                limits = limits._replace(margin=limits.margin - quantity)
            key = f"new-{len(passed)}"
            working[key] = _standing(key, wanted, quantity, price)
    return Passed(tuple(passed), bound)


def _standing(key: str, wanted: Place, quantity: float, price: float) -> WorkingOrder:
    kind = wanted.kind if wanted.resting else "market"
    return WorkingOrder(key, wanted.role, kind, wanted.side, quantity, price, wanted.reduce_only, True)


def _closing(
    wanted: Place, position: float, price: float, spec: ContractSpec, *, alone: bool
) -> tuple[tuple[float, ...], str]:
    """The orders of an exit or a stop, and what cut them."""
    room = max(0.0, -wanted.side * position)
    level = _level(wanted, price)
    quantities = spec.closing(min(wanted.quantity, room), level, alone=alone, resting=wanted.resting)
    if room and not quantities:
        return (), "dust"
    return quantities, "position" if room < wanted.quantity and sum(quantities) < wanted.quantity else ""


def _level(wanted: Place, price: float) -> float:
    """The price to judge an order's notional by: its own where it rests, else the market's."""
    return wanted.price if wanted.resting and wanted.price is not None else price


def _check(wanted: Place) -> None:
    if wanted.side not in (1, -1):
        raise ValueError(f"intent {wanted.role!r}: side {wanted.side!r} is neither 1 (buys) nor -1 (sells)")
    for name, value in (("quantity", wanted.quantity), ("price", wanted.price)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"intent {wanted.role!r}: {name} {value!r} is not a positive number")
    if (wanted.price is None) != (wanted.kind == "market"):
        has = "no price" if wanted.price is None else f"the price {wanted.price!r}"
        raise ValueError(
            f"intent {wanted.role!r}: a {wanted.kind} order with {has}; limit and stop have one, market none"
        )


def _quantity(
    wanted: Place,
    position: float,
    orders: Iterable[WorkingOrder],
    limits: Limits,
    price: float,
    spec: ContractSpec,
    *,
    alone: bool,
) -> tuple[float, str]:
    held = wanted.side * position  # what is held in the order's own direction
    if wanted.reduce_only:  # it rests beside others of its kind; an exit goes over them
        same = (o for o in orders if o.side == wanted.side and o.reduce_only and o.kind == "limit")
        room = max(0.0, -held - sum(o.quantity for o in same))
        quantity = spec.floor_quantity(min(wanted.quantity, room))
        short = spec.below_minimum(quantity, _level(wanted, price))
        if short == "min_quantity" or (short and not alone):  # only a reduce-only order is spared the other
            return 0.0, "position" if room < wanted.quantity else short
        return quantity, "position" if room < wanted.quantity else ""
    if not limits.may_add:
        return 0.0, limits.permit if limits.permit != "active" else "regime"
    ahead = held + sum(o.quantity for o in orders if o.side == wanted.side and not o.reduce_only)
    most = (0.0, "netting") if limits.others * wanted.side < 0 else (limits.quantity, limits.bound)
    largest = (spec.most(_level(wanted, price)), "largest_order")
    caps = ((most[0] - ahead, most[1]), (limits.margin + max(0.0, -held), "margin"), largest)
    room, bound = min(caps)
    quantity = spec.floor_quantity(min(wanted.quantity, room))
    short = spec.below_minimum(quantity, _level(wanted, price))
    if short and not (room < wanted.quantity):
        return 0.0, short
    return (0.0 if short else quantity), bound if room < wanted.quantity else ""


def _price(wanted: Place, spec: ContractSpec) -> float:
    assert wanted.price is not None
    # A passive buy rounds down and a passive sell up; so do stops, which brings them towards the entry they
    # protect.
    return spec.floor_price(wanted.price) if wanted.side > 0 else spec.ceil_price(wanted.price)
