"""EGARCH(1,1,1) with Student-t innovations: fitted by arch, run by our own recursion, one bar at a time."""

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

_SQRT_2_PI = math.sqrt(2 / math.pi)
_ROOM = math.log(100.0)  # the log variance may go ten times in volatility beyond the training span's extremes
_MOST_LOG = 300.0  # whose exponential is still a number, and its square too
_TAIL = 1e-4  # two-sided probability beyond which innovations are pulled in for the multi-step forecast
_STARTS = ((0.0, 0.2, 0.0, 0.98), (0.0, 0.1, 0.0, 0.9))


class EgarchSettings(VolatilitySettings):
    """EGARCH(1,1,1) with Student-t innovations (Nelson 1991)."""

    kind: Literal["egarch"] = "egarch"

    def fit(self, table: FeatureTable, seed: int, on_epoch: OnEpoch | None = None) -> "EgarchFilter":
        """Maximum likelihood by arch from several starting points; ``seed`` has no effect.

        Returns of exactly zero (bars without a trade, prices in coarse ticks) are left out of the likelihood:
        a Student-t density would collapse onto them. Where the Student-t fit is still not credible, with
        ``nu`` at its bound or standardised returns far from unit variance, Gaussian quasi maximum likelihood
        takes its place, which keeps the variance right (``nu`` is then infinite).
        """
        from arch.univariate import EGARCH, Normal, StudentsT, ZeroMean

        class Bounded(EGARCH):
            """Keeps the optimiser where parameters make sense; arch's line search can leave it."""

            def bounds(self, resids: np.ndarray) -> list[tuple[float, float]]:  # type: ignore[override]
                return [super().bounds(resids)[0], (0.0, 1.0), (-0.5, 0.5), (0.0, 0.9999)]

        returns = training_rows(table, self)[:, 0]
        moving = returns[returns != 0]
        scale = 1 / float(moving.std())  # the optimiser wants a variance near one
        for distribution, extra in ((StudentsT(), (6.0,)), (Normal(), ())):
            model = ZeroMean(
                moving * scale, volatility=Bounded(1, 1, 1), distribution=distribution, rescale=False
            )
            starts = (None, *(np.array((*start, *extra)) for start in _STARTS))
            fits = [model.fit(disp="off", show_warning=False, starting_values=start) for start in starts]
            fits = [f for f in fits if _credible(f, moving * scale)]
            if any(f.convergence_flag == 0 for f in fits):
                break
        best = best_fit(fits, len(moving))
        if "nu" not in best.params:
            warn_fit("Student-t innovations were not credible: fitted by Gaussian quasi maximum likelihood")
        omega, alpha, gamma, beta, *nu = (float(p) for p in best.params)
        shift = 2 * math.log(scale)  # log variance of scaled minus that of plain returns
        omega -= (1 - beta) * shift
        log_variance = 2 * np.log(np.asarray(best.conditional_volatility)) - shift
        one_step = EgarchFilter(
            inputs=(self.returns,),
            horizon=1,
            omega=omega,
            alpha=alpha,
            gamma=gamma,
            beta=beta,
            nu=nu[0] if nu else math.inf,
            mean_shock=0.0,
            growth=(),
            first_log_variance=omega + beta * (float(model.volatility.backcast(moving * scale)) - shift),
            least_log_variance=float(log_variance.min()) - _ROOM,
            most_log_variance=float(log_variance.max()) + _ROOM,
        )
        z = returns[1:] / one_step.run(returns[:-1, None])[:, 1]
        cut = float(np.quantile(np.abs(z), 1 - _TAIL))
        mean_shock, growth = shock_moments(
            alpha, gamma, beta, self.horizon, np.clip(z, -cut, cut), np.full(len(z), 1 / len(z))
        )
        fitted = dataclasses.replace(one_step, horizon=self.horizon, mean_shock=mean_shock, growth=growth)
        return calibrated(fitted, returns[:, None])


def _credible(fit, scaled: np.ndarray) -> bool:  # type: ignore[no-untyped-def]
    if not np.all(np.isfinite(fit.params)):
        return False
    nu = fit.params.get("nu", math.inf)
    mean_square = float(np.mean((scaled / np.asarray(fit.conditional_volatility)) ** 2))
    return nu > 2.1 and 0.5 < mean_square < 2.0


@dataclasses.dataclass(frozen=True)
class EgarchFilter(Params):
    """The EGARCH recursion with fixed parameters.

    ``ln s2[t+1] = omega + g(z[t]) + beta ln s2[t]`` with ``g(z) = alpha (|z| - sqrt(2/pi)) + gamma z`` and
    ``z[t] = r[t] / s[t]``, in the units of plain log returns; the same as arch's, whose constant stays
    ``sqrt(2/pi)`` under Student-t innovations.

    The variance over the horizon is the sum over k of ``E[s2[t+k]]``, each of which is ``exp(beta^(k-1)
    ln s2[t+1] + omega sum_j beta^j) prod_j E[exp(beta^j g(z))]``, j from 0 to k - 2. Under Student-t
    innovations these expectations are infinite (Nelson 1991). A fit takes them over the training span's own
    standardised returns instead, pulled in at their 1e-4 tail: the limit of arch's bootstrap forecast,
    without the noise of its draws. What the model then still gets wrong in level is put right by ``level``.

    Parameters
    ----------
    inputs : (str,)
        Column of log returns.
    horizon : int
        Bars ahead.
    omega, alpha, gamma, beta : float
        Constant, size, sign and persistence.
    nu : float
        Degrees of freedom of the fit, above 2; infinite where it was Gaussian.
    mean_shock : float
        ``E[g(z)]``; a missing return counts as this.
    growth : tuple of float, length horizon - 1
        ``ln E[exp(beta^j g(z))]`` for j = 0, 1, …; see ``shock_moments``.
    first_log_variance : float
        Log variance forecast for the first bar.
    least_log_variance, most_log_variance : float
        Bounds of the recursion, so that one freak print cannot carry it to infinity.
    level : tuple of float
        ``Level`` of the forecast over the horizon; neutral unless given.
    """

    kind: ClassVar[str] = "egarch"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    inputs: tuple[str, ...]
    horizon: int
    omega: float
    alpha: float
    gamma: float
    beta: float
    nu: float
    mean_shock: float
    growth: tuple[float, ...]
    first_log_variance: float
    least_log_variance: float
    most_log_variance: float
    level: Level = NEUTRAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "growth", tuple(self.growth))
        object.__setattr__(self, "level", Level(*self.level))
        check_common("egarch", self.inputs, self.horizon, self.level)
        checks.numbers("egarch: growth", self.growth, (self.horizon - 1,), -_MOST_LOG, _MOST_LOG)
        for name in ("omega", "alpha", "gamma", "mean_shock", "least_log_variance"):
            checks.number(f"egarch: {name}", getattr(self, name), -_MOST_LOG, _MOST_LOG)
        checks.number("egarch: beta", self.beta, -1, 1)
        checks.number("egarch: nu", self.nu, 2, infinite=True)
        checks.number("egarch: most_log_variance", self.most_log_variance, self.least_log_variance, _MOST_LOG)
        checks.number("egarch: first_log_variance", self.first_log_variance, -_MOST_LOG, _MOST_LOG)
        powers = self.beta ** np.arange(self.horizon)
        steps = np.array([self.omega * p + g for p, g in zip(powers, self.growth, strict=False)])
        constants = np.concatenate(([0.0], np.cumsum(steps)))
        bounds = (self.least_log_variance, self.most_log_variance, *self.level)
        shocks = (self.omega, self.alpha, self.gamma, self.beta, self.mean_shock)
        recursion = np.array((*shocks, *bounds), np.float64)
        object.__setattr__(self, "_recursion", recursion)
        object.__setattr__(self, "_terms", np.column_stack((powers, constants)).astype(np.float64))

    def initial_state(self) -> State:
        # log variance of the coming bar, and whether any return was seen
        return {"egarch": np.array([self.first_log_variance, 0.0])}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 2))
        returns = np.ascontiguousarray(xs, dtype=np.float64)
        _run(returns, state["egarch"], self._recursion, self._terms, out)  # type: ignore[attr-defined]
        return out


def shock_moments(
    alpha: float, gamma: float, beta: float, horizon: int, z: np.ndarray, weights: np.ndarray
) -> tuple[float, tuple[float, ...]]:
    """``mean_shock`` and ``growth`` of an ``EgarchFilter``; innovations ``z`` have these ``weights``."""
    shock = alpha * (np.abs(z) - _SQRT_2_PI) + gamma * z
    growth = tuple(math.log(float(weights @ np.exp(beta**j * shock))) for j in range(horizon - 1))
    return float(weights @ shock), growth


@numba.njit(cache=True)
def _run(xs, state, recursion, terms, out):  # type: ignore[no-untyped-def]
    omega, alpha, gamma, beta, mean_shock, least_log, most_log, factor, least, most = recursion
    log_variance = state[0]
    for i in range(xs.shape[0]):
        r = xs[i, 0]
        if math.isfinite(r):
            z = r * math.exp(-0.5 * log_variance)
            log_variance = omega + alpha * (abs(z) - _SQRT_2_PI) + gamma * z + beta * log_variance
            state[1] = 1.0
        elif state[1] > 0.0:
            log_variance = omega + mean_shock + beta * log_variance
        log_variance = min(max(log_variance, least_log), most_log)
        if state[1] > 0.0:
            variance = 0.0
            for k in range(terms.shape[0]):
                variance += math.exp(terms[k, 0] * log_variance + terms[k, 1])
            out[i, 0] = math.sqrt(factor * min(max(variance, least), most))
            out[i, 1] = math.exp(0.5 * log_variance)
        else:
            out[i, 0] = math.nan
            out[i, 1] = math.nan
    state[0] = log_variance
