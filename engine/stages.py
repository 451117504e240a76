"""Walk-forward stages: which fitted filter speaks at which time, in research, backtest and live alike.

A *stage* (regime, volatility, forecast) is a sequence of causal filters, one a bundle, each with a validity
interval. At a bar that closes at ``ts`` the filter with ``valid_from <= ts < valid_to`` speaks; the next one
is already stepped for ``warmup`` before its turn so that its state has seen the recent past. Where no bundle
is valid the stage says NaN. The rule depends on the bars' times alone, so one batch and a bar at a time give
the same numbers.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from core.causal import CausalFilter, State
from core.table import FeatureTable


@dataclasses.dataclass(frozen=True)
class Validity:
    """The half-open interval, in ns of bar close, in which a bundle may speak."""

    bundle: str
    valid_from: int
    valid_to: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the pipeline over all bundles.

    Parameters
    ----------
    filters : sequence of (Validity, CausalFilter)
        Ascending, disjoint; all with the same ``outputs``.
    warmup : int
        Nanoseconds before its validity from which a filter is stepped.
    """

    filters: tuple[tuple[Validity, CausalFilter], ...]
    warmup: int

    def __post_init__(self) -> None:
        if not self.filters:
            raise ValueError("a stage needs at least one fitted filter")
        outputs = {f.outputs for _, f in self.filters}
        if len(outputs) != 1:
            raise ValueError(f"the bundles of one stage speak differently: {sorted(outputs)}")
        for (a, _), (b, _) in zip(self.filters, self.filters[1:], strict=False):
            if a.valid_to > b.valid_from:
                raise ValueError(
                    f"bundles {a.bundle} and {b.bundle} are both valid at {np.datetime64(b.valid_from, 'ns')}"
                )

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.filters[0][1].outputs

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every feature that some bundle's filter reads."""
        return tuple(dict.fromkeys(name for _, f in self.filters for name in f.inputs))

    def run(self, table: FeatureTable) -> FeatureTable:
        """The stage's outputs for every bar of ``table``."""
        out = np.full((len(table), len(self.outputs)), np.nan)
        for validity, causal in self.filters:
            lo, turn, hi = np.searchsorted(
                table.ts, (validity.valid_from - self.warmup, validity.valid_from, validity.valid_to)
            )
            if turn == hi:
                continue
            rows = causal.run(table.columns(causal.inputs)[lo:hi])
            out[turn:hi] = rows[turn - lo :]
        return FeatureTable(table.ts, self.outputs, out)

    def online(self, names: Sequence[str]) -> "OnlineStage":
        """The same stage for one bar at a time; ``names`` are the columns of the rows it will be given."""
        return OnlineStage(self, names)


class OnlineStage:
    """A stage with its running state: gives each bar to the filters whose time it is."""

    def __init__(self, stage: Stage, names: Sequence[str]) -> None:
        self._stage = stage
        self._columns = [np.array([names.index(name) for name in f.inputs]) for _, f in stage.filters]
        self._states: dict[int, State] = {}
        self._silence = np.full(len(stage.outputs), np.nan)

    def step(self, ts: int, row: np.ndarray) -> np.ndarray:
        """Outputs at the bar that closes at ``ts``; ``row`` holds that bar's features."""
        spoken = self._silence
        for i, (validity, causal) in enumerate(self._stage.filters):
            if not validity.valid_from - self._stage.warmup <= ts < validity.valid_to:
                self._states.pop(i, None)
                continue
            state = self._states.get(i)
            if state is None:
                state = self._states[i] = causal.initial_state()
            out = causal.step(state, row[self._columns[i]])
            if ts >= validity.valid_from:
                spoken = out
        return spoken

    def save(self) -> State:
        """The running state of every filter in flight, as arrays."""
        return {f"{i}/{k}": v for i, state in self._states.items() for k, v in state.items()}

    def load(self, arrays: State) -> None:
        """Continue from what ``save`` gave.

        Raises
        ------
        ValueError
            If it is not the state of this stage's filters.
        """
        states: dict[int, State] = {}
        for key, array in arrays.items():
            index, _, name = key.partition("/")
            states.setdefault(int(index), {})[name] = array
        for i, state in states.items():
            if not 0 <= i < len(self._stage.filters):
                raise ValueError(f"the state of a filter {i} that this stage has not")
            expected = self._stage.filters[i][1].initial_state()
            shapes = [{k: (v.shape, v.dtype) for k, v in one.items()} for one in (state, expected)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"the state of filter {i} has arrays {shapes[0]} in place of {shapes[1]}")
        self._states = states
