"""How good a volatility forecast was: realized variance, QLIKE, log error, Diebold and Mariano's test."""

import math

import numpy as np


def realized_variance(returns: np.ndarray, horizon: int) -> np.ndarray:
    """The variance that came after each bar: ``out[t] = sum(returns[t + 1 : t + 1 + horizon] ** 2)``.

    This looks ahead: it is a training target and a yardstick, never a feature.

    Parameters
    ----------
    returns : float array, shape (n,)
        Log returns per bar.
    horizon : int
        Bars ahead.

    Returns
    -------
    float array, shape (n,)
        NaN in the last ``horizon`` rows, and where a return of the window is missing.
    """
    out = np.full(len(returns), np.nan)
    if len(returns) > horizon:
        squares = np.lib.stride_tricks.sliding_window_view(returns[1:] ** 2, horizon)
        out[: len(squares)] = squares.sum(axis=1)
    return out


def qlike_losses(forecast: np.ndarray, realized: np.ndarray) -> np.ndarray:
    """QLIKE of each forecast: ``x - log(x) - 1`` with ``x = realized / forecast``, both variances.

    Zero is perfect.

    Robust to noise in the variance proxy (Patton 2011, "Volatility forecast comparison using imperfect
    volatility proxies"). NaN where a value is missing, and where nothing was realized: no bar of the window
    moved, so there is no variance to judge by.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where((realized > 0) & (forecast > 0), realized / forecast, np.nan)
        return x - np.log(x) - 1


def qlike(forecast: np.ndarray, realized: np.ndarray) -> float:
    """Mean of ``qlike_losses`` over the bars where both are known."""
    return float(np.nanmean(qlike_losses(forecast, realized)))


def log_error(forecast: np.ndarray, realized: np.ndarray) -> float:
    """Mean squared error of log variance over the bars where both are known and positive."""
    known = (forecast > 0) & (realized > 0)
    return float(np.mean((np.log(forecast[known]) - np.log(realized[known])) ** 2))


def diebold_mariano(losses: np.ndarray, others: np.ndarray, horizon: int) -> tuple[float, float]:
    """Whether two forecasts differ (Diebold and Mariano 1995): the statistic and its two-sided p-value.

    Parameters
    ----------
    losses, others : float arrays, shape (n,)
        Losses of the two forecasts at the same bars; bars where either is NaN are left out.
    horizon : int
        Bars ahead. Overlapping windows correlate the losses, so their variance is Newey and West's (1987)
        with ``horizon`` lags.

    Returns
    -------
    statistic, p_value : float
        A negative statistic favours the first forecast.
    """
    d = losses - others
    d = d[np.isfinite(d)]
    centred = d - d.mean()
    variance = centred @ centred / len(d)
    for lag in range(1, min(horizon, len(d) - 1) + 1):
        variance += 2 * (1 - lag / (horizon + 1)) * (centred[lag:] @ centred[:-lag]) / len(d)
    if variance <= 0:
        return (0.0, 1.0) if d.mean() == 0 else (math.copysign(math.inf, d.mean()), 0.0)
    statistic = float(d.mean() / math.sqrt(variance / len(d)))
    return statistic, math.erfc(abs(statistic) / math.sqrt(2))
