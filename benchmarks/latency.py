"""From bar close to order submitted, in process: microseconds of a faithful backtest.

The clock starts when the hub's close timer calls and stops when ``submit_order`` returns: between lie the
cut of the bar, features, regime, volatility, forecast, governor and decision. Every order that a close sends
counts, so an outer level of a ladder also waits for those sent before it.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from actors.hub import FeatureHub
from benchmarks.engine import MINUTES, RATE, play_pipeline
from benchmarks.markets import market


class _Stopwatch:
    """Wraps the close and ``submit_order`` of one run's hub."""

    def __init__(self) -> None:
        self.seconds: list[float] = []  # one an order
        self._began = 0.0  # 0 between closes

    def attach(self, hub: FeatureHub) -> None:
        """Time ``hub``."""
        hub._fire = self._closing(hub._fire)
        hub.submit_order = self._submitting(hub.submit_order)  # type: ignore[method-assign]

    def _closing(self, close: Any) -> Any:
        def timed(event: Any) -> None:
            self._began = time.perf_counter()
            close(event)
            self._began = 0.0

        return timed

    def _submitting(self, submit: Any) -> Any:
        def timed(order: Any) -> None:
            submit(order)
            if self._began:
                self.seconds.append(time.perf_counter() - self._began)

        return timed


def measure(folder: Path) -> dict[str, float]:
    """Percentiles in microseconds, and of how many orders; ``folder`` receives the market."""
    busy = market(folder, MINUTES, RATE)
    models = busy.models()
    play_pipeline(busy, models, "faithful")  # compiled and read once before anything is timed
    watch = _Stopwatch()
    for _ in range(5):
        play_pipeline(busy, models, "faithful", watch.attach)
    p50, p99 = np.percentile(watch.seconds, (50, 99)) * 1e6
    return {"order_p50_us": float(p50), "order_p99_us": float(p99), "order_count": float(len(watch.seconds))}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    for name, figure in figures.items():
        print(f"{name:14} {figure:10,.1f}")
