"""The ladder against an example worked by hand, its bounds as properties, and its commands."""

from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.contracts import ContractSpec
from strategies.ladder import Rung, build_ladder, requote
from strategies.policy import Amend, Cancel, Place, WorkingOrder

SPEC = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3)


def ladder(inventory, price=100.0, center=100.0, **kw):
    return [tuple(r[:3]) for r in build_ladder(center, 1.0, 3, 0.5, inventory, price, price, SPEC, **kw)]


def test_flat_ladder_is_symmetric():
    assert ladder(0.0) == [
        (1, 99.0, 0.5),
        (1, 98.0, 0.5),
        (1, 97.0, 0.5),
        (-1, 101.0, 0.5),
        (-1, 102.0, 0.5),
        (-1, 103.0, 0.5),
    ]


def test_one_unit_long_sells_it_at_the_centre_and_buys_one_level_less():
    assert ladder(0.5, price=99.0) == [
        (1, 98.0, 0.5),
        (1, 97.0, 0.5),
        (-1, 100.0, 0.5),
        (-1, 101.0, 0.5),
        (-1, 102.0, 0.5),
        (-1, 103.0, 0.5),
    ]


def test_a_partly_filled_level_wants_its_rest():
    assert ladder(0.2, price=99.5)[0] == (1, 99.0, 0.3)
    assert (-1, 100.0, 0.2) in ladder(0.2, price=99.5)


def test_full_inventory_only_sells():
    assert [r[0] for r in ladder(1.5, price=96.5)] == [-1] * 6
    assert ladder(1.5, price=96.5)[0] == (-1, 98.0, 0.5)


def test_levels_on_the_wrong_side_join_the_last_passive_tick():
    rungs = ladder(0.0, price=98.45)
    # 99.0 would take at a mid of 98.45; 98.0 and 97.0 stand.
    assert rungs[:3] == [(1, 98.4, 0.5), (1, 98.0, 0.5), (1, 97.0, 0.5)]
    assert ladder(0.0, price=97.55)[:3] == [(1, 97.5, 0.5), (1, 97.5, 0.5), (1, 97.0, 0.5)]


def test_a_mid_on_a_tick_is_left_alone():
    assert ladder(0.0, price=99.0)[0] == (1, 98.9, 0.5)


def test_reduce_only_leads_home():
    assert ladder(1.0, price=98.0, reduce_only=True) == [(-1, 99.0, 0.5), (-1, 100.0, 0.5)]
    assert ladder(-0.7, price=101.0, reduce_only=True) == [(1, 101.0 - 0.1, 0.2), (1, 100.0, 0.5)]
    assert ladder(0.0, reduce_only=True) == []


def test_more_inventory_than_levels_is_sold_at_the_outermost():
    rungs = ladder(5.0, price=94.0)
    assert rungs[0] == (-1, 97.0, 3.5)  # ten units long: seven of them at the lowest level
    assert sum(r[2] for r in rungs) == 5.0 + 1.5


@given(st.floats(-3, 3), st.floats(90, 110), st.floats(0.05, 3), st.integers(1, 6), st.floats(0.01, 1))
@settings(max_examples=25, deadline=None)
def test_inventory_stays_bounded_and_orders_passive(units, price, spacing, levels, unit):
    unit = SPEC.floor_quantity(unit)
    inventory = round(units * unit, 3)
    rungs = build_ladder(100.0, spacing, levels, unit, inventory, price - 0.2, price + 0.2, SPEC)
    most = max(levels * unit, abs(inventory))
    for side in (1, -1):
        total = sum(r.quantity for r in rungs if r.side == side)
        assert side * inventory + total <= most + 1e-6
    for r in rungs:
        assert r.price < price + 0.2 if r.side > 0 else r.price > price - 0.2
        assert SPEC.floor_quantity(r.quantity) == r.quantity
    home = build_ladder(100.0, spacing, levels, unit, inventory, price, price, SPEC, reduce_only=True)
    assert sum(r.quantity for r in home) <= abs(inventory) + 1e-9
    assert all(r.side * inventory < 0 for r in home)


def order(key, side, price, quantity, reduce_only=False):
    return WorkingOrder(key, "quote", "limit", side, quantity, price, reduce_only, False)


def rung(side, price, quantity, reduce_only=False):
    return Rung(side, price, quantity, reduce_only)


def test_a_ladder_that_stands_needs_no_command():
    assert requote([order("a", 1, 99.0, 0.5)], [rung(1, 99.0, 0.5)], 0.001) == ()


def test_orders_are_moved_nearest_to_nearest():
    standing = [order("far", 1, 97.0, 0.5), order("near", 1, 99.0, 0.5), order("sell", -1, 101.0, 0.5)]
    wanted = [rung(1, 99.2, 0.5), rung(1, 97.2, 0.4), rung(-1, 101.0, 0.5)]
    assert requote(standing, wanted, 0.001) == (Amend("near", 0.5, 99.2), Amend("far", 0.4, 97.2))


def test_left_over_is_cancelled_and_missing_is_sent():
    standing = [order("a", 1, 99.0, 0.5)]
    assert requote(standing, [rung(-1, 101.0, 0.5)], 0.001) == (
        Cancel("a"),
        Place.passive("quote", -1, 0.5, 101.0),
    )


def test_a_little_less_is_left_alone_but_never_more():
    standing = [order("a", 1, 99.0, 0.49), order("b", -1, 101.0, 0.51)]
    wanted = [rung(1, 99.0, 0.5), rung(-1, 101.0, 0.5)]
    assert requote(standing, wanted, 0.001, slack=0.02) == (Amend("b", 0.5, 101.0),)


def test_an_order_never_changes_between_adding_and_reducing():
    standing = [order("a", -1, 101.0, 0.5)]
    wanted = [rung(-1, 101.0, 0.5, reduce_only=True)]
    assert requote(standing, wanted, 0.001) == (Cancel("a"), Place.passive("quote", -1, 0.5, 101.0, True))


def test_two_orders_of_one_price_are_two():
    standing = [order("a", 1, 99.0, 0.5), order("b", 1, 99.0, 0.5)]
    assert requote(standing, [rung(1, 99.0, 0.5)], 0.001) == (Cancel("b"),)
    assert requote(standing, [rung(1, 99.0, 0.5), rung(1, 99.0, 0.5)], 0.001) == ()


def test_an_order_near_enough_is_left_alone():
    standing = [order("a", 1, 99.0, 0.5), order("b", 1, 98.0, 0.5)]
    wanted = [rung(1, 99.3, 0.5), rung(1, 98.5, 0.5)]
    assert requote(standing, wanted, 0.001, tolerance=0.4) == (Amend("b", 0.5, 98.5),)


@given(
    st.lists(st.tuples(st.sampled_from((1, -1)), st.integers(900, 1100), st.integers(1, 5)), max_size=6),
    st.lists(st.tuples(st.sampled_from((1, -1)), st.integers(900, 1100), st.integers(1, 5)), max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_carrying_the_commands_out_gives_the_wanted_ladder(old, new):
    standing = [order(f"o{i}", s, p / 10, q / 10) for i, (s, p, q) in enumerate(old)]
    wanted = [rung(s, p / 10, q / 10) for (s, p), q in {(s, p): q for s, p, q in new}.items()]
    book = {o.id: (o.side, o.price, o.quantity) for o in standing}
    for i, intent in enumerate(requote(standing, wanted, 0.001)):
        if isinstance(intent, Cancel):
            del book[intent.id]
        elif isinstance(intent, Amend):
            book[intent.id] = (book[intent.id][0], intent.price, intent.quantity)
        else:
            book[f"n{i}"] = (intent.side, intent.price, intent.quantity)
    assert sorted(book.values()) == sorted((r.side, r.price, r.quantity) for r in wanted)


def test_a_rest_under_the_venues_minimum_joins_the_next_level():
    spec = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3, min_notional=5.0)
    # 0.01 contracts are missing on the first level: one dollar, too little to send.
    rungs = build_ladder(100.0, 1.0, 3, 0.5, 0.49, 99.0, 99.0, spec)
    assert [tuple(r[:3]) for r in rungs if r.side > 0] == [(1, 98.0, 0.51), (1, 97.0, 0.5)]
    assert next(tuple(r[:3]) for r in rungs if r.side < 0) == (-1, 100.0, 0.49)
    home = build_ladder(100.0, 1.0, 3, 0.5, 0.51, 98.9, 98.9, spec, reduce_only=True)
    assert [tuple(r[:3]) for r in home] == [(-1, 100.0, 0.51)]
