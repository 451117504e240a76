"""The one door: what may pass under which permit, and that no cap is ever exceeded."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.contracts import ContractSpec
from strategies.door import admit
from strategies.policy import Amend, Cancel, Limits, Place, WorkingOrder

SPEC = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3, min_quantity=0.001, min_notional=5.0)
OPEN = Limits("active", True, 2.0, "exposure_cap", 10.0)
SHUT = Limits("reduce_only", False, 0.0, "", 0.0)


def door(intents, position=0.0, orders=(), limits=OPEN):
    return admit(intents, position, orders, limits, 100.0, SPEC)


def order(key, side, quantity, reduce_only=False, price=99.0):
    return WorkingOrder(key, "quote", "limit", side, quantity, price, reduce_only, False)


def test_a_size_within_the_caps_passes_rounded_down():
    passed = door([Place("entry", 1, 0.12345)])
    assert passed.intents == (Place("entry", 1, 0.123),)
    assert passed.bound == ""


def test_the_cap_cuts_and_is_named():
    passed = door([Place("entry", 1, 5.0)], position=0.5)
    assert passed.intents == (Place("entry", 1, 1.5),)
    assert passed.bound == "exposure_cap"


def test_margin_cuts_only_what_adds():
    limits = OPEN._replace(margin=0.3)
    assert door([Place("entry", 1, 1.0)], limits=limits) == ((Place("entry", 1, 0.3),), "margin")
    assert door([Place("entry", 1, 1.0)], position=-0.7, limits=limits) == ((Place("entry", 1, 1.0),), "")


def test_working_orders_use_the_cap_up():
    orders = [order("a", 1, 1.2), order("b", -1, 1.9), order("c", 1, 5.0, reduce_only=True)]
    assert door([Place.passive("quote", 1, 1.0, 99.0)], orders=orders).intents[0].quantity == 0.8


def test_intents_of_one_bar_count_together():
    passed = door(
        [
            Place.passive("quote", 1, 1.5, 99.0),
            Place.passive("quote", 1, 1.5, 98.0),
            Place.passive("quote", 1, 1.5, 97.0),
        ]
    )
    assert [i.quantity for i in passed.intents] == [1.5, 0.5]


def test_an_amended_order_counts_once_but_with_its_larger_quantity():
    orders = [order("a", 1, 1.5)]
    assert door([Amend("a", 1.8, 98.0)], orders=orders).intents == (Amend("a", 1.8, 98.0),)
    passed = door([Amend("a", 0.5, 98.0), Place.passive("quote", 1, 1.0, 97.0)], orders=orders)
    assert [i.quantity for i in passed.intents] == [0.5, 0.5]


def test_an_amendment_that_may_not_add_becomes_a_cancel():
    assert door([Amend("a", 1.0, 98.0)], orders=[order("a", 1, 1.0)], limits=SHUT).intents == (Cancel("a"),)
    assert door([Amend("gone", 1.0, 98.0)]).intents == ()


def test_nothing_adds_without_the_permit():
    assert door([Place("entry", 1, 1.0)], limits=SHUT) == ((), "reduce_only")
    assert door([Place("entry", -1, 1.0)], position=1.0, limits=SHUT) == ((), "reduce_only")
    foreign = Limits("active", False, 0.0, "", 0.0)
    assert door([Place("entry", 1, 1.0)], limits=foreign) == ((), "regime")


def test_nothing_is_opened_against_what_the_others_hold():
    against = OPEN._replace(others=-0.5)
    assert door([Place("entry", 1, 1.0)], limits=against) == ((), "netting")
    assert door([Place("entry", -1, 1.0)], limits=against).intents[0].quantity == 1.0
    # A grid that is short itself may buy that back.
    buys = [Place.passive("quote", 1, 0.4, 99.0), Place.passive("quote", 1, 0.4, 98.0)]
    passed = door(buys, position=-0.6, limits=against)
    assert [i.quantity for i in passed.intents] == [0.4, 0.2]
    assert passed.bound == "netting"


def test_reducing_passes_always_but_never_turns_the_position():
    for limits in (OPEN, SHUT, SHUT._replace(permit="halted")):
        passed = door([Place("exit", -1, 3.0, reduce_only=True)], position=1.0, limits=limits)
        assert passed.intents == (Place("exit", -1, 1.0, reduce_only=True),)
        assert passed.bound == "position"
    assert door([Place("exit", 1, 1.0, reduce_only=True)], position=1.0).intents == ()


def test_quotes_that_reduce_share_the_position():
    passed = door(
        [Place.passive("quote", -1, 1.0, 101.0, True), Place.passive("quote", -1, 1.0, 102.0, True)],
        position=1.5,
    )
    assert [i.quantity for i in passed.intents] == [1.0, 0.5]


def test_orders_of_one_bar_share_the_margin():
    limits = OPEN._replace(margin=1.2)
    passed = door([Place.passive("quote", 1, 0.8, 99.0), Place.passive("quote", 1, 0.8, 98.0)], limits=limits)
    assert [i.quantity for i in passed.intents] == pytest.approx([0.8, 0.4])
    assert passed.bound == "margin"


def test_prices_round_away_from_the_market_and_stops_towards_the_entry():
    passed = door([Place.passive("quote", 1, 1.0, 99.07), Place.passive("quote", -1, 1.0, 101.03)])
    assert [i.price for i in passed.intents] == [99.0, 101.1]
    (stop,) = door([Place.stop(-1, 1.0, 97.55)], position=1.0).intents
    assert stop.price == 97.6


def test_minimums_refuse():
    assert door([Place.passive("quote", 1, 0.01, 99.0)]) == ((), "min_notional")
    assert door([Place.passive("quote", 1, 0.0001, 99.0)]) == ((), "min_quantity")
    assert door([Place("exit", -1, 0.01, reduce_only=True)], position=0.01).intents  # a rest may always go


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Place("entry", 0, 1.0), "'entry': side 0 is neither"),
        (Place("entry", 3, 1.0), "'entry': side 3 is neither"),
        (Place("entry", 1, 0.0), "'entry': quantity 0.0 is not a positive number"),
        (Place("entry", 1, -1.0), "quantity -1.0"),
        (Place("entry", 1, math.nan), "quantity nan"),
        (Place("exit", -1, math.inf, reduce_only=True), "'exit': quantity inf"),
        (Place.passive("quote", 1, 1.0, 0.0), "'quote': price 0.0"),
        (Place.stop(-1, 1.0, math.nan), "'stop': price nan"),
        (Place.passive("quote", -1, 1.0, math.inf), "price inf"),
        (Place("entry", 1, 1.0, 99.0), "'entry': a market order with the price 99.0"),
        (Place("quote", 1, 1.0, kind="limit"), "'quote': a limit order with no price"),
        (Amend("a", math.nan, 98.0), "'quote': quantity nan"),
        (Amend("a", 1.0, -98.0), "'quote': price -98.0"),
    ],
)
def test_what_no_cap_can_be_compared_with_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        door([wrong], position=1.0, orders=[order("a", 1, 1.0)])


quantity = st.floats(0, 5, exclude_min=True)
side = st.sampled_from((1, -1))
intent = st.one_of(
    st.tuples(side, quantity, st.booleans()).map(lambda x: Place("entry", x[0], x[1], reduce_only=x[2])),
    st.tuples(side, quantity, st.floats(50, 150), st.booleans()).map(lambda x: Place.passive("quote", *x)),
    st.builds(Amend, st.sampled_from(("a", "b")), quantity, st.floats(50, 150)),
    st.builds(Cancel, st.sampled_from(("a", "b"))),
)


@given(
    st.lists(intent, max_size=6),
    st.floats(-2, 2),
    st.floats(0, 2),
    st.floats(0, 3),
    st.floats(0, 3),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_no_cap_is_exceeded_even_if_everything_fills(intents, position, working, most, margin, may_add):
    position = math.copysign(SPEC.floor_quantity(abs(position)), position)
    orders = (order("a", 1, 0.5), order("b", -1, SPEC.floor_quantity(working)))
    limits = Limits("active", may_add, most, "leverage", margin)
    passed = admit(intents, position, orders, limits, 100.0, SPEC)
    for side in (1, -1):
        standing = {o.id: o.quantity for o in orders if o.side == side}
        before = side * position + sum(standing.values())
        ids = {"a": 1, "b": -1}
        for i, p in enumerate(passed.intents):
            if isinstance(p, Place) and p.side == side and not p.reduce_only:
                standing[f"n{i}"] = p.quantity
            elif isinstance(p, Amend) and ids[p.id] == side:
                standing[p.id] = max(standing[p.id], p.quantity)
        after = side * position + sum(standing.values())
        # What stood before may exceed a cap that fell meanwhile; the door then adds nothing.
        assert after <= max(before, most) + 1e-6
        assert may_add or after <= before + 1e-9
    for p in passed.intents:
        if isinstance(p, Place) and p.reduce_only:
            assert p.quantity <= abs(position) + 1e-9
            assert p.side * position < 0
