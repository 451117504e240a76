"""Every position under a stop of its size: the pure rule, and desks at a venue that misbehaves at random."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import records
from strategies.contracts import ContractSpec
from strategies.desk.protection import keep_stops
from strategies.policy import Amend, Cancel, Decision, Place, WorkingOrder
from tests.strategies.rough_venue import RoughVenue

SPEC = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3, min_quantity=0.01, max_quantity=4.0, min_notional=5.0)


def stop(key, quantity, price=98.0, side=-1, *, pending=False, capped=True):
    return WorkingOrder(key, "stop", "stop", side, quantity, price, True, pending, False, capped)


def kept(position, *stops, level=98.0, alone=True):
    return keep_stops(position, level, stops, SPEC, alone=alone)


def placed(*quantities, side=-1, level=98.0):
    return tuple(Place.stop(side, q, level) for q in quantities)


def test_a_position_gets_a_stop_of_its_size_rounded_towards_its_entry():
    assert kept(1.5, level=97.94) == placed(1.5)
    assert kept(-1.5, level=102.06) == placed(1.5, side=1, level=102.0)


def test_a_stop_that_stands_is_left_alone_and_one_of_another_size_or_level_changed():
    assert kept(1.5, stop("a", 1.5)) == ()
    assert kept(2.0, stop("a", 1.5)) == (Amend("a", 2.0, 98.0),)
    assert kept(1.0, stop("a", 1.5)) == (Amend("a", 1.0, 98.0),)
    assert kept(1.5, stop("a", 1.5), level=97.0) == (Amend("a", 1.5, 97.0),)
    assert kept(2.0, stop("a", 1.5, pending=True)) == ()


def test_stops_of_the_other_side_and_surplus_ones_go():
    assert kept(1.5, stop("a", 1.5, 102.0, 1), stop("b", 1.5)) == (Cancel("a"),)
    assert kept(1.5, stop("a", 1.5), stop("b", 1.5)) == (Cancel("b"),)


def test_a_position_larger_than_an_order_may_be_gets_several():
    assert kept(9.0) == placed(4.0, 4.0, 1.0)
    # Resized by Nautilus to the whole position each: no more is closed than there is.
    assert kept(9.0, stop("a", 9.0), stop("b", 9.0), stop("c", 9.0)) == ()


def test_a_position_smaller_than_an_order_may_be_is_covered_by_the_smallest():
    assert kept(0.003) == placed(0.01)
    assert kept(0.003, stop("a", 0.003)) == ()  # as Nautilus resized it
    assert kept(0.003, alone=False) == ()  # there it would close what is another's


def test_beside_another_position_a_stop_is_exact():
    assert kept(1.5, stop("a", 1.5, capped=False), alone=False) == ()
    assert kept(1.5, stop("a", 2.5, capped=False), alone=False) == (Amend("a", 1.5, 98.0),)


@pytest.mark.parametrize(
    ("quantity", "alone", "resting", "pieces"),
    [
        (1.5, True, False, (1.5,)),
        (9.5, True, False, (4.0, 4.0, 1.5)),
        (8.0, False, True, (4.0, 4.0)),
        (0.0035, True, False, (0.01,)),  # under the minimum quantity
        (0.0123, True, False, (0.013,)),  # a rest of a former lot
        (0.0123, False, False, (0.012,)),
        (0.012, False, False, (0.012,)),  # worth 1.2: an order at market only reduces
        (0.012, False, True, ()),  # one that rests does not say so
        (0.003, False, False, ()),
        (4.003, False, False, (2.001, 2.002)),  # the rest is dust by itself
        (0.0, True, False, ()),
    ],
)
def test_the_orders_that_close_a_position(quantity, alone, resting, pieces):
    assert SPEC.closing(quantity, 100.0, alone=alone, resting=resting) == pytest.approx(pieces)


def test_a_maximum_of_notional_divides_too():
    spec = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3, max_notional=250.0)
    assert spec.closing(6.0, 100.0, alone=True, resting=False) == (2.475, 2.475, 1.05)
    inverse = ContractSpec(True, 1.0, 0.5, 100.0, 1, 0, max_notional=1_000.0)
    assert inverse.closing(2_300.0, 10_000.0, alone=True, resting=False) == (900.0, 900.0, 500.0)


@given(st.integers(0, 2**32), st.sampled_from((1, 2)), st.sampled_from((0.0, 0.1, 0.5)))
@settings(max_examples=60, deadline=None)
def test_positions_are_protected_whatever_the_venue_does(seed, desks, refuses):
    venue = RoughVenue(seed, desks, refuses)
    rng = venue.rng
    for _ in range(120):
        venue.bar(
            rng.choices(("active", "reduce_only", "halted"), (8, 1, 1))[0], rng.choice((-1, 0, 0, 1, 1))
        )
        venue.serve(rng.randint(0, 6))
        venue.move(venue.price * (1 + rng.gauss(0, 0.004)))
        venue.serve(rng.randint(0, 6))
        if rng.random() < 0.5:
            venue.settle()
            venue.check_protected()
    positions = sum(desk.position for desk in venue.trader.desks.values())
    assert positions == pytest.approx(venue.net, abs=1e-6)


def test_a_venue_that_takes_orders_again_is_left_flat_by_a_halt():
    for seed in range(10):
        venue = RoughVenue(seed, 1, 0.4)
        for _ in range(60):
            venue.bar("active", 0)
            venue.serve(4)
            venue.move(venue.price * (1 + venue.rng.gauss(0, 0.004)))
        venue._refuses = 0.0
        for _ in range(12):
            venue.bar("halted", 0)
            venue.settle()
        assert venue.net == 0
        assert all(order.closed for order in venue.book.values())


class NoStops(RoughVenue):
    """Takes everything but stops."""

    def __init__(self):
        super().__init__(1, 1, 0.0)
        self.rng.random = lambda: 0.5  # nothing is filled in part
        desk = self.trader.desks["d0"]
        wishes = [Decision("enter", "", (Place("entry", 1, 2.0),))]
        desk.policy.decide = lambda _view: wishes.pop() if wishes else Decision("hold", "")
        self.desk, self.tries = desk, []

    def submit_order(self, order):
        self._refuses = 1.0 if order.role == "stop" else 0.0
        super().submit_order(order)
        self._refuses = 0.0


def test_a_position_whose_stop_is_refused_three_times_is_closed():
    venue, held = NoStops(), []
    for _ in range(7):
        venue.bar("active", 0)
        venue.settle()
        held.append(venue.net)
    stops = [order.ts_init // 10**9 for order in venue.placed if order.role == "stop"]
    assert stops == [1, 2, 4]  # at the fill, a bar later, two bars later
    assert held == [2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    reasons = venue.journal.tables()[records.Decision]["reason"].to_pylist()
    assert reasons == ["", "", "", "stop refused 3 times: closed at market", "", "", ""]


def test_a_stop_that_the_venue_cancels_is_renewed_at_once_and_then_at_bars():
    venue = NoStops()
    venue.submit_order = lambda order: RoughVenue.submit_order(venue, order)
    venue.bar("active", 0)
    venue.settle()
    for _ in range(2):
        (stop,) = [o for o in venue.placed if o.role == "stop" and not o.closed]
        venue._close(stop, "OrderCanceled")
        venue.settle()
    # The second time within the bar it waits for the next.
    assert len([o for o in venue.placed if o.role == "stop"]) == 2
    venue.bar("active", 0)
    venue.settle()
    venue.check_protected()
    assert [o.quantity for o in venue.placed if o.role == "stop" and not o.closed] == [2.0]


def test_a_stop_follows_partial_fills_and_is_turned_with_the_position():
    venue = NoStops()
    venue.submit_order = lambda order: RoughVenue.submit_order(venue, order)
    quotes = (Place.passive("quote", 1, 3.0, 99.0), Place.passive("quote", -1, 4.0, 101.0))
    wishes = [Decision("ladder", "", quotes)]
    venue.desk.policy.decide = lambda _view: wishes.pop() if wishes else Decision("hold", "")
    venue.bar("active", 0)
    venue.settle()
    (bid,) = [o for o in venue.placed if o.sign > 0]
    (ask,) = [o for o in venue.placed if o.sign < 0]
    seen = []
    for order, part in ((bid, 0.5), (bid, 1.0), (ask, 0.7), (ask, 2.3)):
        venue._fill_part(order, part)
        venue.settle()
        (stop,) = [o for o in venue.placed if o.role == "stop" and not o.closed]
        seen.append((venue.net, stop.sign * (stop.quantity - stop.filled)))
    assert seen == [(0.5, -0.5), (1.5, -1.5), (0.8, -0.8), (-1.5, 1.5)]
