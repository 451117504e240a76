"""What every forecaster shares: its settings, the classes it tells apart, and the examples it learns from."""

from collections.abc import Collection
from typing import Annotated, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field

from core.causal import CausalFilter
from core.fitting import warn_fit
from core.kinds import Family
from core.settings import Bars, Multiple, Number, unit
from core.table import FeatureTable
from learners.training import Progress, time_slices

OUTPUTS = ("p_up", "p_down")
"""What every forecaster says: calibrated probabilities that the price ends beyond the threshold; the rest is
flat."""

CLASSES = ("up", "down", "flat")
"""In the order of labels and logits."""

_SHARES = (0.7, 0.15, 0.15)  # of the training span: training, validation, calibration
_LEAST_MOVES = 20  # examples of up and of down, below which a fit on the training slice says nothing
_FEW_MOVES = 100  # below which it says little


class ForecastSettings(Family):
    """How to forecast direction; a subclass is one model, found by its ``kind``."""

    verbs: ClassVar[tuple[str, ...]] = ("fit",)

    features: tuple[str, ...] = ()
    """Features it reads; empty: those that suit the data, over one bar and over the horizon."""
    horizon: Bars = Field(default=60, ge=1, le=10_000)
    """How far ahead it forecasts."""
    cost_bps: Annotated[Number, unit("basis points of notional, 5 is 0.05 %")] = Field(
        default=10.0, ge=0, le=1_000
    )
    """What a round trip costs."""
    cost_multiple: Multiple = Field(default=1.0, gt=0, le=1_000)
    """A move counts as up or down when its log return is beyond so many times the cost."""
    max_rows: Bars = Field(default=200_000, ge=1_000, le=10_000_000)
    """The fit sees the last so many of the training span."""

    def suited(self, feeds: Collection[str], series: Collection[str] = ()) -> Self:
        """These settings, with features that can be made of ``feeds`` and ``series`` where they name none."""
        if self.features:
            return self
        h = self.horizon
        names = ["log_return_1", f"log_return_{h}", f"drift_ratio_{2 * h}", f"realized_volatility_{2 * h}"]
        if "book" in feeds:
            names += ["book_imbalance_1", *(["book_imbalance_5"] if "depth" in feeds else [])]
            names += ["microprice_deviation", "order_flow_imbalance_1"]
        if "trades" in feeds:
            names += [f"cvd_change_{h}", f"trade_imbalance_{h}", "trade_intensity_1"]
        elif "ohlcv" in feeds:
            names += [f"high_low_{h}", f"volume_zscore_{2 * h}"]
        names += [f"series_log_change_{h}@{alias}" for alias in series]
        return self.model_copy(update={"features": tuple(dict.fromkeys(names))})

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns that the model asks for."""
        return self.features

    @property
    def threshold(self) -> float:
        """Log return over the horizon beyond which a move pays for its round trip."""
        return self.cost_multiple * self.cost_bps * 1e-4

    def check(self, table: FeatureTable, price: np.ndarray) -> None:
        """Raise ValueError where ``fit`` could not be one: asked of every stage before any is fitted."""
        examples(self, table, price, getattr(self, "window", 1))

    def fit(
        self, table: FeatureTable, price: np.ndarray, seed: int, progress: Progress | None = None
    ) -> CausalFilter:
        """The forecaster fitted on the training span.

        Parameters
        ----------
        table : FeatureTable
            The training span and nothing after it.
        price : float array, shape (len(table),)
            Reference price at each bar's close, NaN where unknown.
        seed : int
            Of everything random.
        progress : callable, optional
            Told of every epoch, by models that have epochs.

        Raises
        ------
        ValueError
            If the span is too short, or too few moves go beyond the threshold.
        """
        raise NotImplementedError


def forward_returns(price: np.ndarray, horizon: int) -> np.ndarray:
    """The log return that came after each bar: ``out[t] = ln(price[t + horizon] / price[t])``.

    This looks ahead: it is a training target and a yardstick, never a feature. NaN in the last ``horizon``
    rows and where a price is unknown or not positive.
    """
    out = np.full(len(price), np.nan)
    if len(price) > horizon:
        log_price = np.log(np.where(price > 0, price, np.nan))
        out[:-horizon] = log_price[horizon:] - log_price[:-horizon]
    return out


def labels(returns: np.ndarray, threshold: float) -> np.ndarray:
    """Index into ``CLASSES`` of each return, int64; -1 where it is NaN."""
    out = np.where(returns > threshold, 0, np.where(returns < -threshold, 1, 2))
    return np.where(np.isnan(returns), -1, out)


class Examples(NamedTuple):
    """What a forecaster learns from: the complete rows of the training span, and three slices of it in order
    of time."""

    inputs: tuple[str, ...]
    rows: np.ndarray  # (n, len(inputs)), rows with a missing value left out, as the filter leaves them out
    labels: np.ndarray  # (n,), -1 where unknown
    mean: np.ndarray  # of the rows of the training slice
    std: np.ndarray
    train: np.ndarray  # row numbers with a known label and a full window
    validation: np.ndarray
    calibration: np.ndarray

    def scaled(self, clip: float) -> np.ndarray:
        """The rows as the model reads them, float64, same shape."""
        return np.clip((self.rows - self.mean) / self.std, -clip, clip)


def examples(settings: ForecastSettings, table: FeatureTable, price: np.ndarray, window: int) -> Examples:
    """Cut the training span: train, purge, validation, purge, calibration.

    The purge is the window plus the horizon, so no row and no price is seen from two slices.

    Raises
    ------
    ValueError
        If a slice would be empty, or up or down happens too rarely in the training slice.
    """
    if price.shape != (len(table),):
        raise ValueError(f"forecast: {len(table)} bars and prices of shape {price.shape}; give one a bar")
    inputs = settings.columns or table.names
    happened = labels(forward_returns(price, settings.horizon), settings.threshold)
    values = table.columns(inputs)
    complete = np.flatnonzero(np.isfinite(values).all(axis=1))[-settings.max_rows :]
    rows, happened = values[complete], happened[complete]
    slices = time_slices(len(rows), _SHARES, purge=window + settings.horizon)
    mean, std = rows[slices[0]].mean(axis=0), rows[slices[0]].std(axis=0)
    usable = (happened >= 0) & (np.arange(len(rows)) >= window - 1)
    train, validation, calibration = (s[usable[s]] for s in slices)
    if not min(len(train), len(validation), len(calibration)):
        raise ValueError(
            f"forecast: {len(train)} training, {len(validation)} validation and {len(calibration)} "
            f"calibration windows with a known price {settings.horizon} bars on; train on a longer span"
        )
    counts = np.bincount(happened[train], minlength=len(CLASSES))
    if counts[:2].min() < _LEAST_MOVES:
        raise ValueError(
            f"forecast: of {len(train)} bars to learn from, {counts[0]} go up and {counts[1]} down by more "
            f"than {settings.threshold * 1e4:g} bps within {settings.horizon} bars; at least {_LEAST_MOVES} "
            "each are needed: raise forecast.horizon, lower forecast.cost_multiple, or train on a longer span"
        )
    constant = np.ptp(rows[slices[0]], axis=0) == 0
    if constant.all():
        raise ValueError(
            f"forecast: every feature is constant over the training slice ({', '.join(inputs)}); nothing to "
            "learn from: name others, or train on another span"
        )
    for name in np.array(inputs)[constant]:
        warn_fit(f"feature {name} is constant over the training slice: it teaches nothing")
    if counts[:2].min() < _FEW_MOVES:
        warn_fit(
            f"of {len(train)} bars to learn from only {counts[0]} go up and {counts[1]} down by more than "
            f"{settings.threshold * 1e4:g} bps"
        )
    return Examples(inputs, rows, happened, mean, np.where(std > 0, std, 1.0), train, validation, calibration)
