"""Execution algorithms: what they make of a wish, how they are found, and that a role is but a label."""

import math
from typing import Any, ClassVar, Literal

import pytest

from strategies import execution
from strategies.execution import ExecutionSettings, Market
from strategies.momentum import MomentumSettings
from strategies.policy import Amend, Decision, Place
from tests.strategies.tiny_market import CHOP, Says, play

PRICED, UNPRICED = Market(100.0, True), Market(100.0, False)
KNOWN = execution.algorithms()


class HalvesSettings(ExecutionSettings):
    """Two orders at market, half each: a part of somebody's own."""

    works: ClassVar[tuple[Literal["market", "limit", "stop"], ...]] = ("market",)
    kind: Literal["halves"] = "halves"

    def orders(self, wanted: Place, market: Market) -> tuple[Place, ...]:
        half = wanted._replace(quantity=wanted.quantity / 2)
        return (half, half)


class DoublesSettings(HalvesSettings):
    """Makes more than was wanted."""

    kind: Literal["doubles"] = "doubles"  # type: ignore[assignment]

    def orders(self, wanted: Place, market: Market) -> tuple[Place, ...]:
        return (wanted, wanted)


def test_both_algorithms_are_found_by_their_kind() -> None:
    assert {"market", "passive"} <= set(KNOWN)
    assert KNOWN["market"].kind == "market"


def test_an_order_at_market_goes_as_it_is_where_it_can_be_judged() -> None:
    wanted = Place("entry", 1, 2.0)
    assert execution.work([wanted], KNOWN, PRICED) == (wanted,)
    stop = Place.stop(-1, 2.0, 98.0)
    assert execution.work([stop], KNOWN, UNPRICED) == (stop,)


@pytest.mark.parametrize(("side", "far"), [(1, 105.0), (-1, 95.0)])
def test_elsewhere_a_limit_through_the_market_stands_in_for_it(side: int, far: float) -> None:
    (order,) = execution.work([Place("exit", side, 2.0, reduce_only=True)], KNOWN, UNPRICED)
    assert (order.kind, order.time_in_force, order.post_only) == ("limit", "ioc", False)
    assert order.price == pytest.approx(far)
    assert order.exits  # and is treated as what it stands in for
    assert not order.resting


def test_passive_never_takes() -> None:
    (order,) = execution.work([Place.passive("quote", 1, 2.0, 99.0)], KNOWN, PRICED)
    assert (order.kind, order.time_in_force, order.post_only) == ("limit", "gtc", True)
    assert order.resting


def test_what_is_no_new_order_passes() -> None:
    assert execution.work([Amend("a", 1.0, 99.0)], KNOWN, PRICED) == (Amend("a", 1.0, 99.0),)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (
            Place("entry", 1, 2.0, algorithm="twap"),
            "no execution algorithm 'twap'; there are .*market.*passive",
        ),
        (Place("entry", 1, 2.0, algorithm="passive"), "'passive' works limit orders, not a market one"),
        (
            Place("quote", 1, 2.0, 99.0, kind="limit"),
            "'market' works market and stop orders, not a limit one",
        ),
        (Place("entry", 1, 2.0, algorithm="doubles"), "'doubles' makes 4 contracts of 2"),
    ],
)
def test_what_an_algorithm_may_not_do_is_told(wanted: Place, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        execution.work([wanted], execution.algorithms(), PRICED)


class Steps:
    """Carries out one list of intents a bar, with every label replaced where one is given."""

    def __init__(self, *steps: Any, label: str = "") -> None:
        self._steps, self._label = list(steps), label

    def decide(self, view: Any) -> Decision:
        wanted = self._steps.pop(0) if self._steps else ()
        if callable(wanted):
            wanted = wanted(view)
        if self._label:
            wanted = [i._replace(role=self._label) if isinstance(i, Place) else i for i in wanted]
        return Decision("step" if wanted else "none", "", tuple(wanted))

    def stop_price(self, position: float, entry_price: float) -> float:
        return math.nan

    def stopped(self, ts: int) -> None:
        pass

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, memory: dict[str, Any]) -> None:
        pass


MOMENTUM = MomentumSettings(regimes=("chop",))
PRICES = [100.0] * 4 + [99.0, 101.0, 100.0, 100.0, 97.0, 97.0]


def run(policy: Steps) -> Any:
    played = play(MOMENTUM, PRICES, lambda i: Says(regime=CHOP), policy=policy)
    assert not played.failures
    return played


def test_a_role_decides_nothing() -> None:
    def steps() -> list[Any]:
        return [
            [
                Place("entry", 1, 3.0),
                Place.passive("quote", 1, 2.0, 99.0),
                Place.passive("quote", -1, 1.0, 100.5),
            ],
            (),
            lambda view: [Place("exit", -1, view.position / 2, reduce_only=True)],
            (),
            [Place.passive("quote", -1, 1.0, 100.8, reduce_only=True)],
            (),
            [Place("entry", 1, 2.0)],  # into the stop
        ]

    plain, labelled = run(Steps(*steps())), run(Steps(*steps(), label="stop"))
    assert [f["side"] for f in plain.fills][-2:] == [-1, -1]  # at the stop
    assert len(plain.fills) > 5
    assert repr(plain.decisions) == repr(labelled.decisions)  # NaN is not itself
    assert plain.fills == labelled.fills
    assert {o.tags[0] for o in labelled.orders} == {"stop"}


def test_an_algorithm_of_ones_own_sends_its_orders_through_the_door() -> None:
    played = run(Steps([Place("entry", 1, 3.0, algorithm="halves")]))
    entries = [o.quantity.as_double() for o in played.orders if o.tags[0] == "entry"]
    assert entries == [1.5, 1.5]
    assert played.decisions[0]["size"] == 3.0
    # The cap of the exposure, 100 contracts at 100, cuts the second half.
    played = run(Steps([Place("entry", 1, 120.0, algorithm="halves")]))
    assert [o.quantity.as_double() for o in played.orders if o.tags[0] == "entry"] == [60.0, 40.0]
    assert played.decisions[0]["bound"] == "exposure_cap"
