"""The price's direction, net of what a trade costs, as a task for any learner: three classes, calibrated."""

import dataclasses
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from core.causal import CausalFilter
from core.fitting import OnEpoch, warn_fit
from core.settings import Number, unit
from core.table import FeatureTable
from learners import LearnerSettings, Task, for_every_learner
from learners.base import Quantity, time_slices
from learners.linear_filter import LogisticFilter
from strategies.forecasters.base import CLASSES, OUTPUTS, ForecastSettings, forward_returns, labels
from strategies.forecasters.calibration import calibrate

_SHARES = (0.7, 0.15, 0.15)  # of the training span: training, validation, calibration
_LEAST_MOVES = 20  # examples of up and of down, below which a fit on the training slice says nothing
_FEW_MOVES = 100  # below which it says little


@for_every_learner("classes")
class LearnedForecast(ForecastSettings, LearnerSettings):
    """A forecaster that a learner finds."""

    clip: Annotated[Number, unit("standard deviations")] = Field(default=5.0, gt=0, le=1e6)
    """Where standardised features are cut."""

    def check(self, table: FeatureTable, price: np.ndarray) -> None:
        self.task(table, price)

    def fit(
        self, table: FeatureTable, price: np.ndarray, seed: int, on_epoch: OnEpoch | None = None
    ) -> CausalFilter:
        """Trained on the first slice of the span, chosen on the second, calibrated on the third.

        Raises
        ------
        ValueError
            If the span is too short, or too few moves go beyond the threshold.
        ModuleNotFoundError
            If the learner needs torch and it is not installed.
        """
        return self.learn(self.task(table, price), seed, on_epoch)

    def task(self, table: FeatureTable, price: np.ndarray) -> "DirectionTask":
        """Cut the training span: train, purge, validation, purge, calibration.

        The purge is the window plus the horizon, so no row and no price is seen from two slices.

        Raises
        ------
        ValueError
            If a slice would be empty, or up or down happens too rarely in the training slice.
        """
        if price.shape != (len(table),):
            raise ValueError(f"forecast: {len(table)} bars and prices of shape {price.shape}; give one a bar")
        inputs = self.columns or table.names
        happened = labels(forward_returns(price, self.horizon), self.threshold)
        values = table.columns(inputs)
        complete = np.flatnonzero(np.isfinite(values).all(axis=1))[-self.max_rows :]
        rows, happened = values[complete], happened[complete]
        window = self.lookback(_SHARES[1] * len(rows) / 2 - self.horizon)
        slices = time_slices(len(rows), _SHARES, purge=window + self.horizon)
        first = rows[slices[0]]
        usable = (happened >= 0) & (np.arange(len(rows)) >= window - 1)
        train, validation, calibration = (s[usable[s]] for s in slices)
        if not min(len(train), len(validation), len(calibration)):
            raise ValueError(
                f"forecast: {len(train)} training, {len(validation)} validation and {len(calibration)} "
                f"calibration windows with a known price {self.horizon} bars on; train on a longer span"
            )
        self._refuse_too_few(np.bincount(happened[train], minlength=len(CLASSES)))
        _refuse_constant(inputs, np.ptp(first, axis=0) == 0)
        std = first.std(axis=0)
        return DirectionTask(
            inputs=inputs,
            rows=rows,
            mean=first.mean(axis=0),
            std=np.where(std > 0, std, 1.0),
            clip=self.clip,
            window=window,
            targets=happened,
            train=train,
            validation=validation,
            calibration=calibration,
        )

    def _refuse_too_few(self, counts: np.ndarray) -> None:
        up, down = counts[:2]
        if min(up, down) < _LEAST_MOVES:
            raise ValueError(
                f"forecast: of {counts.sum()} bars to learn from, {up} go up and {down} down by more than "
                f"{self.threshold * 1e4:g} bps within {self.horizon} bars; at least {_LEAST_MOVES} each are "
                "needed: raise forecast.horizon, lower forecast.cost_multiple, or train on a longer span"
            )
        if min(up, down) < _FEW_MOVES:
            warn_fit(
                f"of {counts.sum()} bars to learn from only {up} go up and {down} down by more than "
                f"{self.threshold * 1e4:g} bps"
            )


def _refuse_constant(inputs: tuple[str, ...], constant: np.ndarray) -> None:
    if constant.all():
        raise ValueError(
            f"forecast: every feature is constant over the training slice ({', '.join(inputs)}); nothing to "
            "learn from: name others, or train on another span"
        )
    for name in np.array(inputs)[constant]:
        warn_fit(f"feature {name} is constant over the training slice: it teaches nothing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionTask(Task):
    """Targets are indices into ``CLASSES``, -1 where unknown; scores are logits."""

    quantity: ClassVar[Quantity] = "classes"
    outputs: ClassVar[tuple[str, ...]] = OUTPUTS

    def calibrated(
        self, weight: np.ndarray, bias: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return calibrate(scores, self.targets[self.calibration]).fold(weight, bias)

    def served_linear(self, weight: np.ndarray, bias: np.ndarray) -> LogisticFilter:
        return LogisticFilter(
            inputs=self.inputs,
            outputs=self.outputs,
            mean=tuple(self.mean.tolist()),
            std=tuple(self.std.tolist()),
            clip=self.clip,
            weight=tuple(tuple(row) for row in weight.tolist()),
            bias=tuple(bias.tolist()),
        )

    @property
    def channels(self) -> int:
        return len(self.inputs)

    def network(self, torch: Any, body: Any, width: int) -> Any:
        class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.body = body
                self.head = torch.nn.Linear(width, len(CLASSES))

            def forward(self, window: Any) -> Any:
                return self.head(self.body(window))

        return Network()

    def loss(self, torch: Any, scores: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(scores, targets)

    def served(self, torch: Any, network: Any) -> Any:
        class Forecast(torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, window: Any) -> Any:
                return torch.softmax(self.network(window), 1)[:, : len(OUTPUTS)]

        return Forecast()
