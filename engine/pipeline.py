"""The research side of a run: catalog to features to stages, in one batch, by the filters that also trade.

``Market`` binds a config to its catalog and kernel; ``features`` and ``run_stages`` compute what the hub and
its stages compute a bar at a time. Training, replay, evaluation, the look-ahead audit and ``beaufort
features`` use these.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from itertools import pairwise

import numpy as np

from catalogs.instruments import CONTRACT, Instrument, changes
from catalogs.layout import SCALE, DataType
from catalogs.reader import Catalog, SeriesRef, Stream
from core.contract import Contract
from core.errors import BeaufortError
from core.events import sort_events
from core.settings import format_time
from core.table import FeatureTable
from engine.bundles import Models, load_models
from engine.config import RunConfig
from engine.identity import bar_identity, first_start, identity, needed_streams, read_features
from engine.spans import recorded, require_data, slack
from features.bars import bar_events
from features.kernel import FeatureKernel, StreamSpec

_CHUNK = 600 * 10**9  # ns of market time in memory at once

Feed = tuple[DataType, str]
"""A kind of data, and the instrument, bar type or series it is of."""

Progress = Callable[[int, int], None]
"""Called with (done, total) in ns of market time."""


@dataclasses.dataclass(frozen=True)
class BarSeries:
    """Features of every bar of a span, with the quotes of the traded instrument at each close.

    ``quotes`` has the shape (n, 9): ``features.kernel.QUOTE_COLUMNS``.
    """

    table: FeatureTable
    quotes: np.ndarray

    @property
    def price(self) -> np.ndarray:
        """Reference price at each close, shape (n,)."""
        return self.quotes[:, 0]

    @classmethod
    def join(cls, pieces: Sequence["BarSeries"]) -> "BarSeries":
        """Pieces that follow each other, as one."""
        ts, values = (np.concatenate([getattr(p.table, part) for p in pieces]) for part in ("ts", "values"))
        table = FeatureTable(ts, pieces[0].table.names, values)
        return cls(table, np.concatenate([p.quotes for p in pieces]))

    def between(self, start: int, end: int) -> "BarSeries":
        """The bars with ``start <= ts < end``."""
        lo, hi = np.searchsorted(self.table.ts, (start, end))
        return BarSeries(self.table.between(start, end), self.quotes[lo:hi])


class Market:
    """A config's data and kernel, with the definitions of its instruments that hold at the backtest's end.

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
        except (FileNotFoundError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from None
        known = self._definitions(config.backtest.end - 1, config.backtest.end)
        self.instruments = {alias: every[-1] for alias, every in known.items()}
        self.kernel = build_kernel(config, known)

    @property
    def traded(self) -> Instrument:
        """The instrument that is traded."""
        return self.instruments[self.config.data.trade]

    def _definitions(self, start: int, end: int) -> dict[str, list[Instrument]]:
        """For each alias the definitions in force in a span."""
        streams = self.config.data.streams
        try:
            return {
                alias: self.catalog.definitions(streams[alias].instrument, start, end)
                for alias in self.config.data.aliases
            }
        except (KeyError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from None

    def refuse_changes(self, start: int, end: int) -> None:
        """Raise BeaufortError where an instrument changes in a span that is to be traded.

        A run has one definition of each: the traded instrument may change in nothing, others not in what
        features are made of.
        """
        for alias, every in self._definitions(start, end).items():
            names = () if alias == self.config.data.trade else (*CONTRACT, "price_increment")
            self._refuse_changes(every, start, end, names)

    def _refuse_changes(self, every: list[Instrument], start: int, end: int, names: Sequence[str]) -> None:
        for before, item in pairwise(every):
            if different := changes(before, item, names):
                told = ", ".join(f"{name} {old} becomes {new}" for name, (old, new) in different.items())
                again = item.ts_init + self.config.backtest.warmup
                raise BeaufortError(
                    f"{item.id} changes at {format_time(item.ts_init)}, within the time that is read, "
                    f"{format_time(start)} .. {format_time(end)}: {told}. Use a span that ends by "
                    f"{format_time(item.ts_init)}, or one that starts from {format_time(again)} on (the "
                    "change and the warm-up)"
                )

    def _kernel(self, start: int, end: int) -> FeatureKernel:
        """The kernel for a span: its instruments need not be defined there as at the backtest's end."""
        known = self._definitions(start, end)
        for every in known.values():
            self._refuse_changes(every, start, end, CONTRACT)
        same = _specs(self.config, known) == self.kernel.streams
        return self.kernel if same else build_kernel(self.config, known)

    @cached_property
    def streams(self) -> list[Stream]:
        """What the kernel reads, in the order of stream indices: only the feeds that some chosen feature
        needs, and the mark prices of what is traded."""
        traded, *others = needed_streams(self.config, self.kernel.needs).values()
        marked = self.config.data.streams[self.config.data.trade].mark
        if marked and traded.instrument_id in self.catalog.identifiers("mark"):
            traded = dataclasses.replace(traded, mark=True)  # no model need know, the account does
        return [traded, *others]

    @cached_property
    def series(self) -> list[SeriesRef]:
        """The external series, in the order of series indices."""
        return [SeriesRef(*identifier.split("/", 1)) for identifier in self.config.data.series.values()]

    def features(self, start: int, end: int, progress: Progress | None = None) -> BarSeries:
        """Features of the bars that close in ``(start, end]``, from the catalog in bounded memory."""
        pieces: list[BarSeries] = []
        for until, piece in self.pieces(start, end):
            pieces.append(piece)
            if progress is not None:
                progress(until - start, end - start)
        if not pieces:
            raise BeaufortError(f"no time between {format_time(start)} and {format_time(end)}")
        return BarSeries.join(pieces)

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, BarSeries]]:
        """``features`` a chunk at a time, each with the moment (ns) until which it holds all bars."""
        kernel = self._kernel(start, end)
        state = kernel.initial_state()
        closes = self.config.bars.closes(kernel.streams[0].contract)
        counted = closes.initial_state()
        at = start
        for events in self._events(start, end):
            until = min(at + _CHUNK, end)
            try:
                series = BarSeries(*kernel.run(closes.merge(events, at, until, counted), state))
            except ValueError as error:  # a feature raised, one of the user's own
                raise BeaufortError(str(error)) from error
            yield until, series
            at = until

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

    def data_start(self, start: int, warmup: int | None = None) -> int:
        """Where reading must begin so that books are whole and features warm at ``start``.

        ``warmup`` (ns) is the backtest's unless given. Order book deltas only say what changed, so a book is
        known from its last snapshot on. A long warmup begins little before the recording does.
        """
        wanted = start - (self.config.backtest.warmup if warmup is None else warmup)
        first = min((first for _, first, _ in recorded(self.config, self.catalog)), default=wanted)
        wanted = max(wanted, min(start, first - slack(self.config)))
        deltas = [s.instrument_id for s in self.streams if s.book == "deltas"]
        if self.config.data.streams[self.config.data.trade].book == "deltas":
            deltas.append(str(self.traded.id))
        try:
            return min([wanted, *(self.catalog.last_snapshot(instrument, wanted) for instrument in deltas)])
        except (KeyError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from None

    def require_data(self, key: str, start: int, end: int) -> None:
        """Raise BeaufortError where nothing was recorded in a span, or it reaches far beyond that."""
        require_data(self.config, self.catalog, key, start, end)

    def fingerprints(self, start: int, ends: Sequence[int], feeds: Sequence[Feed] = ()) -> list[str]:
        """For each of ``ends`` (ns, ascending) a hash over what the kernel reads from ``start`` until it.

        Of every feed that takes part the values and their times count, and of an instrument what the kernel
        knows of it: not the files they lie in, nor what else the catalog holds. ``feeds`` are further ones.
        """
        used = [alias for alias, needs in self.kernel.needs.items() if needs]
        needed = needed_streams(self.config, self.kernel.needs)
        streams = {alias: stream for alias, stream in needed.items() if alias in used}
        taking_part: list[Feed] = [(t, s.instrument_id) for s in streams.values() for t in s.data_types()]
        bars = [self.config.data.streams[alias].bars for alias in streams]
        taking_part += [("bars", bar_type) for bar_type in bars if bar_type is not None]
        taking_part += [("series", name) for alias, name in self.config.data.series.items() if alias in used]
        taking_part += [feed for feed in feeds if feed not in taking_part]
        about = []
        for end in ends:
            specs = _specs(self.config, self._definitions(start, end))
            known = [dataclasses.replace(s, feeds=frozenset()) for s in specs if s.alias in used]
            about.append(hashlib.sha256(repr(known).encode()))
        try:
            for data_type, identifier in taking_part:
                digests = self.catalog.digests(data_type, identifier, start, ends)
                for total, digest in zip(about, digests, strict=True):
                    total.update(f"{data_type} {identifier} {digest}".encode())
        except (KeyError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from None
        return [total.hexdigest() for total in about]

    def models(self, config: RunConfig | None = None) -> Models:
        """The bundles of ``config`` (of the market's own without one), verified against its features."""
        config = config or self.config
        return load_models(
            config.train.bundles,
            identity(config),
            self.kernel.schema,
            config.backtest.warmup,
            lambda ends: training_fingerprints(training_market(config), ends),
        )


def training_fingerprints(market: Market, ends: Sequence[int]) -> list[str]:
    """What the models trained until each of ``ends`` (ns, ascending) have been fitted on: all that was read
    by then."""
    return market.fingerprints(training_start(market), ends)


def training_start(market: Market) -> int:
    """Where reading for the fits of a ``training_market`` begins."""
    return market.data_start(first_start(market.config), warmup=0)


def training_market(config: RunConfig) -> Market:
    """What the models of ``config`` are fitted on: the catalog of its training, and no feature that none
    reads."""
    data = config.data.model_copy(update={"catalog": config.train.catalog or config.data.catalog})
    return Market(config.model_copy(update={"data": data, "features": read_features(config)}))


def build_kernel(config: RunConfig, known: Mapping[str, Sequence[Instrument]]) -> FeatureKernel:
    """The kernel for every feature the config chooses or its models read; ``known`` are the definitions of
    each alias."""
    specs = _specs(config, known)
    try:
        return FeatureKernel(config.feature_names, specs, tuple(config.data.series), bar_identity(config))
    except ValueError as error:
        raise BeaufortError(f"features: {error}") from None


def _specs(config: RunConfig, known: Mapping[str, Sequence[Instrument]]) -> tuple[StreamSpec, ...]:
    """What the kernel is told of each alias. The tick is one that the ticks of all definitions are multiples
    of."""
    specs = []
    for alias in config.data.aliases:
        stream = config.data.streams[alias]
        instrument = known[alias][-1]
        contract = Contract(
            float(instrument.multiplier.as_double()), bool(getattr(instrument, "is_inverse", False))
        )
        ticks = [round(item.price_increment.as_decimal() * 10**SCALE) for item in known[alias]]
        increment = float(Decimal(math.gcd(*ticks)).scaleb(-SCALE))
        specs.append(StreamSpec(alias, increment, stream.feeds, contract))
    return tuple(specs)


def run_stages(models: Models, table: FeatureTable) -> dict[str, FeatureTable]:
    """What every stage there is says at every bar of ``table``."""
    return {name: stage.run(table) for name, stage in models.stages.items()}
