"""Depth diffs on their way into the catalog: applied to snapshots, every link of the sequence checked."""

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from catalogs.books import CLEAR, apply_updates
from catalogs.checks.findings import length_text, time_text
from catalogs.imports.base import Cell, MappingError, TimeSettings
from catalogs.imports.bookfeeds import BookFeed, BookTable
from catalogs.imports.feeds import Clock, Feed, Target
from catalogs.imports.tables import Batch, by_instrument, find, read
from catalogs.summary import Tally
from core.settings import Settings


class BookSide(Settings):
    """The column that says bid or ask, and the values it uses."""

    column: str = "side"
    """Its name."""
    bid: Cell = "bid"
    """The value that means bid."""
    ask: Cell = "ask"
    """The value that means ask."""


class RestSnapshots(Settings):
    """Full books to start from: one row a level, as ``book_diffs``, with the update id they include."""

    files: list[str] = Field(min_length=1)
    """Paths or globs under the root."""
    last_id: str
    """Column of the update id that the book includes."""
    time: TimeSettings
    """The time columns."""


class DiffsTable(BookTable):
    """Depth updates, one row a level (size 0: level gone), stored as deltas on top of snapshots."""

    kind: Literal["book_diffs"]
    side: BookSide = BookSide()
    """Which side a level is of."""
    price: str = "price"
    """Column of the price."""
    size: str = "size"
    """Column of the size; 0 where the level is gone."""
    first_id: str | None = None
    """Column of the update's first id; without it an update has one id (OKX, Deribit)."""
    last_id: str
    """Column of the update's last id."""
    previous_id: str | None = None
    """Column of the previous update's last id."""
    rule: Literal["previous", "contiguous"]
    """``"previous"``: each ``previous_id`` equals the ``last_id`` before (Binance futures, OKX, Deribit);
    ``"contiguous"``: each ``first_id`` follows the ``last_id`` before by one (Binance spot)."""
    snapshots: RestSnapshots
    """Where the book starts, and starts again after a break in the sequence."""

    @model_validator(mode="after")
    def _check(self) -> "DiffsTable":
        if self.rule == "previous" and self.previous_id is None:
            raise ValueError("rule = 'previous' compares previous_id; name its column")
        return self

    def numbers(self) -> list[str]:
        return [self.price, self.size]

    def others(self) -> list[str]:
        ids = [self.first_id, self.last_id, self.previous_id]
        return [*(name for name in ids if name), self.side.column]

    def feed(self, target: Target) -> Feed:
        return DiffsFeed(self, target)


@dataclasses.dataclass(frozen=True)
class _Snapshot:
    last_id: int
    ts_event: int
    ts_init: int
    side: np.ndarray
    price: np.ndarray
    size: np.ndarray


@dataclasses.dataclass
class _Break:
    """Where ``update`` did not follow the one before: the stretch (ns) without a book that it began."""

    update: int
    before: int
    start: int
    end: int | None = None


@dataclasses.dataclass
class _Rows:
    """Rows of depth updates, one a level."""

    ts_event: np.ndarray
    ts_init: np.ndarray
    first: np.ndarray
    last: np.ndarray
    previous: np.ndarray
    side: np.ndarray
    price: np.ndarray
    size: np.ndarray

    def part(self, lo: int, hi: int) -> "_Rows":
        return _Rows(*(getattr(self, field.name)[lo:hi] for field in dataclasses.fields(self)))

    def where(self, keep: np.ndarray) -> "_Rows":
        return _Rows(*(getattr(self, field.name)[keep] for field in dataclasses.fields(self)))

    def followed_by(self, other: "_Rows") -> "_Rows":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return _Rows(*(np.concatenate(pair) for pair in pairs))


class DiffsFeed(BookFeed):
    """Depth diffs on top of snapshots, with every link of the sequence checked.

    The book starts at the first update that continues a snapshot: its ids span the snapshot's (Binance's
    rules for USD-M, COIN-M and spot), or its previous id is the snapshot's (OKX, Deribit). At a broken link
    the book is cleared, and updates are left out until one continues another snapshot. Updates that were
    there before, as overlapping files repeat them, are left out.
    """

    def __init__(self, table: DiffsTable, target: Target) -> None:
        super().__init__(table, target)
        self._table = table
        self._held: _Rows | None = None
        self._synced = False
        self._newest_id = -1
        self._newest_event = 0  # ts_event
        self._floor = 0  # ts_init of the last delta handed on
        self._snapshots = self._load_snapshots(target.root)
        self._breaks: list[_Break] = []
        self._anew = False  # whether a book of another definition is to be cleared first

    def begin_anew(self) -> None:
        self._anew = True
        self.summary.warnings.append(
            f"book of {self.identifier}: the instrument changed; its book begins anew with the first "
            "snapshot that the updates after the change continue"
        )

    def add(self, batch: Batch) -> None:
        self.tally.read += len(batch)
        ts_event, ts_init = self.clock.read(batch)
        table = self._table
        last = batch.integer(table.last_id)
        side, ticks, lots = self._sided(batch)
        rows = _Rows(
            ts_event=ts_event,
            ts_init=ts_init,
            first=last if table.first_id is None else batch.integer(table.first_id),
            last=last,
            previous=last if table.previous_id is None else batch.integer(table.previous_id),
            side=side,
            price=ticks,
            size=lots,
        )
        rows = rows if self._held is None else self._held.followed_by(rows)
        # The last update may go on in the next batch.
        cut = (
            int(np.flatnonzero(rows.last != rows.last[-1])[-1]) + 1
            if (rows.last != rows.last[-1]).any()
            else 0
        )
        self._held = rows.part(cut, len(rows.last))
        self._updates(rows.part(0, cut))

    def finish(self) -> None:
        if self._held is not None:
            self._updates(self._held)
        if self._breaks:
            self.summary.warnings.append(self._lost())
        if not self._synced:
            self.summary.warnings.append(
                f"book of {self.identifier}: no snapshot continued the last updates, so the book ends empty"
            )
        super().finish()

    def _lost(self) -> str:
        """The breaks, and how long there was no book."""
        newest = max(self._newest_event, self._floor)
        lengths = [(newest if each.end is None else each.end) - each.start for each in self._breaks]
        first, longest = self._breaks[0], int(np.argmax(lengths))
        several = f", and {len(lengths) - 1:,} more such breaks" if len(lengths) > 1 else ""
        return (
            f"book of {self.identifier}: at {time_text(first.start)} update {first.update} does not follow "
            f"{first.before}{several}; the book is empty until a snapshot is continued, for "
            f"{length_text(sum(lengths))} in all, the longest stretch from "
            f"{time_text(self._breaks[longest].start)} on for {length_text(lengths[longest])}: the "
            "instrument has no price there, and nothing is traded"
        )

    def _updates(self, rows: _Rows) -> None:
        rows = self._fresh(rows)
        if len(rows.last) == 0:
            return
        if self._anew:
            self._anew = False
            self._clear(rows, 0)
        edge = np.flatnonzero(np.diff(rows.last)) + 1
        starts = np.concatenate(([0], edge, [len(rows.last)]))
        head = starts[:-1]
        first, last, previous = rows.first[head], rows.last[head], rows.previous[head]
        before = np.concatenate(([self._newest_id], last[:-1]))
        linked = previous == before if self._table.rule == "previous" else first == before + 1
        at, total = 0, len(head)
        while at < total:
            if not self._synced:
                start, snapshot = self._continuing(first, last, previous, at)
                self.tally.notes["updates before a book to apply them to: left out"] += start - at
                at = start
                if snapshot is None:
                    break
                self._start(snapshot)
                stop = self._next_break(linked, at + 1)
            else:
                stop = self._next_break(linked, at)
            if stop > at:
                self._apply(rows, starts[at : stop + 1])
            if stop < total:
                self._break(rows, int(head[stop]), int(before[stop]), int(first[stop]))
            at = stop
        self._newest_id = int(last[-1])

    def _fresh(self, rows: _Rows) -> _Rows:
        """The rows of updates that are new.

        An id no newer than those before with a time no later is a repetition; with a later time it breaks
        the sequence, as where a venue numbers anew.
        """
        newest_id = np.maximum.accumulate(np.concatenate(([self._newest_id], rows.last)))
        newest_event = np.maximum.accumulate(np.concatenate(([self._newest_event], rows.ts_event)))
        head = np.concatenate(([True], np.diff(rows.last) != 0))[: len(rows.last)]
        starts = np.flatnonzero(head)
        again = (rows.last[starts] <= newest_id[starts]) & (rows.ts_event[starts] <= newest_event[starts])
        self.tally.notes["updates repeated from an earlier file: left out"] += int(again.sum())
        self._newest_event = int(newest_event[-1])
        return rows.where(~again[np.cumsum(head) - 1])

    @staticmethod
    def _next_break(linked: np.ndarray, at: int) -> int:
        broken = np.flatnonzero(~linked[at:])
        return at + int(broken[0]) if len(broken) else len(linked)

    def _continuing(
        self, first: np.ndarray, last: np.ndarray, previous: np.ndarray, at: int
    ) -> tuple[int, _Snapshot | None]:
        """The first update from ``at`` on that continues a snapshot, and that snapshot."""
        found: tuple[int, _Snapshot | None] = (len(first), None)
        for snapshot in self._snapshots:
            part = slice(at, found[0])
            wanted = snapshot.last_id + (self._table.rule == "contiguous")
            follows = (first[part] <= wanted) & (wanted <= last[part])
            if self._table.rule == "previous":
                follows |= previous[part] == snapshot.last_id
            if follows.any():
                found = (at + int(np.argmax(follows)), snapshot)
        return found

    def _start(self, snapshot: _Snapshot) -> None:
        """Clear the book and write the snapshot."""
        self._synced = True
        self.book.clear()
        n = len(snapshot.side)
        self.book.reserve(n)
        starts = np.array([0, n])
        row, action, _, _ = apply_updates(
            self.book.prices,
            self.book.sizes,
            self.book.count,
            starts,
            snapshot.side,
            snapshot.price,
            snapshot.size,
        )
        zero = np.zeros(1, dtype=np.int64)
        self._floor = max(snapshot.ts_init, self._floor)
        if self._breaks and self._breaks[-1].end is None:
            self._breaks[-1].end = self._floor
        self.emit(
            np.array([snapshot.ts_event]),
            np.array([self._floor]),
            np.array([snapshot.last_id]),
            np.array([True]),
            np.zeros(len(row) + 1, dtype=np.int64),
            np.concatenate(([CLEAR], action)),
            np.concatenate((zero, snapshot.side[row])),
            np.concatenate((zero, snapshot.price[row])),
            np.concatenate((zero, snapshot.size[row])),
        )
        self.tally.notes["snapshots the book started from"] += 1

    def _apply(self, rows: _Rows, starts: np.ndarray) -> None:
        lo, hi = int(starts[0]), int(starts[-1])
        part, starts = rows.part(lo, hi), starts - lo
        self.book.reserve(hi - lo)
        row, action, update, state = apply_updates(
            self.book.prices, self.book.sizes, self.book.count, starts, part.side, part.price, part.size
        )
        self.count(state)
        self.tally.notes["levels set to the size they had: nothing to write"] += hi - lo - len(row)
        head = starts[:-1]
        plain = np.zeros(len(head), dtype=bool)
        # Updates received before the snapshot that they continue could only be applied once it was there.
        ts_init = np.maximum(part.ts_init[head], self._floor)
        self._floor = int(ts_init[-1])
        self.emit(
            part.ts_event[head],
            ts_init,
            part.last[head],
            plain,
            update,
            action,
            part.side[row],
            part.price[row],
            part.size[row],
        )

    def _break(self, rows: _Rows, row: int, before: int, first: int) -> None:
        self._synced = False
        self.book.clear()
        self.tally.notes["breaks in the sequence: book cleared"] += 1
        self._breaks.append(_Break(first, before, int(rows.ts_init[row])))
        self._clear(rows, row)

    def _clear(self, rows: _Rows, row: int) -> None:
        """Write that there is no book from this row on."""
        one, zero = np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64)
        ts_init = np.maximum(rows.ts_init[row : row + 1], self._floor)
        self.emit(
            rows.ts_event[row : row + 1],
            ts_init,
            rows.last[row : row + 1],
            one,
            zero,
            zero + CLEAR,
            zero,
            zero,
            zero,
        )

    def _sided(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = self._table
        bid = batch.is_any(table.side.column, [table.side.bid])
        ask = batch.is_any(table.side.column, [table.side.ask])
        if not (bid | ask).all():
            row = int(np.argmin(bid | ask))
            raise MappingError(
                f"{batch.path}: column {table.side.column!r}, row {batch.rows[row]}: "
                f"{batch.column(table.side.column)[row]} is neither {table.side.bid!r} nor {table.side.ask!r}"
            )
        ticks, lots, good = self.whole(batch.number(table.price), batch.number(table.size))
        if not good.all():
            row = int(np.argmin(good))
            price, size = batch.number(table.price)[row], batch.number(table.size)[row]
            raise MappingError(
                f"{batch.path}: row {batch.rows[row]} has price {price:g} and size {size:g}: no level of a "
                "book; see that the mapping names the right columns, or leave it out with `where`"
            )
        return np.where(bid, 1, -1).astype(np.int64), ticks, lots

    def _load_snapshots(self, root: Path) -> list[_Snapshot]:
        settings, table = self._table.snapshots, self._table
        symbols = table.symbol.columns if table.symbol else []
        columns = [settings.last_id, *table.numbers(), table.side.column, *settings.time.columns(), *symbols]
        clock = Clock(settings.time, Tally("snapshots", self.identifier))
        found = []
        for path in find(root, settings.files):
            for batch in read(path, columns, table.numbers(), settings.time, table.csv):
                for target, part in by_instrument(table, batch):
                    if target != self.identifier:
                        continue
                    ts_event, ts_init = clock.read(part)
                    ids = part.integer(settings.last_id)
                    side, ticks, lots = self._sided(part)
                    edges = np.concatenate(([0], np.flatnonzero(np.diff(ids)) + 1, [len(ids)]))
                    for lo, hi in itertools.pairwise(edges.tolist()):
                        found.append(
                            _Snapshot(
                                int(ids[lo]),
                                int(ts_event[lo]),
                                int(ts_init[hi - 1]),
                                side[lo:hi],
                                ticks[lo:hi],
                                lots[lo:hi],
                            )
                        )
        return found
