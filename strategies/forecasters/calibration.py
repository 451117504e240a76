"""Calibration of class probabilities on a later slice, folded into the last layer."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

_RIDGE = 1e-3  # keeps the shift of a class that never happened finite


class Calibration(NamedTuple):
    """``softmax(slope * logits + shift)``. A slope below one says the model was too sure of itself; 0 that it
    knew nothing."""

    slope: float
    shift: np.ndarray  # (classes,)

    def fold(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight (classes, k) and bias (classes,) of a last linear layer that gives calibrated logits."""
        return self.slope * weight, self.slope * bias + self.shift


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020) by maximum likelihood.

    Parameters
    ----------
    logits : float array, shape (n, classes)
        What the model says on a slice that it was neither trained nor stopped on.
    labels : int array, shape (n,)
        What happened.
    """
    logits = logits.astype(np.float64)
    happened = np.eye(logits.shape[1])[labels]

    def loss(params: np.ndarray) -> tuple[float, np.ndarray]:
        p = softmax(params[0] * logits + params[1:])
        error = p - happened
        likelihood = np.maximum((p * happened).sum(axis=1), 1e-300)
        value = -np.log(likelihood).mean() + _RIDGE * (params[1:] ** 2).sum()
        slope = (error * logits).sum(axis=1).mean()
        return value, np.concatenate(([slope], error.mean(axis=0) + 2 * _RIDGE * params[1:]))

    start = np.concatenate(([1.0], np.zeros(logits.shape[1])))
    bounds = [(0.0, None), *[(None, None)] * logits.shape[1]]
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(best[0]), best[1:])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, along the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
