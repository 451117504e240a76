"""How good a forecast of direction was: AUC, Brier, calibration error, and what acting on it would earn.

scikit-learn is imported when a forecast is judged and never to trade.
"""

from typing import NamedTuple

import numpy as np


def auc(p: np.ndarray, happened: np.ndarray) -> float:
    """Area under the ROC curve: the chance that an event was given more probability than a non-event, ties
    counting half.

    Parameters
    ----------
    p : float array, shape (n,)
        Forecast probabilities; bars where it is NaN are left out (so in all scores here).
    happened : bool array, shape (n,)
        Whether the event came.

    Returns
    -------
    float
        0.5 says nothing was known. NaN if the event always or never came.
    """
    from sklearn.metrics import roc_auc_score

    p, happened = _known(p, happened)
    return float(roc_auc_score(happened, p)) if 0 < happened.sum() < len(happened) else float("nan")


def brier(p: np.ndarray, happened: np.ndarray) -> float:
    """Mean squared distance of probability and event (Brier 1950); the base rate b alone scores ``b (1 -
    b)``."""
    from sklearn.metrics import brier_score_loss

    p, happened = _known(p, happened)
    if not len(p):
        return float("nan")
    # A float32 softmax may end a last bit above one.
    return float(brier_score_loss(happened, np.clip(p, 0.0, 1.0), pos_label=True))


def calibration_error(p: np.ndarray, happened: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance of forecast and observed frequency over ``bins`` groups.

    The groups hold equally many bars each, in order of ``p``, because probabilities of rare moves crowd near
    zero, where bins of equal width would not tell them apart (Nixon et al. 2019, "Measuring calibration in
    deep learning").
    """
    p, happened = _known(p, happened)
    order = np.argsort(p, kind="stable")
    gaps = [abs(p[g].mean() - happened[g].mean()) * len(g) for g in np.array_split(order, bins) if len(g)]
    return float(sum(gaps) / len(p)) if len(p) else float("nan")


class Decile(NamedTuple):
    """Bars of like confidence, and what taking the likelier side on each of them would have brought."""

    confidence: float  # mean of the larger probability
    bars: int
    hit_rate: float  # share of trades that made more than their cost
    net_return: float  # mean log return of a trade after its cost


def confidence_deciles(
    p_up: np.ndarray, p_down: np.ndarray, returns: np.ndarray, cost: float, groups: int = 10
) -> list[Decile]:
    """The bars from least to most confident in ``groups`` equal parts, each traded to the likelier side.

    Parameters
    ----------
    p_up, p_down : float arrays, shape (n,)
        Forecast probabilities.
    returns : float array, shape (n,)
        Log return over the horizon that came (``forward_returns``); NaN is left out.
    cost : float
        Of a round trip, as a fraction of notional.
    """
    known = np.isfinite(p_up) & np.isfinite(p_down) & np.isfinite(returns)
    p_up, p_down, returns = p_up[known], p_down[known], returns[known]
    confidence = np.maximum(p_up, p_down)
    net = np.where(p_up >= p_down, returns, -returns) - cost
    parts = np.array_split(np.argsort(confidence, kind="stable"), groups)
    return [
        Decile(float(confidence[g].mean()), len(g), float((net[g] > 0).mean()), float(net[g].mean()))
        for g in parts
        if len(g)
    ]


def _known(p: np.ndarray, happened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(p)
    return p[known], happened[known].astype(bool)
