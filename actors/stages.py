"""Shells that carry a stage on the message bus: features in, the stage's word out, once a bar."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from nautilus_trader.common import DataActor
from nautilus_trader.model import ActorId

from actors.guard import RunGuard
from features.messages import FeatureBar, Forecast, RegimeState, VolatilityState


class Online(Protocol):
    """A stage with its running state (``engine.stages.OnlineStage``)."""

    def step(self, ts: int, row: np.ndarray) -> np.ndarray: ...
    def save(self) -> dict[str, np.ndarray]: ...
    def load(self, arrays: dict[str, np.ndarray]) -> None: ...


def regime_state(ts: int, row: list[float]) -> RegimeState:
    """From the outputs ``p_trend, p_chop, p_stress, regime``."""
    trend, chop, stress, label = row
    return RegimeState(ts, int(label) if label == label else -1, (trend, chop, stress))


def volatility_state(ts: int, row: list[float]) -> VolatilityState:
    """From the outputs ``volatility, bar_volatility, risk_on``; silence means risk off."""
    volatility, bar_volatility, risk_on = row
    return VolatilityState(ts, volatility, bar_volatility, risk_on == 1.0)


def forecast_state(ts: int, row: list[float]) -> Forecast:
    """From the outputs ``p_up, p_down``."""
    return Forecast(ts, *row)


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage: its topic, its place in the order of a bar (``priority``), and how a row becomes a
    message."""

    actor_id: ActorId
    online: Online
    topic: str
    priority: int
    message: Callable[[int, list[float]], Any]
    guard: RunGuard


class StageActor(DataActor):
    """Steps one stage for every ``FeatureBar`` and publishes what it says."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._c = config

    def on_start(self) -> None:
        self.subscribe_topic(
            "features", self._c.guard.watch(self, self._on_features), priority=self._c.priority
        )

    def _on_features(self, bar: FeatureBar) -> None:
        row = self._c.online.step(bar.ts, bar.values)
        self.publish_message(self._c.topic, self._c.message(bar.ts, row.tolist()))
