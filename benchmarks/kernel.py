"""How fast the feature kernel is: events a second in a batch, microseconds a bar in steps, process start.

Run as ``python -m benchmarks.kernel``; ``measure`` gives the figures by name.
"""

import itertools
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from core.events import EVENT, LAST, EventKind
from features.bars import ClockBars
from features.kernel import FeatureKernel, StreamSpec

FEATURES = (
    "log_return_1", "log_return_10", "log_return_60", "realized_volatility_60", "log_volatility_60",
    "spread", "average_spread_10", "microprice_deviation", "book_imbalance_1", "book_imbalance_5",
    "book_imbalance_10", "order_flow_imbalance_10", "signed_volume_10", "cvd_change_60", "trade_count_10",
    "trade_intensity_30", "vwap_deviation_30", "efficiency_60", "volume_zscore_60", "autocorrelation_60",
)  # fmt: skip

_TICK = 0.1
_SECOND = 10**9
_START = """
import time
start = time.perf_counter()
import numpy as np
from benchmarks.kernel import kernel
from core.events import EVENT
kernel().run(np.zeros(1, EVENT))
print(time.perf_counter() - start)
"""


def kernel() -> FeatureKernel:
    """Twenty features of one perpetual with trades and an L2 book."""
    return FeatureKernel(
        FEATURES, [StreamSpec("perp", _TICK, frozenset(("trades", "ohlcv", "book", "depth")))]
    )


def market(bars: int, events_per_bar: int = 500, seed: int = 0) -> np.ndarray:
    """Events of a busy perpetual with a ``CLOSE`` every second: a quarter trades, the rest level changes.

    A level is set at an exponential distance (mean 12 ticks) from the mid, one in ten anywhere within 500.
    A third of the changes remove, a quarter end an update. The mid moves a tick every fifty events and takes
    the level it meets out of the book.
    """
    rng = np.random.default_rng(seed)
    n = bars * events_per_bar
    events = np.zeros(n, EVENT)
    events["ts"] = np.arange(n) * (_SECOND // events_per_bar) + 1_000_000 * _SECOND
    moves = np.where(rng.random(n) < 0.02, rng.choice((-1, 1), n), 0)
    mid = 600_000 + np.cumsum(moves)
    buy = rng.random(n) < 0.5
    trade = rng.random(n) < 0.25
    distance = np.where(
        rng.random(n) < 0.1, rng.integers(1, 500, n), rng.exponential(12.0, n).astype(np.int64) + 1
    )
    size = np.round(rng.exponential(1.0, n) + 0.001, 3)
    size[~trade & (rng.random(n) < 1 / 3)] = 0.0
    ticks = np.where(trade, mid + np.where(buy, 1, -1), mid + np.where(buy, -distance, distance))
    kind = np.where(
        trade,
        np.where(buy, EventKind.TRADE_BUY, EventKind.TRADE_SELL),
        np.where(buy, EventKind.BID, EventKind.ASK),
    )
    moved = moves != 0
    kind[moved] = np.where(moves > 0, EventKind.ASK, EventKind.BID)[moved]
    ticks[moved] = mid[moved]
    size[moved] = 0.0
    events["kind"], events["price"], events["size"] = kind, np.round(ticks * _TICK, 1), size
    events["flags"] = np.where(~(trade & ~moved) & (moved | (rng.random(n) < 0.25)), LAST, 0)
    start, end = int(events["ts"][0]), int(events["ts"][0]) + bars * _SECOND
    return ClockBars().closes().merge(events, start, end)


def measure() -> dict[str, float]:
    """Figures by name: the best of short rounds or a median, because other work on the machine only slows."""
    features = kernel()
    events = market(800)
    features.run(events[:1_000])
    batch = float("inf")
    for _ in range(25):
        began = time.perf_counter()
        features.run(events)
        batch = min(batch, time.perf_counter() - began)
    closes = np.flatnonzero(events["kind"] == EventKind.CLOSE)
    parts = [events[a + 1 : b + 1] for a, b in itertools.pairwise(closes)]
    starts = [float(subprocess.check_output([sys.executable, "-c", _START])) for _ in range(3)]
    return {
        "kernel_events_per_s": len(events) / batch,
        "kernel_us_per_bar": _microseconds_a_step(features, parts),
        "kernel_us_per_empty_bar": _microseconds_a_step(features, [part[-1:] for part in parts]),
        "kernel_warm_start_s": min(starts),
    }


def _microseconds_a_step(features: FeatureKernel, parts: list[np.ndarray]) -> float:
    state = features.initial_state()
    times = []
    for part in parts:
        began = time.perf_counter()
        features.step(state, part)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1e6


def main() -> None:
    """Print the figures."""
    figures = measure()
    table = Table("feature kernel", title="20 features, one core")
    table.add_column("measured", justify="right")
    table.add_row("batch", f"{figures['kernel_events_per_s'] / 1e6:.1f} M events/s")
    table.add_row("a bar of 500 events", f"{figures['kernel_us_per_bar']:.1f} µs")
    table.add_row("a bar without events", f"{figures['kernel_us_per_empty_bar']:.1f} µs")
    table.add_row("start of a process, cache warm", f"{figures['kernel_warm_start_s']:.2f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
