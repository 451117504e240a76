"""The research side of a run: catalog to features to stages, in one batch, by the filters that also trade.

``Market`` binds a config to its catalog and kernel; ``features`` and ``run_stages`` compute what the hub and the stage
actors compute a bar at a time. Training, replay, evaluation, the look-ahead audit and ``beaufort features`` use these.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from catalogs.instruments import Instrument
from catalogs.reader import Catalog, SeriesRef, Stream
from engine.bundles import Models, load_models
from engine.config import RunConfig
from engine.errors import BeaufortError
from features.bars import with_closes
from features.kernel import FeatureKernel, StreamSpec
from features.settings import format_time
from features.table import FeatureTable

Progress = Callable[[int, int], None]
"""Called with (done, total) in ns of market time."""


@dataclasses.dataclass(frozen=True)
class BarSeries:
    """Features of every bar of a span, with the reference price of the traded instrument at each close."""

    table: FeatureTable
    price: np.ndarray  # shape (n,)

    def between(self, start: int, end: int) -> "BarSeries":
        """The bars with ``start <= ts < end``."""
        lo, hi = np.searchsorted(self.table.ts, (start, end))
        return BarSeries(self.table.between(start, end), self.price[lo:hi])


@dataclasses.dataclass(frozen=True)
class StageTables:
    """What every stage says at every bar; ``forecast`` is None where there is no forecaster."""

    regime: FeatureTable
    volatility: FeatureTable
    forecast: FeatureTable | None


class Market:
    """A config's data and kernel.

    Raises
    ------
    BeaufortError
        If the catalog, an instrument or a feed the config asks for is not there.
    """

    def __init__(self, config: RunConfig, *, catalog: Path | None = None) -> None:
        self.config = config
        data = config.data
        try:
            self.catalog = Catalog(catalog or data.catalog)
            self.instruments: dict[str, Instrument] = {
                alias: self.catalog.instrument(data.streams[alias].instrument) for alias in data.aliases
            }
        except (FileNotFoundError, KeyError) as error:
            raise BeaufortError(str(error.args[0])) from None
        self.kernel = build_kernel(config, self.instruments)

    @property
    def traded(self) -> Instrument:
        """The instrument that is traded."""
        return self.instruments[self.config.data.trade]

    @cached_property
    def streams(self) -> list[Stream]:
        """What the kernel reads, in the order of stream indices: only the feeds that some chosen feature needs."""
        return [
            Stream(s.instrument, book=s.book, trades=s.trades, mark=s.mark, index=s.index, funding=s.funding)
            for s in needed_streams(self.config, self.kernel).values()
        ]

    @cached_property
    def series(self) -> list[SeriesRef]:
        """The external series, in the order of series indices."""
        return [SeriesRef(*identifier.split("/", 1)) for identifier in self.config.data.series.values()]

    def features(self, start: int, end: int, progress: Progress | None = None) -> BarSeries:
        """Features of the bars that close in ``(start, end]``, streaming the catalog in bounded memory."""
        kernel, bars = self.kernel, self.config.bars
        state = kernel.initial_state()
        tables: list[FeatureTable] = []
        prices: list[np.ndarray] = []
        if bars.kind == "external":
            raise NotImplementedError
        clock = bars.closes()
        chunk = 600 * 10**9
        at = start
        for events in self.catalog.events(self.streams, start, end, chunk, self.series):
            until = min(at + chunk, end)
            table, price = kernel.run(clock.merge(events, at, until), state)
            tables.append(table)
            prices.append(price)
            at = until
            if progress is not None:
                progress(at - start, end - start)
        return BarSeries(_concatenate(tables), np.concatenate(prices))

    def data_start(self, start: int) -> int:
        """Where reading must begin so that books are whole and features warm at ``start``.

        Order book deltas only say what changed: the book is known from the last snapshot on.
        """
        wanted = start - self.config.backtest.warmup
        snapshots = [
            self.catalog.last_snapshot(stream.instrument_id, wanted)
            for stream in self.streams
            if stream.book == "deltas"
        ]
        return min([wanted, *snapshots])

    def fingerprint(self) -> str:
        """A hash over the names and sizes of the catalog's files: changes whenever the data does."""
        files = sorted(p for p in self.catalog.path.rglob("*.parquet") if "store" not in p.parts)
        listing = [(str(p.relative_to(self.catalog.path)), p.stat().st_size) for p in files]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def models(self) -> Models:
        """The config's bundles, verified against this market's features."""
        return load_models(
            self.config.train.bundles, self.kernel.schema, bar_identity(self.config), self.config.backtest.warmup
        )


def bar_identity(config: RunConfig) -> dict[str, Any]:
    """What a model must share with the bars it was trained on."""
    return config.bars.model_dump(mode="json", exclude={"grace"})


def run_stages(models: Models, table: FeatureTable) -> StageTables:
    """Every stage over every bar of ``table``."""
    return StageTables(
        models.regime.run(table),
        models.volatility.run(table),
        None if models.forecast is None else models.forecast.run(table),
    )
