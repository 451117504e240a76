"""A detector by rules: true range against its own past says stress, a moving-average cross says trend."""

import dataclasses
import math
from typing import Annotated, ClassVar, Literal, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from core import checks
from core.causal import Chain, Params, State
from core.settings import Bars, Multiple, Number, unit
from core.table import FeatureTable
from regimes.base import POSTERIOR, RegimeSettings
from regimes.hysteresis import HysteresisSettings


class RulesSettings(RegimeSettings):
    """Stress where volatility jumps, trend where moving averages part, chop otherwise."""

    kind: Literal["rules"] = "rules"
    returns: str = "log_return_1"
    """Feature of per-bar log returns."""
    fast: Bars = Field(default=20, ge=2, le=100_000)
    """Span of the fast moving average."""
    slow: Bars = Field(default=120, ge=3, le=1_000_000)
    """Span of the slow moving average."""
    stress_multiple: Multiple = Field(default=2.0, gt=1, le=1e9)
    """Stress is where the fast average range exceeds so many slow ones."""
    trend_threshold: Annotated[Number, unit("standard deviations")] = Field(default=1.5, gt=0, le=1e9)
    """Trend is where the averages are so far apart, as a random walk of the same volatility parts them."""
    hysteresis: HysteresisSettings = HysteresisSettings()
    """When the decided regime changes."""

    @model_validator(mode="after")
    def _fast_below_slow(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(
                f"fast {self.fast} is not below slow {self.slow}; the averages need different spans"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.returns,)

    def check(self, table: FeatureTable) -> None:
        known = int(np.isfinite(table.column(self.returns)).sum())
        if known < self.slow:
            raise ValueError(
                f"{known} known values of {self.returns!r} in the training span, the slow average alone "
                f"takes {self.slow}; train on a longer span, or lower regime.slow"
            )

    def fit(self, table: FeatureTable, seed: int) -> Chain:
        """Nothing is learned from ``table``: the rules are their settings."""
        rules = RulesFilter((self.returns,), self.fast, self.slow, self.stress_multiple, self.trend_threshold)
        return Chain(rules, self.hysteresis.build())


@dataclasses.dataclass(frozen=True)
class RulesFilter(Params):
    """Certain posteriors (one 1, two 0) from exponential moving averages of log price and of its absolute
    change.

    The average absolute log return is Wilder's average true range on closes. The distance of two exponential
    moving averages of a random walk with volatility ``s`` per bar has the variance ``s^2 (q^2/(1-q^2) +
    p^2/(1-p^2) - 2pq/(1-pq))``, p and q being one minus the smoothing weights: the cross is measured in that
    unit. Silent for the first ``slow`` bars.

    Parameters
    ----------
    inputs : (str,)
        Column of log returns.
    fast, slow : int
        Spans in bars; the smoothing weight is ``2 / (span + 1)``. The slow average range takes ten times
        ``slow``.
    stress_multiple, trend_threshold : float
        See ``RulesSettings``.
    """

    kind: ClassVar[str] = "rules"
    outputs: ClassVar[tuple[str, ...]] = POSTERIOR

    inputs: tuple[str, ...]
    fast: int
    slow: int
    stress_multiple: float
    trend_threshold: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        checks.names("rules: inputs", self.inputs)
        checks.whole("rules: fast", self.fast)
        checks.whole("rules: slow", self.slow, self.fast + 1)
        checks.number("rules: stress_multiple", self.stress_multiple, 1)
        checks.number("rules: trend_threshold", self.trend_threshold, 0)

    def initial_state(self) -> State:
        # price minus its fast and its slow average; fast and slow average range; bars seen
        return {"rules": np.zeros(5)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 3))
        returns = np.ascontiguousarray(xs, dtype=np.float64)
        _run(returns, state["rules"], self.fast, self.slow, self.stress_multiple, self.trend_threshold, out)
        return out


@numba.njit(cache=True)
def _run(xs, state, fast, slow, stress_multiple, trend_threshold, out):  # type: ignore[no-untyped-def]
    a, b = 2 / (fast + 1), 2 / (slow + 1)
    p, q = 1 - a, 1 - b
    unit = math.sqrt(math.pi / 2 * (q * q / (1 - q * q) + p * p / (1 - p * p) - 2 * p * q / (1 - p * q)))
    for i in range(xs.shape[0]):
        r = xs[i, 0]
        if math.isfinite(r):
            state[0] = p * (state[0] + r)
            state[1] = q * (state[1] + r)
            state[4] += 1
            # Averages of few bars are plain means: an early value must not weigh for ever.
            state[2] += max(a, 1 / state[4]) * (abs(r) - state[2])
            state[3] += max(0.1 * b, 1 / state[4]) * (abs(r) - state[3])
        for k in range(3):
            out[i, k] = 0.0 if state[4] >= slow else math.nan
        if state[4] >= slow:
            if state[2] > stress_multiple * state[3]:
                out[i, 2] = 1.0
            elif abs(state[1] - state[0]) > trend_threshold * unit * state[2]:
                out[i, 0] = 1.0
            else:
                out[i, 1] = 1.0
