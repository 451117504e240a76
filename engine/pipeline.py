"""The research side of a run: catalog to features to stages, in one batch, by the filters that also trade.

``Market`` binds a config to its catalog and kernel; ``features`` and ``run_stages`` compute what the hub and
its stages compute a bar at a time. Training, replay, evaluation, the look-ahead audit and ``beaufort
features`` use these.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from catalogs.instruments import Instrument
from catalogs.reader import Catalog, SeriesRef, Stream
from engine.bundles import Models, load_models
from engine.config import RunConfig
from engine.errors import BeaufortError
from features.bars import bar_events
from features.contract import Contract
from features.events import sort_events
from features.kernel import FeatureKernel, StreamSpec
from features.registry import Need
from features.settings import format_time
from features.table import FeatureTable

_CHUNK = 600 * 10**9  # ns of market time in memory at once

Progress = Callable[[int, int], None]
"""Called with (done, total) in ns of market time."""


@dataclasses.dataclass(frozen=True)
class BarSeries:
    """Features of every bar of a span, with the quotes of the traded instrument at each close.

    ``quotes`` has the shape (n, 5): ``features.kernel.QUOTE_COLUMNS``.
    """

    table: FeatureTable
    quotes: np.ndarray

    @property
    def price(self) -> np.ndarray:
        """Reference price at each close, shape (n,)."""
        return self.quotes[:, 0]

    def between(self, start: int, end: int) -> "BarSeries":
        """The bars with ``start <= ts < end``."""
        lo, hi = np.searchsorted(self.table.ts, (start, end))
        return BarSeries(self.table.between(start, end), self.quotes[lo:hi])


@dataclasses.dataclass(frozen=True)
class StageTables:
    """What every stage says at every bar; ``forecast`` is None where there is no forecaster."""

    regime: FeatureTable
    volatility: FeatureTable
    forecast: FeatureTable | None


class Market:
    """A config's data and kernel.

    Parameters
    ----------
    config : RunConfig
    until : int, optional
        Nothing that became known at or after this moment (ns) is read, as if the catalog ended there.

    Raises
    ------
    BeaufortError
        If the catalog, an instrument or a feed the config asks for is not there.
    """

    def __init__(self, config: RunConfig, until: int | None = None) -> None:
        self.config = config
        data = config.data
        try:
            self.catalog = Catalog(data.catalog, until)
            self.instruments = {
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
        """What the kernel reads, in the order of stream indices: only the feeds that some chosen feature
        needs."""
        return list(needed_streams(self.config, self.kernel).values())

    @cached_property
    def series(self) -> list[SeriesRef]:
        """The external series, in the order of series indices."""
        return [SeriesRef(*identifier.split("/", 1)) for identifier in self.config.data.series.values()]

    def features(self, start: int, end: int, progress: Progress | None = None) -> BarSeries:
        """Features of the bars that close in ``(start, end]``, from the catalog in bounded memory."""
        state = self.kernel.initial_state()
        closes = self.config.bars.closes(self.kernel.streams[0].contract)
        tables: list[FeatureTable] = []
        quotes: list[np.ndarray] = []
        at = start
        for events in self._events(start, end):
            until = min(at + _CHUNK, end)
            table, quote = self.kernel.run(closes.merge(events, at, until), state)
            tables.append(table)
            quotes.append(quote)
            at = until
            if progress is not None:
                progress(at - start, end - start)
        if not tables:
            raise BeaufortError(f"no time between {format_time(start)} and {format_time(end)}")
        ts = np.concatenate([t.ts for t in tables])
        values = np.concatenate([t.values for t in tables])
        return BarSeries(FeatureTable(ts, self.kernel.names, values), np.concatenate(quotes))

    def _events(self, start: int, end: int) -> Iterator[np.ndarray]:
        """Merged events in chunks; external bars join as what the kernel takes them for."""
        try:
            bars = [
                (i, self.catalog.bars(bar_type, start + 1, end + 1))
                for i, alias in enumerate(self.config.data.aliases)
                if (bar_type := self.config.data.streams[alias].bars) is not None
            ]
            for number, events in enumerate(
                self.catalog.events(self.streams, start, end, _CHUNK, self.series)
            ):
                lo, hi = start + number * _CHUNK + 1, min(start + (number + 1) * _CHUNK, end) + 1
                parts = [bar_events((part := table.between(lo, hi)).ts, part.values, i) for i, table in bars]
                yield sort_events(np.concatenate([events, *parts])) if parts else events
        except (KeyError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from error

    def data_start(self, start: int) -> int:
        """Where reading must begin so that books are whole and features warm at ``start``.

        Order book deltas only say what changed, so a book is known from its last snapshot on.
        """
        wanted = start - self.config.backtest.warmup
        deltas = [s.instrument_id for s in self.streams if s.book == "deltas"]
        if self.config.data.streams[self.config.data.trade].book == "deltas":
            deltas.append(str(self.traded.id))
        try:
            return min([wanted, *(self.catalog.last_snapshot(instrument, wanted) for instrument in deltas)])
        except (KeyError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from None

    def fingerprint(self) -> str:
        """A hash over the names and contents of the catalog's files: changes whenever the data does.

        Every byte is read (some 2 GB a second), because a corrected value seldom moves a size or a footer.
        """
        folders = [self.catalog.path / name for name in ("data", "series")]
        listing = []
        for path in sorted(p for folder in folders for p in folder.rglob("*.parquet")):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            listing.append((str(path.relative_to(self.catalog.path)), digest))
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def models(self) -> Models:
        """The config's bundles, verified against this market's features."""
        config = self.config
        return load_models(
            config.train.bundles,
            self.kernel.schema,
            bar_identity(config),
            model_settings(config),
            config.backtest.warmup,
        )


def build_kernel(config: RunConfig, instruments: Mapping[str, Instrument]) -> FeatureKernel:
    """The kernel for every feature the config chooses or its models read."""
    specs = []
    for alias in config.data.aliases:
        stream = config.data.streams[alias]
        feeds: set[Need] = set()
        feeds |= (
            {"book", "depth"} if stream.book == "deltas" else {"book"} if stream.book == "quotes" else set()
        )
        feeds |= {"trades", "ohlcv"} if stream.trades else set()
        feeds |= {"ohlcv"} if stream.bars is not None else set()
        for name in ("mark", "index", "funding"):
            if getattr(stream, name):
                feeds.add(name)
        instrument = instruments[alias]
        contract = Contract(
            float(instrument.multiplier.as_double()), bool(getattr(instrument, "is_inverse", False))
        )
        increment = float(instrument.price_increment.as_double())
        specs.append(StreamSpec(alias, increment, frozenset(feeds), contract))
    try:
        return FeatureKernel(config.feature_names, specs, tuple(config.data.series), bar_identity(config))
    except ValueError as error:
        raise BeaufortError(f"features: {error}") from None


def needed_streams(config: RunConfig, kernel: FeatureKernel) -> dict[str, Stream]:
    """For each alias, the feeds that some chosen feature needs, and those the reference price is made of."""
    found = {}
    for alias, needs in kernel.needs.items():
        stream = config.data.streams.get(alias)
        if stream is None:
            continue  # an external series
        book = stream.book if needs & {"book", "depth", "price"} else "none"
        counted = alias == config.data.trade and config.bars.kind in ("volume", "dollar")
        from_trades = bool(needs & {"trades", "ohlcv"}) or ("price" in needs and book == "none")
        found[alias] = Stream(
            stream.instrument,
            book=book,
            trades=stream.trades and (from_trades or counted),
            mark="mark" in needs,
            index="index" in needs,
            funding="funding" in needs,
        )
    return found


def bar_identity(config: RunConfig) -> dict[str, Any]:
    """What a model must share with the bars it was trained on."""
    return config.bars.model_dump(mode="json", exclude={"grace"})


def model_settings(config: RunConfig) -> dict[str, Any]:
    """What decides how the models are fitted, as JSON values."""
    return config.model_dump(mode="json", include={"regime", "volatility", "gate", "forecast"})


def run_stages(models: Models, table: FeatureTable) -> StageTables:
    """Every stage over every bar of ``table``."""
    return StageTables(
        models.regime.run(table),
        models.volatility.run(table),
        None if models.forecast is None else models.forecast.run(table),
    )
