"""Plays slow external series (open interest, liquidations, sentiment) onto the bus at their publication
times."""

import dataclasses

import numpy as np
from nautilus_trader.common import DataActor
from nautilus_trader.model import ActorId

from actors.guard import RunGuard
from features.messages import SeriesValue


@dataclasses.dataclass(frozen=True)
class SeriesConfig:
    """``values`` maps each series' name to its ``(ts_init, value)`` arrays, ``ts_init`` ascending ns."""

    actor_id: ActorId
    values: dict[str, tuple[np.ndarray, np.ndarray]]
    guard: RunGuard


class SeriesPlayer(DataActor):
    """Publishes a ``SeriesValue`` at each ``ts_init``; a live session has an adapter that publishes the
    same."""

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__(config)
        self._c = config
        self._next = dict.fromkeys(config.values, 0)

    def on_start(self) -> None:
        now = self.clock.timestamp_ns()
        for name, (ts, _) in self._c.values.items():
            self._next[name] = int(np.searchsorted(ts, now))
            self._arm(name)

    def _arm(self, name: str) -> None:
        ts, _ = self._c.values[name]
        i = self._next[name]
        if i < len(ts):
            fire = self._c.guard.watch(self, lambda _event: self._publish(name))
            self.clock.set_time_alert_ns(f"{name}-{i}", int(ts[i]), callback=fire)

    def _publish(self, name: str) -> None:
        ts, values = self._c.values[name]
        i = self._next[name]
        now = int(ts[i])
        while i < len(ts) and ts[i] == now:  # several values of one moment, in their order
            self.publish_message("series", SeriesValue(name, now, float(values[i])))
            i += 1
        self._next[name] = i
        self._arm(name)
