"""HAR in logs with a daily cycle: realized variance regressed on its own past, a baseline hard to beat."""

import dataclasses
import math
from typing import Annotated, ClassVar, Literal

import numba
import numpy as np
from pydantic import Field

from core import checks
from core.causal import Params, State
from core.fitting import OnEpoch
from core.settings import Bars, Count
from core.table import FeatureTable
from volatility.base import (
    NEUTRAL,
    OUTPUTS,
    Level,
    VolatilitySettings,
    calibrated,
    check_common,
    training_rows,
)
from volatility.scores import realized_variance


class HarSettings(VolatilitySettings):
    """Heterogeneous autoregression (Corsi 2009) of log realized variance."""

    kind: Literal["har"] = "har"
    windows: tuple[Annotated[Bars, Field(ge=1, le=100_000)], ...] = Field(default=(), max_length=20)
    """Over how many bars past variance is averaged; empty takes a quarter, one, six and 24 horizons."""
    clock: tuple[str, str] | None = ("time_of_day_sin", "time_of_day_cos")
    """Features with the sine and cosine of the time of day."""
    harmonics: Count = Field(default=4, ge=1, le=12)
    """How many waves the daily cycle has."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.returns, *(self.clock or ()))

    def _windows(self) -> tuple[int, ...]:
        h = self.horizon
        return self.windows or (max(1, h // 4), h, 6 * h, 24 * h)

    def _rows(self, table: FeatureTable) -> np.ndarray:
        return training_rows(table, self, least=2 * max(self._windows()) + 10 * self.horizon)

    def check(self, table: FeatureTable) -> None:
        self._rows(table)

    def fit(self, table: FeatureTable, seed: int, on_epoch: OnEpoch | None = None) -> "HarFilter":
        """Least squares on the training span; ``seed`` has no effect."""
        windows = self._windows()
        rows = self._rows(table)
        realized = realized_variance(rows[:, 0], self.horizon)
        squares = rows[:, 0] ** 2
        harmonics = self.harmonics if self.clock else 0
        model = HarFilter(
            inputs=self.columns,
            horizon=self.horizon,
            windows=tuple(sorted(set(windows))),
            harmonics=harmonics,
            floor=float(squares[squares > 0].min()) / max(windows),  # less than any window that moved at all
            coefficients=(0.0,) * (1 + len(set(windows)) + 2 * harmonics),
        )
        design = model.design(rows)
        known = np.arange(len(rows)) >= max(windows)
        known &= realized > 0
        x, y = design[known], np.log(realized[known])
        # A trace of ridge: a span shorter than a day cannot tell the waves of a daily cycle apart.
        penalty = 1e-3 * len(x) * np.diag((0.0,) + (1e-6,) * len(model.windows) + (1.0,) * 2 * harmonics)
        coefficients = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        model = dataclasses.replace(model, coefficients=tuple(coefficients.tolist()))
        return calibrated(model, rows)


@dataclasses.dataclass(frozen=True)
class HarFilter(Params):
    """Log variance over the horizon as a linear function of past log variances and the time of day.

    ``ln V = c0 + sum_w c_w ln(mean of r^2 over the last w bars) + sum_k (a_k sin k t + b_k cos k t)``, where
    t is the angle of the day. The level from logs to variance is ``level.factor`` (Duan's smearing factor).
    The next bar's variance is the horizon's share.

    Parameters
    ----------
    inputs : (str,) or (str, str, str)
        Columns of log returns and of the sine and cosine of the time of day.
    horizon : int
        Bars ahead.
    windows : tuple of int
        Lengths in bars, ascending.
    harmonics : int
        Waves of the daily cycle; 0 without a clock.
    floor : float
        Least mean square that a window is taken to have, so that a market that stands still has a logarithm.
    coefficients : tuple of float
        Constant, one a window, then sine and cosine of each wave.
    level : tuple of float
        ``Level`` of the forecast over the horizon.
    """

    kind: ClassVar[str] = "har"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    inputs: tuple[str, ...]
    horizon: int
    windows: tuple[int, ...]
    harmonics: int
    floor: float
    coefficients: tuple[float, ...]
    level: Level = NEUTRAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "windows", tuple(self.windows))
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        object.__setattr__(self, "level", Level(*self.level))
        check_common("har", self.inputs, self.horizon, self.level)
        checks.whole("har: harmonics", self.harmonics, 0, 1_000)
        if not self.windows or len(self.inputs) != (3 if self.harmonics else 1):
            raise ValueError(f"har: {len(self.windows)} windows and {len(self.inputs)} inputs do not fit")
        for window in self.windows:
            checks.whole("har: a window", window)
        checks.number("har: floor", self.floor, 1e-300)
        size = 1 + len(self.windows) + 2 * self.harmonics
        checks.numbers("har: coefficients", self.coefficients, (size,))
        object.__setattr__(self, "_windows", np.array(self.windows))
        object.__setattr__(self, "_level", np.array(self.level, np.float64))
        object.__setattr__(self, "_coefficients", np.array(self.coefficients, np.float64))

    def initial_state(self) -> State:
        return {
            "squares": np.zeros(max(self.windows)),  # ring of the last squared returns
            "sums": np.zeros(len(self.windows)),
            "count": np.zeros(1, dtype=np.int64),
            "last": np.full(2, np.nan),  # outputs, repeated where an observation is missing
        }

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 2))
        _run(
            np.ascontiguousarray(xs, dtype=np.float64),
            state["squares"],
            state["sums"],
            state["count"],
            state["last"],
            self._windows,  # type: ignore[attr-defined]
            self._coefficients,  # type: ignore[attr-defined]
            self.horizon,
            self.floor,
            self._level,  # type: ignore[attr-defined]
            out,
        )
        return out

    def design(self, xs: np.ndarray) -> np.ndarray:
        """The regressors at each bar of ``xs`` (no row missing), shape (n, len(coefficients))."""
        state = self.initial_state()
        out = np.empty((len(xs), len(self.coefficients)))
        windows = self._windows  # type: ignore[attr-defined]
        _design(xs, state["squares"], state["sums"], state["count"], windows, self.floor, out)
        return out


@numba.njit(cache=True)
def _regressors(x, squares, sums, count, windows, floor, row):  # type: ignore[no-untyped-def]
    size = squares.shape[0]
    n = count[0]
    place = n % size
    square = x[0] * x[0]
    for w in range(windows.shape[0]):
        sums[w] += square - squares[(place - windows[w]) % size]
    squares[place] = square
    count[0] = n + 1
    if place == size - 1:  # sum anew once a round, so that rounding never piles up
        for w in range(windows.shape[0]):
            sums[w] = 0.0
            for k in range(size - windows[w], size):
                sums[w] += squares[k]
    row[0] = 1.0
    for w in range(windows.shape[0]):
        row[1 + w] = math.log(max(sums[w] / min(n + 1, windows[w]), floor))
    sine, cosine = 0.0, 1.0
    for k in range(1 + windows.shape[0], row.shape[0], 2):  # the addition theorem, one wave after the other
        sine, cosine = sine * x[2] + cosine * x[1], cosine * x[2] - sine * x[1]
        row[k] = sine
        row[k + 1] = cosine


@numba.njit(cache=True)
def _design(xs, squares, sums, count, windows, floor, out):  # type: ignore[no-untyped-def]
    for i in range(xs.shape[0]):
        _regressors(xs[i], squares, sums, count, windows, floor, out[i])


@numba.njit(cache=True)
def _run(xs, squares, sums, count, last, windows, coefficients, horizon, floor, level, out):  # type: ignore[no-untyped-def]
    factor, least, most = level
    row = np.empty(coefficients.shape[0])
    for i in range(xs.shape[0]):
        missing = False
        for j in range(xs.shape[1]):
            missing |= not math.isfinite(xs[i, j])
        if not missing:
            _regressors(xs[i], squares, sums, count, windows, floor, row)
            if count[0] >= horizon:
                log_variance = 0.0
                for j in range(row.shape[0]):
                    log_variance += coefficients[j] * row[j]
                variance = factor * min(max(math.exp(log_variance), least), most)
                last[0] = math.sqrt(variance)
                last[1] = math.sqrt(variance / horizon)
        out[i, 0] = last[0]
        out[i, 1] = last[1]
