"""What is said on the message bus: one ``BarState`` for every closed bar (topic ``bar``), and slow series.

One message carries the whole bar, because every component more, and every topic more, is felt at each tick.
All are immutable.
"""

from typing import NamedTuple

import numpy as np

REGIMES = ("trend", "chop", "stress")
"""The market's weather, in the order of every posterior and label."""


class RegimeState(NamedTuple):
    """``label`` indexes ``REGIMES``; -1 while no model is valid or none has spoken."""

    label: int
    posterior: tuple[float, ...]  # filtered probabilities in the order of REGIMES


class VolatilityState(NamedTuple):
    """NaN and risk-off while no model is valid."""

    volatility: float  # forecast standard deviation of the log return over the model's horizon of bars
    bar_volatility: float  # the same for the next bar
    risk_on: bool


class Forecast(NamedTuple):
    """Calibrated probabilities that price ends beyond the cost-aware threshold; NaN while silent."""

    up: float
    down: float


class RiskState(NamedTuple):
    """What the governor allows."""

    permit: str  # "active", "reduce_only", "halted" or "liquidated"
    size_factor: float  # multiplies every new size
    equity: float
    drawdown: float  # 0.05 is five per cent under the peak


class BarState(NamedTuple):
    """Topic ``bar``: the chosen features of one closed bar of the traded instrument, and what every stage
    says of them.
    """

    ts: int  # its close, ns
    features: np.ndarray  # shape (number of features,)
    price: float  # mid (else last trade or bar close) at the close; NaN if never known
    bid: float  # best levels of the book at the close, NaN without a book
    ask: float
    low: float  # the range of the bar's marks: see ``features.kernel.QUOTE_COLUMNS``
    high: float
    regime: RegimeState
    volatility: VolatilityState
    forecast: Forecast
    risk: RiskState


class SeriesValue(NamedTuple):
    """Topic ``series``: one value of an external series, at its publication."""

    name: str
    ts_init: int
    value: float
