"""The replay actor: publishes a recorded pipeline at its bar times, so that ticks reach only the matching
engine.

It stands in for the feature hub and the stage actors. The messages, their order and their times are the same,
which is why a replay backtest takes the same decisions as a faithful one.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from nautilus_trader.common import DataActor
from nautilus_trader.model import ActorId

from actors.guard import RunGuard
from actors.stages import forecast_state, regime_state, volatility_state
from features.messages import FeatureBar

_BLOCK = 4096  # bars turned into Python numbers at a time


@dataclasses.dataclass(frozen=True)
class Recording:
    """A computed pipeline: one row a bar, in the order of ``ts`` (int64 ns of bar close)."""

    ts: np.ndarray
    features: np.ndarray  # (n, number of features)
    quotes: np.ndarray  # (n, 3): price, bid, ask
    regime: np.ndarray  # (n, 4): the outputs of the regime stage
    volatility: np.ndarray  # (n, 3)
    forecast: np.ndarray | None  # (n, 2)


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """``publish_delay`` ns after its close a bar is published: the hub's grace (0 for external bars)."""

    actor_id: ActorId
    recording: Recording
    publish_delay: int
    interval: int | None  # of clock bars; None where closes are irregular
    guard: RunGuard
    on_bar: Callable[[int], None] | None = None


class ReplayActor(DataActor):
    """Publishes each bar of a ``Recording`` when the hub would have."""

    def __init__(self, config: ReplayConfig) -> None:
        super().__init__(config)
        self._c = config
        self._bars = _messages(config.recording)
        self._due = 0
        self._fire = config.guard.watch(self, self._publish)

    def on_start(self) -> None:
        ts = self._c.recording.ts
        if len(ts) == 0:
            return
        if self._c.interval is not None:
            first = int(ts[0]) + self._c.publish_delay
            self.clock.set_timer_ns(
                "bars", self._c.interval, start_time_ns=first - self._c.interval, callback=self._fire
            )
        else:
            self._arm()

    def _arm(self) -> None:
        ts = self._c.recording.ts
        if self._due < len(ts):
            self.clock.set_time_alert_ns(
                f"bar-{self._due}", int(ts[self._due]) + self._c.publish_delay, callback=self._fire
            )

    def _publish(self, _event: Any) -> None:
        bar = next(self._bars, None)
        if bar is None:
            return
        self._due += 1
        regime, volatility, forecast, features = bar
        publish = self.publish_message
        publish("regime", regime)
        publish("volatility", volatility)
        if forecast is not None:
            publish("forecast", forecast)
        publish("features", features)
        if self._c.on_bar is not None:
            self._c.on_bar(features.ts)
        if self._c.interval is None:
            self._arm()


def _messages(r: Recording) -> Iterator[tuple[Any, Any, Any, FeatureBar]]:
    for lo in range(0, len(r.ts), _BLOCK):
        block = slice(lo, lo + _BLOCK)
        times = r.ts[block].tolist()
        ready = np.isfinite(r.features[block]).all(axis=1).tolist()
        quotes = r.quotes[block].tolist()
        regimes = r.regime[block].tolist()
        volatilities = r.volatility[block].tolist()
        forecasts = r.forecast[block].tolist() if r.forecast is not None else [None] * len(times)
        for i, ts in enumerate(times):
            said = forecasts[i]
            yield (
                regime_state(ts, regimes[i]),
                volatility_state(ts, volatilities[i]),
                None if said is None else forecast_state(ts, said),
                FeatureBar(ts, r.features[lo + i], ready[i], *quotes[i]),
            )
