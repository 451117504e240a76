"""One feed of one instrument on its way into the catalog: times resolved, rows cleaned and counted, chunks
written.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from catalogs.checks.findings import length_text
from catalogs.imports.base import MappingError, TableSettings, TimeSettings
from catalogs.imports.tables import Batch
from catalogs.instruments import Instrument
from catalogs.layout import largest
from catalogs.summary import ImportSummary, Tally
from catalogs.writer import CatalogWriter

Columns = dict[str, np.ndarray]

_CHUNK = 500_000  # rows of one catalog file
_STEPS = 3  # rows from which on one may say what is usual
TOO_LARGE = "with a number larger than a catalog holds"


@dataclasses.dataclass(frozen=True)
class Target:
    """Whom the rows of a feed belong to, and where they go; ``root`` is the folder of the mapping's paths."""

    id: str
    definition: Instrument | None
    root: Path
    writer: CatalogWriter
    summary: ImportSummary

    @property
    def instrument(self) -> Instrument:
        """Its definition, which every table ``of_instrument`` has."""
        assert self.definition is not None  # the mapping's validation says so
        return self.definition


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
