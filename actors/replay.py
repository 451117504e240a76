"""The replay actor: publishes a recorded pipeline at its bar times, so that ticks reach only the matching
engine.

It stands in for the feature hub. Its bars and their times are the same, which is why a replay backtest takes
the same decisions as a faithful one.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from actors.conductor import Conductor, ConductorConfig

_BLOCK = 4096  # bars turned into Python numbers at a time


@dataclasses.dataclass(frozen=True)
class Recording:
    """A computed pipeline: one row a bar, in the order of ``ts`` (int64 ns of bar close)."""

    ts: np.ndarray
    features: np.ndarray  # (n, number of features)
    quotes: np.ndarray  # (n, 9): features.kernel.QUOTE_COLUMNS
    said: Mapping[str, np.ndarray]  # for each stage there is (n, number of its outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayConfig(ConductorConfig):
    """``publish_delay`` ns after its close a bar is published: the hub's grace."""

    recording: Recording
    publish_delay: int
    interval: int | None  # of clock bars; None where closes are irregular


class ReplayActor(Conductor):
    """Publishes each bar of a ``Recording`` when the hub would have."""

    def __init__(self, config: ReplayConfig) -> None:
        super().__init__(config)
        self._c = config
        self._bars = _rows(config.recording)
        self._due = 0
        self._fire = config.guard.watch(self, self._publish)

    def on_start(self) -> None:
        super().on_start()
        c = self._c
        self.subscribe_funding_rates(c.governor.instrument.id)
        ts = c.recording.ts
        if len(ts) == 0:
            return
        if c.interval is not None:
            first = int(ts[0]) + c.publish_delay
            self.clock.set_timer_ns("bars", c.interval, start_time_ns=first - c.interval, callback=self._fire)
        else:
            self._arm()

    def _arm(self) -> None:
        ts = self._c.recording.ts
        if self._due < len(ts):
            self.clock.set_time_alert_ns(
                f"bar-{self._due}", int(ts[self._due]) + self._c.publish_delay, callback=self._fire
            )

    def _publish(self, _event: Any) -> None:
        row = next(self._bars, None)
        if row is None:
            return
        self._due += 1
        self.conduct(*row)
        if self._c.interval is None:
            self._arm()


def _rows(r: Recording) -> Iterator[tuple[Any, ...]]:
    """The arguments of ``conduct``."""
    for lo in range(0, len(r.ts), _BLOCK):
        block = slice(lo, lo + _BLOCK)
        said = zip(*(rows[block].tolist() for rows in r.said.values()), strict=True)
        yield from zip(
            r.ts[block].tolist(),
            r.features[block],
            r.quotes[block].tolist(),
            (dict(zip(r.said, rows, strict=True)) for rows in said),
            strict=True,
        )
