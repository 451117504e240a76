"""Functions of a linear combination of the last bar's features, served by numpy alone."""

import dataclasses
import math
from typing import ClassVar

import numba
import numpy as np

from core import checks
from core.causal import Params, State

_MOST_LOG = 300.0  # whose exponential is still a number, and its square too


@dataclasses.dataclass(frozen=True)
class _LinearFilter(Params):
    """Scores are ``weight @ clip((x - mean) / std) + bias``; a bar with a missing value repeats the last
    outputs.

    Parameters
    ----------
    inputs, outputs : tuple of str
        Columns.
    mean, std : tuple of float, one an input
        Scaler, fitted on the training slice.
    clip : float
        Bound on scaled values.
    weight : tuple of tuple of float, shape (scores, len(inputs))
    bias : tuple of float, one a score
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float
    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def _check(self, scores: int) -> None:
        for name in ("inputs", "outputs", "mean", "std", "bias"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "weight", tuple(tuple(row) for row in self.weight))
        n = len(self.inputs)
        checks.names(f"{self.kind}: inputs", self.inputs)
        checks.names(f"{self.kind}: outputs", self.outputs)
        checks.numbers(f"{self.kind}: mean", self.mean, (n,))
        checks.numbers(f"{self.kind}: std", self.std, (n,), 1e-300)
        checks.number(f"{self.kind}: clip", self.clip, 1e-9)
        checks.numbers(f"{self.kind}: weight", self.weight, (scores, n))
        checks.numbers(f"{self.kind}: bias", self.bias, (scores,))
        object.__setattr__(self, "_scaler", np.array((self.mean, self.std), np.float64))
        coefficients = np.column_stack((self.weight, self.bias)).astype(np.float64)
        object.__setattr__(self, "_coefficients", coefficients)

    def initial_state(self) -> State:
        return {"last": np.full(len(self.outputs), np.nan)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), len(self.outputs)))
        xs = np.ascontiguousarray(xs, dtype=np.float64)
        _run(xs, state["last"], self._scaler, self.clip, self._coefficients, self._bounds, out)  # type: ignore[attr-defined]
        return out


@dataclasses.dataclass(frozen=True)
class LogisticFilter(_LinearFilter):
    """Probabilities, the softmax of the scores: one an output, and one for the class that is left over."""

    kind: ClassVar[str] = "logistic"

    def __post_init__(self) -> None:
        self._check(len(self.outputs) + 1)
        object.__setattr__(self, "_bounds", np.empty((2, 0)))


@dataclasses.dataclass(frozen=True)
class LogLinearFilter(_LinearFilter):
    """Positive numbers whose logarithms are the scores, one an output, kept in ``[least, most]``.

    Parameters
    ----------
    least, most : tuple of float, one an output
        Of the logarithms.
    """

    kind: ClassVar[str] = "log_linear"

    least: tuple[float, ...]
    most: tuple[float, ...]

    def __post_init__(self) -> None:
        self._check(len(self.outputs))
        for name in ("least", "most"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            shape = (len(self.outputs),)
            checks.numbers(f"log_linear: {name}", getattr(self, name), shape, -_MOST_LOG, _MOST_LOG)
        if any(a > b for a, b in zip(self.least, self.most, strict=True)):
            raise ValueError(f"log_linear: least {self.least} is above most {self.most}")
        object.__setattr__(self, "_bounds", np.array((self.least, self.most), np.float64))


@numba.njit(cache=True)
def _run(xs, last, scaler, clip, coefficients, bounds, out):  # type: ignore[no-untyped-def]
    """Softmax of the scores, or the exponential of each where there are bounds."""
    k = xs.shape[1]
    row = np.empty(k)
    score = np.empty(coefficients.shape[0])
    for i in range(xs.shape[0]):
        complete = True
        for j in range(k):
            complete &= math.isfinite(xs[i, j])
            row[j] = min(max((xs[i, j] - scaler[0, j]) / scaler[1, j], -clip), clip)
        if complete:
            highest = -math.inf
            for c in range(score.shape[0]):
                score[c] = coefficients[c, k]
                for j in range(k):
                    score[c] += coefficients[c, j] * row[j]
                highest = max(highest, score[c])
            if bounds.shape[1]:
                for c in range(last.shape[0]):
                    last[c] = math.exp(min(max(score[c], bounds[0, c]), bounds[1, c]))
            else:
                total = 0.0
                for c in range(score.shape[0]):
                    score[c] = math.exp(score[c] - highest)
                    total += score[c]
                for c in range(last.shape[0]):
                    last[c] = score[c] / total
        for c in range(last.shape[0]):
            out[i, c] = last[c]
