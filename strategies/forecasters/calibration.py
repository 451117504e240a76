"""Calibration of class probabilities on a later slice, folded into the last layer."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from core.fitting import warn_fit

_MOVES = np.array([1.0, 1.0, 0.0])  # up and down, of (up, down, flat)
_SHAPELESS = 1e-6
_RIDGE = 1e-3  # keeps the shift finite where nothing ever moved


class Calibration(NamedTuple):
    """``softmax(slope * logits + shift * (1, 1, 0))`` over up, down and flat.

    A slope below one says that the model was too sure of itself, zero that it knew nothing; the shift
    corrects how often the price moves beyond the threshold at all.
    """

    slope: float
    shift: float

    def fold(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight (3, k) and bias (3,) of a last linear layer that gives calibrated logits."""
        return self.slope * weight, self.slope * bias + self.shift * _MOVES


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Temperature scaling (Guo et al. 2017) with a correction of the base rate, by maximum likelihood.

    Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020) shifts every class by itself.
    Here up and down share one shift: which of them a few weeks favoured says nothing of the weeks to come,
    and on BitMEX minutes the free shifts had the higher log loss out of sample.

    Parameters
    ----------
    logits : float array, shape (n, 3)
        What the model says, in the order up, down, flat, on a slice that it was neither trained nor stopped
        on.
    labels : int array, shape (n,)
        What happened.
    """
    logits = logits.astype(np.float64)
    happened = np.eye(3)[labels]

    def loss(params: np.ndarray) -> tuple[float, np.ndarray]:
        slope, shift = params
        p = softmax(slope * logits + shift * _MOVES)
        error = p - happened
        likelihood = np.maximum((p * happened).sum(axis=1), 1e-300)
        gradient = (
            (error * logits).sum(axis=1).mean(),
            (error * _MOVES).sum(axis=1).mean() + 2 * _RIDGE * shift,
        )
        return -np.log(likelihood).mean() + _RIDGE * shift**2, np.array(gradient)

    bounds = [(0.0, None), (None, None)]
    found = minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    slope, shift = found.x
    if not (found.success and np.isfinite(found.fun)):
        warn_fit(f"the calibration did not converge ({found.message})")
    counts = np.bincount(labels, minlength=3)
    if not counts[:2].all():
        warn_fit(
            f"the calibration slice of {len(labels)} bars holds {counts[0]} moves up and {counts[1]} down"
        )
    if slope < _SHAPELESS:
        warn_fit("calibrated, it knows nothing: its slope is 0, so every bar gets the same probabilities")
    return Calibration(float(slope), float(shift))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, along the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
