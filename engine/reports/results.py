"""What an evaluation found, as the page shows it and ``--json`` prints it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np

Floats = Sequence[float] | np.ndarray


class Timeline(TypedDict):
    """Bars in order; labels index ``REGIMES``, -1 where there is none."""

    ts: Floats  # ns
    price: Floats
    label: Floats
    truth: NotRequired[Floats]


class SeedAccuracy(TypedDict):
    """One synthetic market."""

    seed: int
    accuracy: float
    reference: float


class RegimeResults(TypedDict):
    """How well regimes are told. Accuracies are shares of bars; where there is no truth they are left out."""

    switches_per_day: float
    moments: dict[str, dict[str, float]]  # by regime: name of the moment, with its unit, to its value
    accuracy: NotRequired[float]  # online label against truth
    reference: NotRequired[float]  # the filter with the true parameters against truth
    lags: NotRequired[Floats]  # bars from each true switch to the label's, infinite where it was never seen
    reference_lags: NotRequired[Floats]  # the same of the filter with the true parameters
    confusion: NotRequired[Sequence[Floats]]  # counts, rows truth, columns label, in the order of REGIMES
    seeds: NotRequired[list[SeedAccuracy]]
    timeline: NotRequired[Timeline]


class VolatilityScore(TypedDict):
    """One model against realized variance over the horizon."""

    model: str
    qlike: float  # mean of rv/f - log(rv/f) - 1 of variances: 0 is perfect
    log_error: float  # root mean square of log(forecast / realized) of variances
    bias: NotRequired[float]  # mean of log(forecast / realized): 0 is unbiased


class VolatilitySeries(TypedDict):
    """Volatilities (standard deviations) over the horizon, and the moment each forecast was made."""

    ts: Floats
    realized: Floats
    forecasts: dict[str, Floats]


class VolatilityResults(TypedDict):
    """Forecasts of volatility side by side."""

    horizon: str  # such as "1h"
    observations: int
    scores: list[VolatilityScore]
    series: NotRequired[VolatilitySeries]


class ReliabilityBin(TypedDict):
    """Forecasts of about one probability."""

    forecast: float  # their mean
    observed: float  # share that came true
    count: int


class ConfidenceDecile(TypedDict):
    """A tenth of the forecasts, by the confidence in the direction they favour."""

    confidence: float  # mean
    hit_rate: float  # share whose direction came true
    net_bps: float  # mean return in that direction after costs
    count: int


class ForecasterResults(TypedDict):
    """Calibrated probabilities that the price ends beyond the threshold."""

    observations: int
    horizon: str
    threshold_bps: float
    cost_bps: float  # of a trade in and out, negative as every cost
    auc: dict[str, float]  # by side, "up" and "down"
    brier: dict[str, float]
    brier_base: dict[str, float]  # of always saying the base rate
    ece: dict[str, float]
    reliability: dict[str, list[ReliabilityBin]]
    deciles: list[ConfidenceDecile]


class Results(TypedDict):
    """What ``write_evaluation`` shows; a section that is absent is left out."""

    name: str
    instrument: str
    bars: str
    trained: str
    judged: str  # the span out of sample
    notes: NotRequired[list[str]]
    regimes: NotRequired[RegimeResults]
    volatility: NotRequired[VolatilityResults]
    forecaster: NotRequired[ForecasterResults]


_PICTURES = ("timeline", "series")


def jsonable(value: Any) -> Any:
    """``value`` as plain JSON: arrays become lists and what is not finite None.

    Time series that only the page draws (``timeline``, ``series``) are left out.
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items() if key not in _PICTURES}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
