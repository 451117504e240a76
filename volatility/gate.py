"""The risk-on/off gate: forecast volatility against two thresholds, so that it does not flicker."""

import dataclasses
import math
from typing import ClassVar, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from core import checks
from core.causal import CausalFilter, Params, State
from core.fitting import warn_fit
from core.settings import Fraction, Settings, Volatility
from core.table import FeatureTable

_YEAR = 365 * 86_400 * 10**9  # ns; crypto markets never close


class GateSettings(Settings):
    """When risk goes off and when it comes back, by forecast volatility."""

    off_quantile: Fraction = Field(default=0.95, gt=0, lt=1)
    """Risk goes off above this quantile of the training span's forecasts."""
    on_quantile: Fraction = Field(default=0.85, gt=0, lt=1)
    """Risk comes back below this quantile of the training span's forecasts."""
    off_annualised: Volatility | None = Field(default=None, gt=0, le=1e9)
    """A volatility a year (0.8 is 80 %) that takes the place of ``off_quantile``; give both or neither."""
    on_annualised: Volatility | None = Field(default=None, gt=0, le=1e9)
    """A volatility a year (0.8 is 80 %) that takes the place of ``on_quantile``; give both or neither."""

    @model_validator(mode="after")
    def _on_below_off(self) -> Self:
        if self.on_quantile > self.off_quantile:
            raise ValueError(
                f"on_quantile {self.on_quantile} is above off_quantile {self.off_quantile}; swap them"
            )
        if (self.off_annualised is None) != (self.on_annualised is None):
            raise ValueError("off_annualised and on_annualised belong together; give both or neither")
        if (
            self.off_annualised is not None
            and self.on_annualised is not None
            and self.on_annualised > self.off_annualised
        ):
            raise ValueError(
                f"on_annualised {self.on_annualised} is above off_annualised {self.off_annualised}; swap them"
            )
        return self

    def fit(self, forecaster: CausalFilter, table: FeatureTable, horizon: int) -> "GateFilter":
        """The gate with its thresholds resolved on the training span.

        Put it behind ``forecaster`` with a ``Chain``.

        Parameters
        ----------
        forecaster : CausalFilter
            Fitted volatility model.
        table : FeatureTable
            The training span.
        horizon : int
            Bars that the forecaster's ``volatility`` covers, to annualise by the measured number of bars a
            year.

        Raises
        ------
        ValueError
            If the forecaster never speaks on the training span.
        """
        if self.off_annualised is not None and self.on_annualised is not None:
            if len(table) < 2:
                raise ValueError("gate: one bar tells no number of bars a year; train on a longer span")
            bars_a_year = (len(table) - 1) * _YEAR / float(table.ts[-1] - table.ts[0])
            period = math.sqrt(horizon / bars_a_year)
            return GateFilter(off=self.off_annualised * period, on=self.on_annualised * period)
        forecasts = forecaster.run(table.columns(forecaster.inputs))[
            :, forecaster.outputs.index("volatility")
        ]
        forecasts = forecasts[np.isfinite(forecasts)]
        if not len(forecasts):
            raise ValueError(
                f"gate: no volatility forecast on the {len(table)} training bars; train on a longer span"
            )
        off, on = np.quantile(forecasts, (self.off_quantile, self.on_quantile))
        if not off > forecasts.min():
            warn_fit(
                f"the forecast hardly changes over the training span: risk goes off above {off:.4g} only"
            )
        return GateFilter(off=float(off), on=float(on))


@dataclasses.dataclass(frozen=True)
class GateFilter(Params):
    """Risk is off from the first forecast above ``off`` to the first below ``on``, and before any forecast.

    Parameters
    ----------
    off, on : float
        Thresholds in the unit of the forecast, ``on <= off``.
    """

    kind: ClassVar[str] = "gate"
    inputs: ClassVar[tuple[str, ...]] = ("volatility",)
    outputs: ClassVar[tuple[str, ...]] = ("risk_on",)

    off: float
    on: float

    def __post_init__(self) -> None:
        checks.number("gate: off", self.off, 0)
        checks.number("gate: on", self.on, 0, self.off)

    def initial_state(self) -> State:
        return {"gate": np.array([0.0, 0.0])}  # risk on, and whether any forecast was seen

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 1))
        _run(np.ascontiguousarray(xs, dtype=np.float64), state["gate"], self.off, self.on, out)
        return out


@numba.njit(cache=True)
def _run(xs, state, off, on, out):  # type: ignore[no-untyped-def]
    for i in range(xs.shape[0]):
        volatility = xs[i, 0]
        if math.isfinite(volatility):
            if volatility > off:
                state[0] = 0.0
            elif volatility < on or state[1] == 0.0:
                state[0] = 1.0
            state[1] = 1.0
        out[i, 0] = state[0]
