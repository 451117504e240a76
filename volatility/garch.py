"""GARCH(1,1): the standard baseline, fitted by arch, with exact forecasts over any horizon."""

import dataclasses
import math
from typing import ClassVar, Literal

import numba
import numpy as np

from core import checks
from core.causal import Params, State
from core.fitting import OnEpoch, warn_fit
from core.table import FeatureTable
from volatility.base import (
    NEUTRAL,
    OUTPUTS,
    Level,
    VolatilitySettings,
    best_fit,
    calibrated,
    check_common,
    training_rows,
)

_STARTS = ((0.01, 0.05, 0.94), (0.02, 0.15, 0.8), (0.05, 0.25, 0.7))


class GarchSettings(VolatilitySettings):
    """GARCH(1,1) by Gaussian quasi maximum likelihood (Bollerslev 1986)."""

    kind: Literal["garch"] = "garch"

    def fit(self, table: FeatureTable, seed: int, on_epoch: OnEpoch | None = None) -> "GarchFilter":
        """The best of arch's fits from several starting points; ``seed`` has no effect."""
        from arch.univariate import GARCH, ZeroMean

        returns = training_rows(table, self)[:, 0]
        scale = 1 / float(returns.std())  # the optimiser wants a variance near one
        model = ZeroMean(returns * scale, volatility=GARCH(1, 0, 1), rescale=False)
        starts = (None, *(np.array(start) for start in _STARTS))
        fits = [model.fit(disp="off", show_warning=False, starting_values=start) for start in starts]
        best = best_fit(
            [f for f in fits if np.all(np.isfinite(f.params)) and min(f.params) >= 0], len(returns)
        )
        omega, alpha, beta = (float(p) for p in best.params)
        if alpha + beta >= 1 - 1e-6:
            warn_fit("its variance never returns to a mean (alpha + beta = 1): forecasts far ahead drift")
        omega /= scale**2
        backcast = float(model.volatility.backcast(returns * scale)) / scale**2
        fitted = GarchFilter(
            inputs=(self.returns,),
            horizon=self.horizon,
            omega=omega,
            alpha=alpha,
            beta=beta,
            first_variance=omega + (alpha + beta) * backcast,
        )
        return calibrated(fitted, returns[:, None])


@dataclasses.dataclass(frozen=True)
class GarchFilter(Params):
    """``s2[t+1] = omega + alpha r[t]^2 + beta s2[t]``; EWMA is ``omega = 0, alpha = 1 - beta``.

    Over the horizon ``E[s2[t+k+1]] = omega + (alpha + beta) E[s2[t+k]]``, so the sum is linear in
    ``s2[t+1]``.

    Parameters
    ----------
    inputs : (str,)
        Column of log returns.
    horizon : int
        Bars ahead.
    omega, alpha, beta : float
        Constant, reaction and persistence, in the units of squared log returns.
    first_variance : float
        Variance forecast for the first bar.
    level : tuple of float
        ``Level`` of the forecast over the horizon; neutral unless given.
    """

    kind: ClassVar[str] = "garch"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    inputs: tuple[str, ...]
    horizon: int
    omega: float
    alpha: float
    beta: float
    first_variance: float
    level: Level = NEUTRAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "level", Level(*self.level))
        check_common("garch", self.inputs, self.horizon, self.level)
        for name in ("omega", "first_variance"):
            checks.number(f"garch: {name}", getattr(self, name), 0)
        for name in ("alpha", "beta"):
            checks.number(f"garch: {name}", getattr(self, name), 0, 1)
        checks.number("garch: alpha + beta", self.alpha + self.beta, 0, 1.001)
        constant = slope = total_constant = total_slope = 0.0
        for k in range(self.horizon):
            persistence = self.alpha + self.beta
            constant, slope = (self.omega + persistence * constant, persistence * slope) if k else (0.0, 1.0)
            total_constant += constant
            total_slope += slope
        recursion = (self.omega, self.alpha, self.beta, total_constant, total_slope, *self.level)
        object.__setattr__(self, "_recursion", np.array(recursion, np.float64))

    def initial_state(self) -> State:
        # variance of the coming bar, and whether any return was seen
        return {"garch": np.array([self.first_variance, 0.0])}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 2))
        returns = np.ascontiguousarray(xs, dtype=np.float64)
        _run(returns, state["garch"], self._recursion, out)  # type: ignore[attr-defined]
        return out


@numba.njit(cache=True)
def _run(xs, state, recursion, out):  # type: ignore[no-untyped-def]
    omega, alpha, beta, constant, slope, factor, least, most = recursion
    for i in range(xs.shape[0]):
        r = xs[i, 0]
        if math.isfinite(r):
            state[0] = omega + alpha * r * r + beta * state[0]
            state[1] = 1.0
        elif state[1] > 0.0:
            state[0] = omega + (alpha + beta) * state[0]
        if state[1] > 0.0:
            variance = constant + slope * state[0]
            out[i, 0] = math.sqrt(factor * min(max(variance, least), most))
            out[i, 1] = math.sqrt(state[0])
        else:
            out[i, 0] = math.nan
            out[i, 1] = math.nan
