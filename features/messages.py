"""What the stages say to each other on the message bus, once a bar. Immutable; ``ts`` is its close, ns."""

from typing import NamedTuple

import numpy as np

REGIMES = ("trend", "chop", "stress")
"""The market's weather, in the order of every posterior and label."""


class FeatureBar(NamedTuple):
    """The chosen features of one closed bar (topic ``features``), published last of the bar's messages."""

    ts: int
    values: np.ndarray  # shape (number of features,)
    ready: bool  # every feature is finite
    price: float  # mid (else last trade or bar close) of the traded instrument at the close; NaN if unknown
    bid: float  # best levels of its book at the close, NaN without a book
    ask: float


class RegimeState(NamedTuple):
    """Topic ``regime``. ``label`` indexes ``REGIMES``; -1 while no model is valid or none has spoken."""

    ts: int
    label: int
    posterior: tuple[float, ...]  # filtered probabilities in the order of REGIMES


class VolatilityState(NamedTuple):
    """Topic ``volatility``. NaN and risk-off while no model is valid."""

    ts: int
    volatility: float  # forecast standard deviation of the log return over the model's horizon of bars
    bar_volatility: float  # the same for the next bar
    risk_on: bool


class Forecast(NamedTuple):
    """Topic ``forecast``: calibrated probabilities that price ends beyond the cost-aware threshold.

    NaN while silent.
    """

    ts: int
    up: float
    down: float


class RiskState(NamedTuple):
    """Topic ``risk``: what the governor allows."""

    ts: int
    permit: str  # "active", "reduce_only" or "halted"
    size_factor: float  # multiplies every new size
    equity: float
    drawdown: float  # 0.05 is five per cent under the peak


class SeriesValue(NamedTuple):
    """Topic ``series``: one value of an external series, at its publication."""

    name: str
    ts_init: int
    value: float
