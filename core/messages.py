"""What is said on the message bus: one ``BarState`` for every closed bar (topic ``bar``), and slow series;
and the stages whose words it carries.

One message carries the whole bar, because every component more, and every topic more, is felt at each tick.
All are immutable.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

REGIMES = ("trend", "chop", "stress")
"""The market's weather, in the order of every posterior and label."""


class RegimeState(NamedTuple):
    """``label`` indexes ``REGIMES``; -1 while no model is valid or none has spoken."""

    label: int
    posterior: tuple[float, ...]  # filtered probabilities in the order of REGIMES

    @classmethod
    def of(cls, row: list[float]) -> Self:
        """What a row of the stage's outputs means."""
        *posterior, label = row
        return cls(-1 if math.isnan(label) else int(label), tuple(posterior))


class VolatilityState(NamedTuple):
    """NaN and risk-off while no model is valid."""

    volatility: float  # forecast standard deviation of the log return over the model's horizon of bars
    bar_volatility: float  # the same for the next bar
    risk_on: bool

    @classmethod
    def of(cls, row: list[float]) -> Self:
        """What a row of the stage's outputs means; silence is risk off."""
        volatility, bar_volatility, risk_on = row
        return cls(volatility, bar_volatility, risk_on == 1.0)


class Forecast(NamedTuple):
    """Calibrated probabilities that price ends beyond the cost-aware threshold; NaN while silent."""

    up: float
    down: float

    @classmethod
    def of(cls, row: list[float]) -> Self:
        """What a row of the stage's outputs means."""
        return cls(*row)


class StageSpec(NamedTuple):
    """One stage of the pipeline: a model that says something at every bar."""

    name: str  # its table in a config, its folder in a bundle, its field in a bar's message
    outputs: tuple[str, ...]  # the columns that its filter ends in
    message: Callable[[list[float]], Any]  # what a row of them means; all NaN while it is silent
    optional: bool = False  # whether a config may go without it


STAGES = (
    StageSpec("regime", (*(f"p_{name}" for name in REGIMES), "regime"), RegimeState.of),
    StageSpec("volatility", ("volatility", "bar_volatility", "risk_on"), VolatilityState.of),
    StageSpec("forecast", ("p_up", "p_down"), Forecast.of, optional=True),
)
"""Every stage. One more is one more line; strategies read it in ``BarState.further``."""


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
    further: Mapping[str, Any] = {}  # the messages of all other stages, by name


class SeriesValue(NamedTuple):
    """Topic ``series``: one value of an external series, at its publication."""

    name: str
    ts_init: int
    value: float
