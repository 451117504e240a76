"""Which hidden state is trend, chop or stress: a rule on fitted moments, never on the order of states."""

import numpy as np
from pydantic import Field

from core.settings import Multiple, Settings


class NamingSettings(Settings):
    """The rule that names states.

    *Stress* is the state with the highest mean of the dispersion feature (realized volatility), if that is at
    least ``stress_ratio`` times the mean over all bars outside it; so is every state nearer to it than to
    those bars, in logarithms. Among the other states the *drift ratio* is the root mean square of the
    direction feature (a return over many bars) over the mean dispersion: *trend* are those nearer to the
    largest ratio than to the smallest, in logarithms, if the two differ by ``trend_ratio``. The rest is
    *chop*.
    """

    stress_ratio: Multiple = Field(default=1.5, gt=1, le=100)
    """How much more dispersed stress is than the bars outside it."""
    trend_ratio: Multiple = Field(default=1.1, gt=1, le=100)
    """How far apart the drift ratios of trend and chop are."""


def name_states(
    weights: np.ndarray, direction: np.ndarray, dispersion: np.ndarray, settings: NamingSettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The name of each state, and what is wrong with the fit where a name is not given.

    Parameters
    ----------
    weights : float array, shape (n, number of states)
        Posterior of each bar of the training span.
    direction : float array, shape (n,)
        A signed feature, such as the log return over an hour.
    dispersion : float array, shape (n,)
        A positive feature, such as realized volatility, in the unit of one bar.
    settings : NamingSettings
        Thresholds of the rule.

    Returns
    -------
    names : tuple of str
        ``"trend"``, ``"chop"`` or ``"stress"`` for each state; several states may share one.
    problems : tuple of str
        Sentences about names that no state deserves; empty for a good fit.
    """
    mass = weights.sum(axis=0)
    level = weights.T @ dispersion / np.maximum(mass, 1e-300)
    drift = np.sqrt(weights.T @ direction**2 / np.maximum(mass, 1e-300)) / np.maximum(level, 1e-300)
    states = np.arange(len(mass))
    problems = []

    highest = int(np.argmax(level))
    outside = states != highest
    calm = float(np.average(level[outside], weights=mass[outside] + 1e-300))
    if level[highest] >= settings.stress_ratio * calm:
        stress = level >= np.sqrt(level[highest] * calm)
    else:
        stress = np.zeros(len(states), dtype=bool)
        problems.append(
            f"no stress: the most volatile state has {level[highest] / max(calm, 1e-300):.2f} times the "
            f"dispersion of the others, the rule asks for {settings.stress_ratio}"
        )

    trend = np.zeros(len(states), dtype=bool)
    rest = states[~stress]
    largest, smallest = float(drift[rest].max()), float(drift[rest].min())
    if largest >= settings.trend_ratio * smallest and len(rest) > 1:
        trend[rest] = drift[rest] >= np.sqrt(largest * smallest)
    else:
        problems.append(
            f"no trend: the drift ratios of the {len(rest)} calm states run from {smallest:.3g} to "
            f"{largest:.3g}, the rule asks for a factor of {settings.trend_ratio}"
        )
    names = np.where(stress, "stress", np.where(trend, "trend", "chop"))
    return tuple(names.tolist()), tuple(problems)
