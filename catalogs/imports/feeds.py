"""One feed of one instrument on its way into the catalog: times resolved, rows cleaned and counted, chunks
written.
"""

from collections.abc import Callable, Iterator

import numpy as np

from catalogs.checks.findings import length_text
from catalogs.imports.mapping import (
    BarsTable,
    FundingTable,
    MappingError,
    PriceTable,
    QuotesTable,
    SeriesTable,
    TableSettings,
    TimeSettings,
)
from catalogs.imports.tables import Batch
from catalogs.instruments import Instrument
from catalogs.layout import bar_type_of, largest
from catalogs.summary import ImportSummary, Tally
from catalogs.writer import CatalogWriter

Columns = dict[str, np.ndarray]

_CHUNK = 500_000  # rows of one catalog file
_STEPS = 3  # rows from which on one may say what is usual
TOO_LARGE = "with a number larger than a catalog holds"
_FAR = 1.5  # times high or low: further away no previous close is


def stamps(settings: TimeSettings, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """When the rows happened and when they could be known, as the columns say (ns)."""
    event = batch.times(settings.event, settings.unit)
    if settings.stamp == "open":
        event = event + (settings.period or 0)
    if settings.init is None:
        return event, event + settings.delay
    return event, batch.times(settings.init, settings.init_unit or settings.unit) + settings.delay


class Clock:
    """Turns a table's time columns into ``ts_event`` and an ascending ``ts_init``.

    Rows are taken in the order of the file, which is the order they were recorded in: a row stamped earlier
    than one before it could only be known after that one, so it gets that one's ``ts_init``.
    """

    def __init__(self, settings: TimeSettings, tally: Tally) -> None:
        self._settings = settings
        self._tally = tally
        self._latest = 0
        self._judged = settings.stamp == "instant"

    def read(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """``ts_event`` and ``ts_init`` of the rows, in nanoseconds."""
        if not self._judged:
            self._judge(batch.times(self._settings.event, self._settings.unit), batch)
        event, init = stamps(self._settings, batch)
        return event, self.ascend(init, batch)

    def _judge(self, event: np.ndarray, batch: Batch) -> None:
        """Raise MappingError where intervals plainly are not of the length that the mapping says."""
        steps, period = np.diff(event), self._settings.period or 0
        steps = steps[steps > 0]
        if len(steps) < _STEPS:
            return
        self._judged = True
        usual = int(np.median(steps))
        share = float(np.mean(np.abs(steps - usual) <= 0.1 * usual))
        # Intervals that overlap cannot be; gaps can, but not one and the same gap after every row.
        if (usual < 0.9 * period and share >= 0.5) or (usual > 1.1 * period and share >= 0.9):
            raise MappingError(
                f"{batch.path}: column {self._settings.event!r}: rows come every {length_text(usual)}, but "
                f"time.period is {length_text(period)}; correct it, or name another column"
            )

    def ascend(self, init: np.ndarray, batch: Batch) -> np.ndarray:
        """``init`` raised to the latest seen before.

        Raises MappingError where that is more than ``max_late``.
        """
        if len(init) == 0:
            return init
        raised = np.maximum.accumulate(np.maximum(init, self._latest))
        late = raised - init
        if late.max() > self._settings.max_late:
            row = int(np.argmax(late))
            raise MappingError(
                f"{batch.path}: row {batch.rows[row]} is stamped {np.datetime64(int(init[row]), 'ns')}, "
                f"{late[row] / 1e9:.3f} s before a row above it; set time.sort = true if the file is not in "
                "order, or a larger time.max_late if the feed is like that (local times without an offset "
                "repeat an hour each autumn: write them in UTC)"
            )
        self._latest = int(raised[-1])
        self._tally.notes["stamped before the row above: ts_init raised"] += int((late > 0).sum())
        return raised


class Sink:
    """Gathers rows and writes them in chunks cut between different ``ts_init``."""

    def __init__(self, write: Callable[..., int], tally: Tally) -> None:
        self._write = write
        self._tally = tally
        self._held: list[tuple[np.ndarray, np.ndarray, Columns]] = []
        self._rows = 0

    def add(self, ts_event: np.ndarray, ts_init: np.ndarray, columns: Columns) -> None:
        """Take rows; ``ts_init`` goes on ascending from the rows before."""
        if len(ts_init) == 0:
            return
        self._held.append((ts_event, ts_init, columns))
        self._rows += len(ts_init)
        if self._rows >= _CHUNK:
            self._flush(everything=False)

    def finish(self) -> None:
        """Write what is left."""
        if self._held:
            self._flush(everything=True)

    def _flush(self, everything: bool) -> None:
        ts_event = np.concatenate([part[0] for part in self._held])
        ts_init = np.concatenate([part[1] for part in self._held])
        columns = {name: np.concatenate([part[2][name] for part in self._held]) for name in self._held[0][2]}
        cut = len(ts_init) if everything else int(np.searchsorted(ts_init, ts_init[-1]))
        if cut:
            added = self._write(
                ts_event=ts_event[:cut],
                ts_init=ts_init[:cut],
                **{name: c[:cut] for name, c in columns.items()},
            )
            self._tally.added += added
            self._tally.present += cut - added
        self._held = [(ts_event[cut:], ts_init[cut:], {name: c[cut:] for name, c in columns.items()})]
        self._rows = len(ts_init) - cut


class Feed:
    """The rows of one table that belong to one instrument."""

    def __init__(
        self, table: TableSettings, tally: Tally, write: Callable[..., int], summary: ImportSummary
    ) -> None:
        self.tally = tally
        self.summary = summary
        self.clock = Clock(table.time, tally)
        self.sink = Sink(write, tally)

    def begin_anew(self) -> None:
        """Rows of another definition of the instrument lie before: nothing carries over from them."""

    def add(self, batch: Batch) -> None:
        """Take the next rows."""
        raise NotImplementedError

    def finish(self) -> None:
        """No rows follow."""
        self.sink.finish()


class RowFeed(Feed):
    """Kinds where a row of the file is a row of the catalog.

    Subclasses decode columns and say which rows cannot be stored and why. Where ``drops_repeats``, a row
    equal in every column to the one above it is a recorder's repetition and left out.
    """

    drops_repeats = True
    _last: tuple[object, ...] | None = None

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        """The arrays that the writer's method takes, by parameter name."""
        raise NotImplementedError

    def impossible(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        """What a row may be here and there, but no table in most of its rows unless columns are mistaken."""
        yield from ()

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        """Reasons to leave rows out."""
        raise NotImplementedError

    def repair(self, columns: Columns) -> None:
        """Mend what can be mended, in place, counting it."""

    def add(self, batch: Batch) -> None:
        self.tally.read += len(batch)
        ts_event, ts_init = self.clock.read(batch)
        columns = self.decode(batch, ts_event, ts_init)
        for what, bad in self.impossible(columns):
            if len(bad) >= _STEPS and bad.mean() > 0.5:
                raise MappingError(
                    f"{batch.path}: {what} in {int(bad.sum()):,} of {len(bad):,} rows, first in row "
                    f"{batch.rows[int(np.argmax(bad))]}: columns of the mapping seem to be swapped"
                )
        equal = self._repeats([ts_event, ts_init, *columns.values()])
        keep = np.ones(len(batch), dtype=bool)
        if self.drops_repeats:
            self._leave_out("equal to the row above", equal, keep)
        for reason, bad in self.faults(columns):
            self._leave_out(reason, bad, keep)
        if not self.drops_repeats:
            self.tally.notes["equal to the row above: kept"] += int((equal & keep).sum())
        columns = {name: values[keep] for name, values in columns.items()}
        self.repair(columns)
        self.sink.add(ts_event[keep], ts_init[keep], columns)

    def _leave_out(self, reason: str, bad: np.ndarray, keep: np.ndarray) -> None:
        self.tally.leave_out(reason, int((bad & keep).sum()))
        keep &= ~bad

    def _repeats(self, columns: list[np.ndarray]) -> np.ndarray:
        same = np.ones(len(columns[0]), dtype=bool)
        if len(same) == 0:
            return same
        for i, values in enumerate(columns):
            same[1:] &= values[1:] == values[:-1]
            same[0] &= self._last is not None and self._last[i] == values[0]
        self._last = tuple(values[-1] for values in columns)
        return same

    def note_rounding(self, values: np.ndarray, precision: int, what: str) -> None:
        """Count the values that lie between the ticks of the instrument."""
        ticks = values[np.isfinite(values)] * 10.0**precision
        off = np.abs(ticks - np.rint(ticks)) > 1e-6 + 1e-9 * np.abs(ticks)
        self.tally.notes[f"{what} rounded to {precision} decimal places"] += int(off.sum())


class QuotesFeed(RowFeed):
    """Best bid and ask."""

    def __init__(
        self, table: QuotesTable, instrument: Instrument, writer: CatalogWriter, summary: ImportSummary
    ) -> None:
        def write(**columns: np.ndarray) -> int:
            return writer.quotes(instrument, **columns)

        super().__init__(table, summary.tally("quotes", str(instrument.id)), write, summary)
        self._table = table
        self._instrument = instrument

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        columns = {}
        for name in ("bid_price", "ask_price", "bid_size", "ask_size"):
            price = name.endswith("price")
            columns[name] = batch.number(getattr(table, name)) * (
                table.price_scale if price else table.size_scale
            )
            places = self._instrument.price_precision if price else self._instrument.size_precision
            self.note_rounding(columns[name], places, "prices" if price else "sizes")
        return columns

    def impossible(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "the bid is over the ask", columns["bid_price"] > columns["ask_price"]

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        missing = np.zeros(len(columns["bid_price"]), dtype=bool)
        for values in columns.values():
            missing |= ~np.isfinite(values)
        yield "with a side missing", missing
        positive = is_price(columns["bid_price"], self._instrument)
        positive &= is_price(columns["ask_price"], self._instrument)
        yield "without a positive price", ~positive
        yield TOO_LARGE, too_large(columns, self._instrument)
        crossed = columns["bid_price"] > columns["ask_price"]
        self.tally.notes["crossed: kept as recorded"] += int((crossed & ~missing & positive).sum())


class BarsFeed(RowFeed):
    """Bars, with high and low widened to contain an open that is the close before."""

    def __init__(
        self, table: BarsTable, instrument: Instrument, writer: CatalogWriter, summary: ImportSummary
    ) -> None:
        bar_type = bar_type_of(str(instrument.id), table.time.period or 0)

        def write(**columns: np.ndarray) -> int:
            return writer.bars(instrument, bar_type, **columns)

        super().__init__(table, summary.tally("bars", bar_type), write, summary)
        self._table = table
        self._instrument = instrument
        self._newest = 0

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        columns = {
            name: batch.number(getattr(table, name)) * table.price_scale
            for name in ("open", "high", "low", "close")
        }
        for values in columns.values():
            self.note_rounding(values, self._instrument.price_precision, "prices")
        columns["volume"] = batch.number(table.volume) * table.size_scale
        self.note_rounding(columns["volume"], self._instrument.size_precision, "volumes")
        before = np.maximum.accumulate(np.concatenate(([self._newest], ts_event)))
        self._old = ts_event <= before[:-1]
        self._newest = int(before[-1])
        return columns

    def impossible(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "the high is under the low", columns["high"] < columns["low"]
        yield "the close is outside high and low", _outside(columns["close"], columns)

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "not later than a bar above", self._old
        missing = ~(columns["volume"] >= 0)
        positive = np.ones(len(missing), dtype=bool)
        for name in ("open", "high", "low", "close"):
            missing |= ~np.isfinite(columns[name])
            positive &= is_price(columns[name], self._instrument)
        yield "with a value missing", missing
        yield "without a positive price", ~positive
        yield TOO_LARGE, too_large(columns, self._instrument)
        yield "with a high under the low", columns["high"] < columns["low"]
        yield "with a close outside high and low", _outside(columns["close"], columns)
        yield "with an open far outside high and low", _outside(columns["open"], columns, _FAR)

    def repair(self, columns: Columns) -> None:
        wrong = _outside(columns["open"], columns)
        columns["high"] = np.maximum(columns["high"], columns["open"])
        columns["low"] = np.minimum(columns["low"], columns["open"])
        self.tally.notes["high or low widened to contain the open"] += int(wrong.sum())
        self.tally.notes["without volume: kept"] += int((columns["volume"] == 0).sum())


class PriceFeed(RowFeed):
    """Mark or index prices."""

    def __init__(
        self, table: PriceTable, instrument: Instrument, writer: CatalogWriter, summary: ImportSummary
    ) -> None:
        method = writer.mark_prices if table.kind == "mark" else writer.index_prices

        def write(**columns: np.ndarray) -> int:
            return method(instrument, **columns)

        super().__init__(table, summary.tally(table.kind, str(instrument.id)), write, summary)
        self._table = table
        self._instrument = instrument

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        value = batch.number(self._table.value) * self._table.price_scale
        self.note_rounding(value, self._instrument.price_precision, "prices")
        return {"value": value}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "without a positive price", ~is_price(columns["value"], self._instrument)
        yield TOO_LARGE, too_large(columns, self._instrument)


class FundingFeed(RowFeed):
    """Funding rates."""

    def __init__(
        self, table: FundingTable, instrument: Instrument, writer: CatalogWriter, summary: ImportSummary
    ) -> None:
        def write(**columns: np.ndarray) -> int:
            return writer.funding_rates(instrument, interval=table.interval, **columns)

        super().__init__(table, summary.tally("funding", str(instrument.id)), write, summary)
        self._table = table

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        # A settled rate is settled by the exchange simulation when it becomes known; it refuses an earlier
        # time.
        following = ts_init if table.next is None else batch.times(table.next, table.next_unit)
        self._past = following < ts_init
        return {"rate": batch.number(table.rate), "next_funding_ns": following}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "received after the settlement they foresee", self._past
        yield "without a rate", ~np.isfinite(columns["rate"])


class SeriesFeed(RowFeed):
    """One named slow series."""

    def __init__(
        self, table: SeriesTable, name: str, identifier: str, writer: CatalogWriter, summary: ImportSummary
    ) -> None:
        def write(**columns: np.ndarray) -> int:
            return writer.series(name, identifier, **columns)

        super().__init__(table, summary.tally(f"series {name}", identifier), write, summary)
        self._column = table.values[name]

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        return {"value": batch.number(self._column)}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "without a value", ~np.isfinite(columns["value"])


class SeveralFeeds(Feed):
    """Several feeds that read the same rows."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = feeds

    def add(self, batch: Batch) -> None:
        for feed in self._feeds:
            feed.add(batch)

    def finish(self) -> None:
        for feed in self._feeds:
            feed.finish()


def _outside(value: np.ndarray, columns: Columns, factor: float = 1.0) -> np.ndarray:
    """Where a value is outside high and low, by more than ``factor``."""
    return (value > columns["high"] * factor) | (value * factor < columns["low"])


def is_price(price: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Where a price is finite and a tick or more after rounding: a print at 0 would fill every bid."""
    return np.isfinite(price) & (np.rint(price * 10.0**instrument.price_precision) > 0)


def too_large(columns: Columns, instrument: Instrument) -> np.ndarray:
    """Where a price or a size is more than a catalog can hold."""
    bad = np.zeros(len(next(iter(columns.values()))), dtype=bool)
    for name, values in columns.items():
        if values.dtype.kind == "f":
            size = "size" in name or name == "volume"
            limit = largest(instrument.size_precision if size else instrument.price_precision)
            bad |= np.abs(values) > limit
    return bad
