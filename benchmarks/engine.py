"""Backtest speed: the whole pipeline, faithful and replayed, against Nautilus itself on the same data.

Each round plays one market four ways, one after the other, and compares the seconds of ``node.run`` alone:

* *reader*: one actor with the hub's subscriptions reads the fields of every trade and delta into a list;
* *faithful*: hub, regime, volatility, forecast, governor and both strategies;
* *bare*: no component at all;
* *replay*: the recorded pipeline, governor and both strategies; features and models were computed before.

Seconds are the process's own CPU time, so that other work on the machine counts less. The figure is the
median of the rounds' ratios.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nautilus_trader.backtest import BacktestNode
from nautilus_trader.common import DataActor
from nautilus_trader.model import ActorId, BookType, InstrumentId

from actors.guard import RunGuard
from benchmarks.markets import market
from core.journal import MemoryJournal
from engine.bundles import Models
from engine.pipeline import Market
from engine.sessions.assembly import Mode, assemble
from engine.sessions.backtest import node_config, played_feeds

MINUTES, RATE, ROUNDS = 30, 8.0, 9


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """``interval`` ns: how often the reader forgets what it read."""

    actor_id: ActorId
    instrument_id: InstrumentId
    interval: int


class Reader(DataActor):
    """The least that anything in Python does which needs the ticks' values."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__(config)
        self._c = config
        self._read: list[tuple[Any, ...]] = []

    def on_start(self) -> None:
        self.subscribe_trades(self._c.instrument_id)
        self.subscribe_book_deltas(self._c.instrument_id, BookType.L2_MBP)
        self.clock.set_timer_ns("bars", self._c.interval, callback=self._forget)

    def _forget(self, _event: Any) -> None:
        self._read.clear()

    def on_trade(self, trade: Any) -> None:
        self._read.append(
            (trade.ts_init, trade.price.as_double(), trade.size.as_double(), trade.aggressor_side)
        )

    def on_book_deltas(self, deltas: Any) -> None:
        append = self._read.append
        ts = deltas.ts_init
        for delta in deltas.deltas:
            order = delta.order
            append(
                (ts, delta.action, order.side, order.price.as_double(), order.size.as_double(), delta.flags)
            )


@dataclasses.dataclass(frozen=True)
class Played:
    """One run: CPU seconds before and in ``node.run``, and what Nautilus played."""

    prepared: float
    seconds: float
    events: int


def measure(folder: Path) -> dict[str, float]:
    """Ratios of speed, and events a second, by name; ``folder`` receives the market."""
    busy = market(folder, MINUTES, RATE)
    models = busy.models()
    play_pipeline(busy, models, "faithful")  # compiled and read once before anything is timed
    rounds = [
        (
            _play_reader(busy),
            play_pipeline(busy, models, "faithful"),
            _play(busy, "replay"),
            play_pipeline(busy, models, "replay"),
        )
        for _ in range(ROUNDS)
    ]
    reader, faithful, bare, replay = (list(runs) for runs in zip(*rounds, strict=True))
    span = busy.config.backtest.end - busy.data_start(busy.config.backtest.start)
    return {
        "events_per_bar": faithful[0].events / (span / busy.config.bars.interval),
        **_compared("faithful", faithful, reader),
        **_compared("replay", replay, bare),
        "reader_events_per_s": _median_speed(reader),
        "bare_events_per_s": _median_speed(bare),
        "replay_batch_s": statistics.median(run.prepared for run in replay),
    }


def _compared(name: str, runs: Sequence[Played], baseline: Sequence[Played]) -> dict[str, float]:
    ratios = [b.seconds / a.seconds for a, b in zip(runs, baseline, strict=True)]
    return {
        f"{name}_ratio": statistics.median(ratios),
        f"{name}_ratio_least": min(ratios),
        f"{name}_ratio_most": max(ratios),
        f"{name}_events_per_s": _median_speed(runs),
    }


def _median_speed(runs: Sequence[Played]) -> float:
    return statistics.median(run.events / run.seconds for run in runs)


def play_pipeline(market: Market, models: Models, mode: Mode, instrument: Any = None) -> Played:
    """One backtest; ``instrument(conductor)`` may change the assembled component before it runs."""
    began = time.process_time()
    span = market.config.backtest
    guard = RunGuard()
    first = market.data_start(span.start)
    conductor = assemble(
        market, models, mode, MemoryJournal(), guard, first=first, trade_from=span.start, end=span.end
    )
    if instrument is not None:
        instrument(conductor)
    prepared = time.process_time() - began
    played = _play(market, mode, strategies=[conductor])
    if guard.failures:
        raise RuntimeError(guard.failures[0])
    return dataclasses.replace(played, prepared=prepared)


def _play_reader(market: Market) -> Played:
    config = ReaderConfig(ActorId("Reader-001"), market.traded.id, market.config.bars.interval)
    return _play(market, "faithful", [Reader(config)])


def _play(market: Market, mode: Mode, actors: Sequence[Any] = (), strategies: Sequence[Any] = ()) -> Played:
    config = market.config
    node = BacktestNode(
        [node_config(market, played_feeds(market, mode), market.data_start(config.backtest.start))]
    )
    try:
        node.build()
        for actor in actors:
            node.add_actor(config.name, actor)
        for strategy in strategies:
            node.add_strategy(config.name, strategy)
        began = time.process_time()
        (result,) = node.run()
        return Played(0.0, time.process_time() - began, result.iterations)
    finally:
        node.dispose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    for name, figure in figures.items():
        print(f"{name:24} {figure:14,.3f}")
