"""What every volatility model shares: its settings, its inputs and outputs, and the data it is fitted on."""

import numpy as np
from pydantic import Field

from features.causal import CausalFilter
from features.settings import Settings
from features.table import FeatureTable

OUTPUTS = ("volatility", "bar_volatility")
"""What every forecaster says: the standard deviation of the log return over the next ``horizon`` bars, and of the next
bar's alone. Both are per period, not annualised."""


class VolatilitySettings(Settings):
    """How to forecast volatility; a subclass is one model, found by its ``kind``.

    ``returns`` names the column of per-bar log returns. ``horizon`` is the number of bars ahead the forecast covers.
    ``max_rows`` bounds the fit to the last bars of the training span; recent bars matter most.
    """

    returns: str = "log_return_1"
    horizon: int = Field(60, ge=1)
    max_rows: int = Field(200_000, ge=1_000)

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns that the model reads."""
        return (self.returns,)

    def fit(self, table: FeatureTable, seed: int) -> CausalFilter:
        """The forecaster fitted on ``table``, which holds the training span and nothing after it.

        Raises
        ------
        ValueError
            If there are too few returns, or the optimiser does not converge.
        """
        raise NotImplementedError


def training_returns(table: FeatureTable, settings: VolatilitySettings, least: int = 500) -> np.ndarray:
    """The last ``max_rows`` finite log returns of the training span, shape (n,).

    Raises
    ------
    ValueError
        If fewer than ``least`` are finite, or they never move.
    """
    returns = table.column(settings.returns)[-settings.max_rows :]
    returns = returns[np.isfinite(returns)]
    if len(returns) < least:
        raise ValueError(
            f"volatility: {len(returns)} finite values of {settings.returns!r} in the training span, "
            f"the fit needs {least}; train on a longer span"
        )
    if not np.any(returns):
        raise ValueError(f"volatility: every value of {settings.returns!r} in the training span is zero; nothing to fit")
    return returns
