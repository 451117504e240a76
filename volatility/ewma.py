"""Exponentially weighted moving average of squared returns (RiskMetrics), the simplest baseline."""

from typing import Literal

import numpy as np
from pydantic import Field

from core.fitting import OnEpoch
from core.settings import Fraction
from core.table import FeatureTable
from volatility.base import VolatilitySettings, calibrated, training_rows
from volatility.garch import GarchFilter
from volatility.scores import qlike, realized_variance

_DECAYS = (0.8, 0.9, 0.94, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975, 0.999)


class EwmaSettings(VolatilitySettings):
    """EWMA (RiskMetrics 1996): ``s2[t+1] = decay s2[t] + (1 - decay) r[t]^2``, flat ahead.

    Without a ``decay``, the fit takes the one with the lowest QLIKE over the horizon on the training span.
    """

    kind: Literal["ewma"] = "ewma"
    decay: Fraction | None = Field(default=None, gt=0, lt=1)
    """Weight of the past; 0.94 is RiskMetrics' value for daily data. Absent: chosen by the fit."""

    def fit(self, table: FeatureTable, seed: int, on_epoch: OnEpoch | None = None) -> GarchFilter:
        """An integrated GARCH filter without constant; ``seed`` has no effect."""
        returns = training_rows(table, self)[:, 0]
        realized = realized_variance(returns, self.horizon)
        best, lowest = None, np.inf
        for decay in _DECAYS if self.decay is None else (self.decay,):
            model = calibrated(
                GarchFilter(
                    inputs=(self.returns,),
                    horizon=self.horizon,
                    omega=0.0,
                    alpha=1 - decay,
                    beta=decay,
                    first_variance=float(np.mean(returns[: self.horizon + 50] ** 2)),
                ),
                returns[:, None],
            )
            loss = qlike(model.run(returns[:, None])[:, 0] ** 2, realized)
            if best is None or loss < lowest:
                best, lowest = model, loss
        assert best is not None
        return best
