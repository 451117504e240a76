"""A stage over several bundles: who speaks when, and that a bar at a time says what one batch says."""

import copy
import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from core.causal import Params, State
from core.table import FeatureTable
from engine.stages import Stage, Validity


@dataclasses.dataclass(frozen=True)
class Total(Params):
    """Adds up what it has seen, plus an offset that tells which bundle speaks."""

    kind: ClassVar[str] = "test-total"
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    outputs: ClassVar[tuple[str, ...]] = ("total",)
    offset: float

    def initial_state(self) -> State:
        return {"sum": np.zeros(1)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        sums = state["sum"][0] + np.cumsum(xs, axis=0)
        state["sum"][0] = sums[-1, 0] if len(xs) else state["sum"][0]
        return self.offset + sums


@pytest.fixture
def stage() -> Stage:
    return Stage(
        (
            (Validity("a", 10, 20), Total(100.0)),
            (Validity("b", 20, 30), Total(200.0)),
            (Validity("c", 40, 50), Total(300.0)),
        ),
        warmup=3,
    )


def test_who_speaks_when(stage: Stage) -> None:
    ts = np.arange(60)
    table = FeatureTable(ts, ("y", "x"), np.column_stack((np.full(60, -1.0), np.ones(60))))
    out = stage.run(table).column("total")
    # Each filter has seen the 3 bars before its validity: at its first bar it has added up 4.
    expected = np.full(60, np.nan)
    expected[10:20] = 100 + np.arange(4, 14)
    expected[20:30] = 200 + np.arange(4, 14)
    expected[40:50] = 300 + np.arange(4, 14)
    np.testing.assert_array_equal(out, expected)


def test_a_bar_at_a_time_says_the_same(stage: Stage) -> None:
    ts = np.arange(0, 60, 1)
    values = np.random.default_rng(1).normal(size=(60, 2))
    table = FeatureTable(ts, ("x", "y"), values)
    online = stage.online(table.names)
    said = np.array([online.step(int(t), row) for t, row in zip(ts, values, strict=True)])
    np.testing.assert_allclose(said, stage.run(table).values, rtol=1e-12)


def test_running_state_round_trip(stage: Stage) -> None:
    online, names = stage.online(("x",)), ("x",)
    for t in range(18):
        online.step(t, np.ones(1))
    resumed = stage.online(names)
    resumed.load(copy.deepcopy(online.save()))
    for t in range(18, 60):
        np.testing.assert_array_equal(resumed.step(t, np.ones(1)), online.step(t, np.ones(1)))


def test_overlapping_bundles_are_refused() -> None:
    with pytest.raises(ValueError, match="a and b are both valid"):
        Stage(((Validity("a", 0, 20), Total(1.0)), (Validity("b", 10, 30), Total(2.0))), warmup=0)
