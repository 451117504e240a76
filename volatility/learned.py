"""Realized variance as a task for any learner: QLIKE, on returns, the time of day and further features."""

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

from core.causal import CausalFilter
from core.fitting import OnEpoch
from core.table import FeatureTable
from learners import LearnerSettings, Task, for_every_learner
from learners.base import Quantity, time_slices
from learners.linear_filter import LogLinearFilter
from volatility.base import OUTPUTS, VolatilitySettings, training_rows
from volatility.scores import realized_variance

_CLIP = 50.0  # returns beyond so many standard deviations are cut there
_SHARES = (0.85, 0.15)  # training and validation


@for_every_learner("variance")
class LearnedVolatility(VolatilitySettings, LearnerSettings):
    """A volatility model that a learner finds."""

    features: tuple[str, ...] = ()
    """Further features it reads; empty: none, or for a learner that sees one bar alone the log volatility
    over a quarter, one and six horizons."""
    clock: tuple[str, str] | None = ("time_of_day_sin", "time_of_day_cos")
    """Features with the sine and cosine of the time of day."""

    @property
    def columns(self) -> tuple[str, ...]:
        h = self.horizon
        past = () if self.remembers else tuple(f"log_volatility_{n}" for n in (max(1, h // 4), h, 6 * h))
        return tuple(dict.fromkeys((self.returns, *(self.features or past), *(self.clock or ()))))

    def check(self, table: FeatureTable) -> None:
        self._task(table)

    def fit(self, table: FeatureTable, seed: int, on_epoch: OnEpoch | None = None) -> CausalFilter:
        """Fitted on the earlier 85 % of the span and chosen by the QLIKE of the rest.

        Raises
        ------
        ValueError
            If the span is too short for the window and horizon.
        ModuleNotFoundError
            If the learner needs torch and it is not installed.
        """
        return self.learn(self._task(table), seed, on_epoch)

    def _task(self, table: FeatureTable) -> "VarianceTask":
        """What the learner learns from; raises ValueError where the span is too short for it."""
        rows = training_rows(table, self)
        # The window, with the horizon, takes up at most half of the validation slice.
        window = self.lookback(_SHARES[1] * len(rows) / 2 - self.horizon)
        rows = training_rows(table, self, least=2 * window)
        realized = realized_variance(rows[:, 0], self.horizon)
        train, validation = time_slices(len(rows), _SHARES, purge=window + self.horizon)
        usable = (realized > 0) & (np.arange(len(rows)) >= window - 1)
        mean, std = rows[train].mean(axis=0), rows[train].std(axis=0)
        # Returns keep their sign and the clock its circle; a constant feature says nothing.
        plain = [name == self.returns or name in (self.clock or ()) for name in self.columns]
        mean, std = np.where(plain, 0.0, mean), np.where(plain | (std == 0), 1.0, std)
        std[0] = math.sqrt(float(np.mean(rows[train, 0] ** 2)))
        train, validation = train[usable[train]], validation[usable[validation]]
        if not len(train) or not len(validation) or not std[0] > 0:
            raise ValueError(
                f"volatility: {len(train)} training and {len(validation)} validation windows of {window} "
                "bars; train on a longer span, or have the learner look back on fewer"
            )
        level = float(np.mean(realized[train]))
        ratio = np.where(usable, realized / level, 1.0).astype(np.float32)
        squares = (np.clip(rows[train, 0] / std[0], -_CLIP, _CLIP).astype(np.float32)) ** 2
        return VarianceTask(
            inputs=self.columns,
            rows=rows,
            mean=mean,
            std=std,
            clip=_CLIP,
            window=window,
            targets=ratio,
            train=train,
            validation=validation,
            calibration=np.empty(0, np.int64),
            horizon=self.horizon,
            level=level,
            floor=float(squares[squares > 0].min()) / window,
            bounds=(math.log(float(ratio[train].min()) / 4), math.log(float(ratio[train].max()))),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VarianceTask(Task):
    """Targets are realized over the sample's variance, scores the log of that ratio as forecast.

    Parameters
    ----------
    horizon : int
        Bars ahead.
    level : float
        Mean realized variance over the horizon on the training slice.
    floor : float
        Less than the scaled mean square of any window that moved at all.
    bounds : (float, float)
        Between which the forecast score is kept: a quarter of the least that was realized, and the most.
    """

    quantity: ClassVar[Quantity] = "variance"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    horizon: int
    level: float
    floor: float
    bounds: tuple[float, float]

    def served_linear(self, weight: np.ndarray, bias: np.ndarray) -> LogLinearFilter:
        # Half the log of a variance is the log of a volatility.
        shift = 0.5 * np.array([math.log(self.level), math.log(self.level / self.horizon)])
        least, most = (tuple((0.5 * bound + shift).tolist()) for bound in self.bounds)
        return LogLinearFilter(
            inputs=self.inputs,
            outputs=self.outputs,
            mean=tuple(self.mean.tolist()),
            std=tuple(self.std.tolist()),
            clip=self.clip,
            weight=tuple(tuple(row) for row in np.repeat(0.5 * weight, len(shift), axis=0).tolist()),
            bias=tuple((0.5 * bias[0] + shift).tolist()),
            least=least,
            most=most,
        )

    @property
    def channels(self) -> int:
        return len(self.inputs) + 1

    def network(self, torch: Any, body: Any, width: int) -> Any:
        """Two parts are added. A linear one reads the logs of the mean squared return over the last 1, 2, 4,
        … bars, as a heterogeneous autoregression does, and the last bar's other inputs. The body reads the
        window and the log square of each return. Both start at zero, so the forecast starts at the sample
        variance.
        """
        spans = [2**j for j in range(self.window.bit_length())]
        averages = np.zeros((self.window, len(spans)), dtype=np.float32)
        for j, span in enumerate(spans):
            averages[self.window - span :, j] = 1 / span
        floor, others = self.floor, len(self.inputs) - 1

        class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("averages", torch.from_numpy(averages))
                self.body = body
                self.head = torch.nn.Linear(len(spans) + width + others, 1)
                torch.nn.init.zeros_(self.head.weight)
                torch.nn.init.zeros_(self.head.bias)

            def forward(self, window: Any) -> Any:
                squares = window[:, :, 0] ** 2
                measures = torch.log(squares @ self.averages + floor)
                y = self.body(torch.cat((window, torch.log(squares + 0.01).unsqueeze(2)), 2))
                return self.head(torch.cat((measures, y, window[:, -1, 1:]), 1))

        return Network()

    def loss(self, torch: Any, scores: Any, targets: Any) -> Any:
        """QLIKE of the forecast, both variances over the sample's."""
        x = targets * torch.exp(-scores[:, 0])
        return (x - torch.log(x) - 1).mean()

    def served(self, torch: Any, network: Any) -> Any:
        level, horizon, bounds = self.level, self.horizon, self.bounds

        class Forecast(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, window: Any) -> Any:
                log_ratio = torch.clamp(self.network(window), *bounds)
                volatility = math.sqrt(level) * torch.exp(0.5 * log_ratio)
                return torch.cat((volatility, volatility / math.sqrt(horizon)), 1)

        return Forecast()
