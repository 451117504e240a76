"""EGARCH(1,1,1) with Student-t innovations: fitted by arch, run by our own recursion, one bar at a time."""

import dataclasses
import math
from typing import ClassVar, Literal

import numba
import numpy as np

from features.causal import Params, State
from features.table import FeatureTable
from volatility.base import OUTPUTS, VolatilitySettings, training_returns

_SQRT_2_PI = math.sqrt(2 / math.pi)
_ROOM = math.log(100.0)  # how far beyond the training span's extremes the log variance may go: ten times in volatility
_TAIL = 1e-4  # probability beyond which innovations are cut for the multi-step forecast


class EgarchSettings(VolatilitySettings):
    """EGARCH(1,1,1) with Student-t innovations (Nelson 1991)."""

    kind: Literal["egarch"] = "egarch"

    def fit(self, table: FeatureTable, seed: int) -> "EgarchFilter":
        """Maximum likelihood by arch, from two starting points; ``seed`` has no effect."""
        from arch import arch_model

        returns = training_returns(table, self)
        scale = 1 / returns.std()  # the optimiser wants a variance near one
        model = arch_model(returns * scale, mean="Zero", vol="EGARCH", p=1, o=1, q=1, dist="t", rescale=False)
        results = [
            model.fit(disp="off", show_warning=False, starting_values=start)
            for start in (None, np.array([0.0, 0.2, 0.0, 0.98, 5.0]))
        ]
        converged = [r for r in results if r.convergence_flag == 0 and np.all(np.isfinite(r.params))]
        if not converged:
            why = "; ".join(str(r.optimization_result.message) for r in results)
            raise ValueError(f"egarch: the optimiser did not converge on {len(returns)} returns ({why}); change the span")
        best = max(converged, key=lambda r: r.loglikelihood)
        omega, alpha, gamma, beta, nu = (float(p) for p in best.params)
        shift = 2 * math.log(scale)  # log variance of scaled minus that of plain returns
        omega -= (1 - beta) * shift
        seen = 2 * np.log(best.conditional_volatility) - shift
        backcast = float(model.volatility.backcast(returns * scale)) - shift
        return EgarchFilter(
            inputs=(self.returns,),
            horizon=self.horizon,
            omega=omega,
            alpha=alpha,
            gamma=gamma,
            beta=beta,
            nu=nu,
            first_log_variance=omega + beta * backcast,
            least_log_variance=float(seen.min()) - _ROOM,
            most_log_variance=float(seen.max()) + _ROOM,
        )


@dataclasses.dataclass(frozen=True)
class EgarchFilter(Params):
    """The EGARCH recursion with fixed parameters.

    ``ln s2[t+1] = omega + alpha (|z[t]| - sqrt(2/pi)) + gamma z[t] + beta ln s2[t]`` with ``z[t] = r[t] / s[t]``, in
    the units of plain log returns; the same as arch's, whose constant stays ``sqrt(2/pi)`` under Student-t innovations.

    The variance over the horizon is the sum over k of ``E[s2[t+k]] = exp(beta^(k-1) ln s2[t+1] + omega (1 + beta + …))
    prod_j E[exp(beta^j (alpha (|z| - sqrt(2/pi)) + gamma z))]``. Under Student-t these expectations are infinite
    (Nelson 1991): a large innovation raises the next variance exponentially. They are taken over innovations cut where
    their two-sided tail falls to 1e-4, which a horizon of some hundred bars hardly ever sees.

    Parameters
    ----------
    inputs : (str,)
        Column of log returns.
    horizon : int
        Bars ahead.
    omega, alpha, gamma, beta : float
        Constant, size, sign and persistence.
    nu : float
        Degrees of freedom, above 2.
    first_log_variance : float
        Log variance forecast for the first bar.
    least_log_variance, most_log_variance : float
        Bounds, so that one freak print cannot carry the forecast to infinity.
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
    first_log_variance: float
    least_log_variance: float
    most_log_variance: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        z, weights = innovations(self.nu)
        shock = self.alpha * (np.abs(z) - _SQRT_2_PI) + self.gamma * z
        powers = self.beta ** np.arange(self.horizon)
        growth = np.array([math.log(float(weights @ np.exp(p * shock))) for p in powers[:-1]])
        constant = self.omega * np.concatenate(([0.0], np.cumsum(powers[:-1]))) + np.concatenate(([0.0], np.cumsum(growth)))
        mean_shock = float(weights @ shock)
        recursion = np.array([self.omega, self.alpha, self.gamma, self.beta, mean_shock])
        object.__setattr__(self, "_recursion", recursion)
        object.__setattr__(self, "_bounds", (self.least_log_variance, self.most_log_variance))
        object.__setattr__(self, "_terms", np.column_stack((powers, constant)))

    def initial_state(self) -> State:
        # log variance of the coming bar, and whether any return was seen
        return {"egarch": np.array([self.first_log_variance, 0.0])}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 2))
        returns = np.ascontiguousarray(xs, dtype=np.float64)
        least, most = self._bounds  # type: ignore[attr-defined]
        _run(returns, state["egarch"], self._recursion, least, most, self._terms, out)  # type: ignore[attr-defined]
        return out


def innovations(nu: float, points: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature of Student-t innovations of unit variance, cut where their two-sided tail is 1e-4.

    Returns
    -------
    z, weights : float arrays, shape (points,)
        Nodes, and Simpson weights times density that sum to one.
    """
    from scipy.stats import t

    unit = math.sqrt((nu - 2) / nu)
    cut = float(t.isf(_TAIL / 2, nu))
    x = np.linspace(-cut, cut, points)
    weights = np.full(points, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    weights *= (1 + x * x / nu) ** (-(nu + 1) / 2)
    return unit * x, weights / weights.sum()


@numba.njit(cache=True)
def _run(xs, state, recursion, least, most, terms, out):  # type: ignore[no-untyped-def]
    omega, alpha, gamma, beta, mean_shock = recursion
    log_variance = state[0]
    for i in range(xs.shape[0]):
        r = xs[i, 0]
        if math.isfinite(r):
            z = r * math.exp(-0.5 * log_variance)
            log_variance = omega + alpha * (abs(z) - _SQRT_2_PI) + gamma * z + beta * log_variance
            state[1] = 1.0
        elif state[1] > 0.0:
            log_variance = omega + mean_shock + beta * log_variance
        if log_variance < least:
            log_variance = least
        elif log_variance > most:
            log_variance = most
        if state[1] > 0.0:
            variance = 0.0
            for k in range(terms.shape[0]):
                variance += math.exp(terms[k, 0] * log_variance + terms[k, 1])
            out[i, 0] = math.sqrt(variance)
            out[i, 1] = math.exp(0.5 * log_variance)
        else:
            out[i, 0] = math.nan
            out[i, 1] = math.nan
    state[0] = log_variance
