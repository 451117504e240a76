"""How good a detector is: accuracy and lag against a known path, and moments by regime on real data."""

import numpy as np

from core.messages import REGIMES
from core.table import FeatureTable
from regimes.hmm import HmmFilter, HmmSettings, Scaler

_DAY = 86_400 * 10**9


def accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """Share of the decided bars (not -1 or NaN) where the decided regime is the true one."""
    decided = labels >= 0
    return float(np.mean(labels[decided] == truth[decided]))


def detection_lags(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Bars from each change of the true regime until the decision agrees, shape (number of changes,).

    Infinite where the true regime changed again before the decision agreed.
    """
    changes = np.flatnonzero(np.diff(truth)) + 1
    ends = np.append(changes[1:], len(truth))
    lags = np.full(len(changes), np.inf)
    for i, (start, end) in enumerate(zip(changes, ends, strict=True)):
        agreed = np.flatnonzero(labels[start:end] == truth[start])
        if len(agreed):
            lags[i] = agreed[0]
    return lags


def switches_per_day(labels: np.ndarray, ts: np.ndarray) -> float:
    """Changes of the decided regime per 24 hours."""
    decided = labels >= 0
    span = float(ts[decided][-1] - ts[decided][0]) if decided.sum() > 1 else 0.0
    return float(np.count_nonzero(np.diff(labels[decided])) * _DAY / span) if span else 0.0


def moments_by_regime(labels: np.ndarray, returns: np.ndarray) -> dict[str, dict[str, float]]:
    """What the log return of the *next* bar was like under each decided regime.

    Returns
    -------
    dict
        For each regime: ``share`` of the decided bars, ``mean_bps`` and ``volatility_bps`` (standard
        deviation) of the next bar's log return in basis points, its ``kurtosis`` (3 is Gaussian) and
        ``autocorrelation`` at one bar, and ``dwell_bars``, the mean length of a stay.
    """
    following = np.append(returns[1:], np.nan)
    decided = labels >= 0
    result = {}
    for index, name in enumerate(REGIMES):
        here = labels == index
        known = following[here & np.isfinite(following)]
        pair = here & np.isfinite(following) & np.isfinite(returns)
        entries = int(np.count_nonzero(here & ~np.append(False, here[:-1])))
        centred = known - known.mean() if len(known) else known
        variance = float(np.mean(centred**2)) if len(known) else np.nan
        moving = len(known) > 2 and variance > 0
        correlated = moving and returns[pair].std() > 0 and following[pair].std() > 0
        result[name] = {
            "share": float(np.mean(here[decided])) if decided.any() else 0.0,
            "mean_bps": 1e4 * float(known.mean()) if len(known) else np.nan,
            "volatility_bps": 1e4 * float(np.sqrt(variance)),
            "kurtosis": float(np.mean(centred**4) / variance**2) if moving else np.nan,
            "autocorrelation": float(np.corrcoef(returns[pair], following[pair])[0, 1])
            if correlated
            else np.nan,
            "dwell_bars": float(np.count_nonzero(here) / entries) if entries else 0.0,
        }
    return result


def filter_of_path(
    settings: HmmSettings, table: FeatureTable, path: np.ndarray, names: tuple[str, ...]
) -> HmmFilter:
    """The filter with the true parameters: what a detector could know that was told the regime of every bar.

    Emissions are the moments of the features in each true state, transitions the counted ones, so only the
    path being hidden separates its posterior from certainty. It is the yardstick for a fitted detector on a
    synthetic market.

    Parameters
    ----------
    settings : HmmSettings
        Features, clipping and the floor of variances.
    table : FeatureTable
        Any span with known truth.
    path : int array, shape (n,)
        True state of each bar, an index into ``names``; there may be more states than regimes (trends up and
        down).
    names : tuple of str
        Regime of each state.

    Raises
    ------
    ValueError
        If no state is visited often enough to have moments; one that is not is left out.
    """
    values = table.columns(settings.features)
    complete = np.isfinite(values).all(axis=1)
    visits = np.bincount(path[complete], minlength=len(names))
    kept = np.flatnonzero(visits > 2 * values.shape[1])
    if not len(kept):
        raise ValueError(
            f"true path: no state has enough of the {complete.sum()} complete bars to have moments"
        )
    scaler = Scaler.fit(values[complete], settings.features, settings.clip)
    z = scaler(values)
    means, covariances = [], []
    for state in kept:
        mine = z[complete & (path == state)]
        means.append(mine.mean(axis=0))
        covariances.append(np.atleast_2d(np.cov(mine.T)) + settings.min_variance * np.eye(z.shape[1]))
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (path[:-1], path[1:]), 1.0)
    counts = counts[np.ix_(kept, kept)] + 1e-9
    start = np.bincount(path, minlength=len(names))[kept]
    return HmmFilter(
        inputs=settings.features,
        names=tuple(names[state] for state in kept),
        start=start / start.sum(),
        transition=counts / counts.sum(axis=1, keepdims=True),
        means=np.array(means),
        covariances=np.array(covariances),
        scaler=scaler,
    )
