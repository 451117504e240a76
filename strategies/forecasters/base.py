"""What every forecaster shares: its settings, the classes it tells apart, and what truly came."""

from collections.abc import Collection
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field

from core.causal import CausalFilter
from core.fitting import OnEpoch
from core.kinds import Family
from core.settings import Bars, Multiple, Number, unit
from core.table import FeatureTable

OUTPUTS = ("p_up", "p_down")
"""What every forecaster says: calibrated probabilities that the price ends beyond the threshold; the rest is
flat."""

CLASSES = ("up", "down", "flat")
"""In the order of labels and logits."""


class ForecastSettings(Family):
    """How to forecast direction; a subclass is one model, found by its ``kind``."""

    verbs: ClassVar[tuple[str, ...]] = ("check", "fit")

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
        raise NotImplementedError

    def fit(
        self, table: FeatureTable, price: np.ndarray, seed: int, on_epoch: OnEpoch | None = None
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
        on_epoch : callable, optional
            Called after every epoch, by models that have epochs.

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
