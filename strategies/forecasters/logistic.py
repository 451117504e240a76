"""Multinomial logistic regression on the features of the last bar: the forecaster to beat, without torch."""

import dataclasses
import math
from typing import Annotated, ClassVar, Literal

import numba
import numpy as np
from pydantic import Field
from scipy.optimize import OptimizeResult, minimize

from core import checks
from core.causal import Params, State
from core.fitting import warn_fit
from core.settings import Number, unit
from core.table import FeatureTable
from learners.training import Progress
from strategies.forecasters.base import CLASSES, OUTPUTS, ForecastSettings, examples
from strategies.forecasters.calibration import calibrate

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LogisticSettings(ForecastSettings):
    """Multinomial logistic regression with a ridge penalty."""

    kind: Literal["logistic"] = "logistic"
    penalty: Annotated[Number, unit("mean log loss a squared coefficient")] | None = Field(
        default=None, gt=0, le=1e9
    )
    """Weight of the squared coefficients; absent: that with the lowest log loss on the validation slice."""
    clip: Annotated[Number, unit("standard deviations")] = Field(default=5.0, gt=0, le=1e6)
    """Where standardised features are cut."""

    def fit(
        self, table: FeatureTable, price: np.ndarray, seed: int, progress: Progress | None = None
    ) -> "LogisticFilter":
        """Maximum penalised likelihood; nothing in it is random, and it has no epochs."""
        data = examples(self, table, price, window=1)
        rows = data.scaled(self.clip)
        fits = [
            _minimum(rows[data.train], data.labels[data.train], penalty)
            for penalty in (_PENALTIES if self.penalty is None else (self.penalty,))
        ]
        shape = (len(CLASSES), -1)
        losses = [
            log_loss(found.x.reshape(shape), rows[data.validation], data.labels[data.validation])
            for found in fits
        ]
        chosen = fits[int(np.argmin(losses))]
        if not chosen.success:
            warn_fit(f"the optimiser did not converge ({chosen.message}); it is taken where it stopped")
        best = chosen.x.reshape(shape)
        weight, bias = best[:, :-1], best[:, -1]
        logits = (rows[data.calibration, None, :] * weight).sum(axis=2) + bias
        weight, bias = calibrate(logits, data.labels[data.calibration]).fold(weight, bias)
        return LogisticFilter(
            inputs=data.inputs,
            mean=tuple(data.mean.tolist()),
            std=tuple(data.std.tolist()),
            clip=self.clip,
            weight=tuple(tuple(row) for row in weight.tolist()),
            bias=tuple(bias.tolist()),
        )


def fit_logistic(rows: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients (classes, k + 1), the constants last, that minimise mean log loss plus ``penalty / 2``
    times the sum of the squared coefficients (constants free)."""
    return _minimum(rows, labels, penalty).x.reshape(len(CLASSES), -1)


def _minimum(rows: np.ndarray, labels: np.ndarray, penalty: float) -> OptimizeResult:
    shape = (len(CLASSES), rows.shape[1] + 1)
    ridge = np.full(shape, penalty)
    ridge[:, -1] = 0.0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = flat.reshape(shape)
        gradient = np.zeros(shape)
        value = _loss(coefficients, rows, labels, gradient)
        return value + 0.5 * (ridge * coefficients**2).sum(), (gradient + ridge * coefficients).ravel()

    start = np.zeros(shape).ravel()
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})


def log_loss(coefficients: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of ``labels``."""
    return float(_loss(coefficients, rows, labels, np.zeros(coefficients.shape)))


@dataclasses.dataclass(frozen=True)
class LogisticFilter(Params):
    """``softmax(weight @ clip((x - mean) / std) + bias)``; a bar with a missing value repeats what was said
    last.

    Parameters
    ----------
    inputs : tuple of str
        Columns.
    mean, std : tuple of float, one an input
        Scaler, fitted on the training slice.
    clip : float
        Bound on scaled values.
    weight : tuple of tuple of float, shape (3, len(inputs))
        Coefficients of up, down and flat, calibrated.
    bias : tuple of float
        Constants.
    """

    kind: ClassVar[str] = "logistic"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    inputs: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float
    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("inputs", "mean", "std", "bias"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "weight", tuple(tuple(row) for row in self.weight))
        checks.names("logistic: inputs", self.inputs)
        n = len(self.inputs)
        checks.numbers("logistic: mean", self.mean, (n,))
        checks.numbers("logistic: std", self.std, (n,), 1e-300)
        checks.number("logistic: clip", self.clip, 1e-9)
        checks.numbers("logistic: weight", self.weight, (len(CLASSES), n))
        checks.numbers("logistic: bias", self.bias, (len(CLASSES),))
        object.__setattr__(self, "_scaler", np.array((self.mean, self.std), np.float64))
        object.__setattr__(
            self, "_coefficients", np.column_stack((self.weight, self.bias)).astype(np.float64)
        )

    def initial_state(self) -> State:
        return {"spoken": np.full(len(OUTPUTS), np.nan)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), len(OUTPUTS)))
        xs = np.ascontiguousarray(xs, dtype=np.float64)
        _run(xs, state["spoken"], self._scaler, self.clip, self._coefficients, out)  # type: ignore[attr-defined]
        return out


@numba.njit(cache=True)
def _probabilities(coefficients, row, p):  # type: ignore[no-untyped-def]
    highest = -math.inf
    for c in range(p.shape[0]):
        p[c] = coefficients[c, row.shape[0]]
        for j in range(row.shape[0]):
            p[c] += coefficients[c, j] * row[j]
        highest = max(highest, p[c])
    total = 0.0
    for c in range(p.shape[0]):
        p[c] = math.exp(p[c] - highest)
        total += p[c]
    for c in range(p.shape[0]):
        p[c] /= total


@numba.njit(cache=True)
def _loss(coefficients, rows, labels, gradient):  # type: ignore[no-untyped-def]
    n, k = rows.shape
    p = np.empty(coefficients.shape[0])
    value = 0.0
    for i in range(n):
        _probabilities(coefficients, rows[i], p)
        value -= math.log(max(p[labels[i]], 1e-300))
        p[labels[i]] -= 1.0
        for c in range(p.shape[0]):
            for j in range(k):
                gradient[c, j] += p[c] * rows[i, j]
            gradient[c, k] += p[c]
    gradient /= n
    return value / n


@numba.njit(cache=True)
def _run(xs, spoken, scaler, clip, coefficients, out):  # type: ignore[no-untyped-def]
    k = xs.shape[1]
    row = np.empty(k)
    p = np.empty(coefficients.shape[0])
    for i in range(xs.shape[0]):
        complete = True
        for j in range(k):
            complete &= math.isfinite(xs[i, j])
            row[j] = min(max((xs[i, j] - scaler[0, j]) / scaler[1, j], -clip), clip)
        if complete:
            _probabilities(coefficients, row, p)
            spoken[0] = p[0]
            spoken[1] = p[1]
        out[i, 0] = spoken[0]
        out[i, 1] = spoken[1]
