"""Order books recorded as snapshots on their way into the catalog, as the deltas between them."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from catalogs.books import snapshot_updates
from catalogs.imports.base import MappingError
from catalogs.imports.bookfeeds import BookFeed, BookTable
from catalogs.imports.feeds import Feed, Target
from catalogs.imports.tables import Batch
from core.settings import Count, Duration, Integer, Settings, default, unit


class WideLevels(Settings):
    """Book levels in columns of their own: names with ``{level}`` in them."""

    kind: Literal["wide"]
    bid_price: str
    """Columns of bid prices, such as ``bid_{level}``."""
    bid_size: str
    """Columns of bid sizes."""
    ask_price: str
    """Columns of ask prices."""
    ask_size: str
    """Columns of ask sizes."""
    levels: Count = Field(gt=0, le=8_192)
    """How many there are."""
    first: Annotated[Integer, unit("level")] = Field(default=0, ge=0, le=1_000)
    """The best level's number."""

    @model_validator(mode="after")
    def _check(self) -> "WideLevels":
        for name in (self.bid_price, self.bid_size, self.ask_price, self.ask_size):
            if "{level" not in name:
                raise ValueError(f"{name!r} has no {{level}} (or {{level:02}}) for the level's number")
        return self

    def parts(self) -> list[list[str]]:
        """Column names of bid prices, bid sizes, ask prices, ask sizes, each from the best level."""
        numbers = range(self.first, self.first + self.levels)
        return [
            [name.format(level=number) for number in numbers]
            for name in (self.bid_price, self.bid_size, self.ask_price, self.ask_size)
        ]

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [name for part in self.parts() for name in part]


class ListLevels(Settings):
    """Book levels in list columns, best first."""

    kind: Literal["lists"]
    bid_price: str
    """Column of bid prices."""
    bid_size: str
    """Column of bid sizes."""
    ask_price: str
    """Column of ask prices."""
    ask_size: str
    """Column of ask sizes."""

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [self.bid_price, self.bid_size, self.ask_price, self.ask_size]


Levels = Annotated[WideLevels | ListLevels, Field(discriminator="kind")]


class SnapshotsTable(BookTable):
    """Book snapshots, stored as the deltas between successive ones."""

    kind: Literal["book_snapshots"]
    levels: Levels
    """Where the levels stand."""
    sequence: str | None = None
    """Column of the venue's sequence."""
    gap: Duration = default("10s")
    """After a longer hole in time the book is cleared and written anew."""

    def numbers(self) -> list[str]:
        return self.levels.columns()

    def others(self) -> list[str]:
        return [self.sequence] if self.sequence else []

    def feed(self, target: Target) -> Feed:
        return SnapshotsFeed(self, target)


class SnapshotsFeed(BookFeed):
    """Snapshots to the deltas between them. A level that leaves the recorded depth counts as gone."""

    def __init__(self, table: SnapshotsTable, target: Target) -> None:
        super().__init__(table, target)
        self._table = table
        self._previous: int | None = None
        self._number = 0

    def add(self, batch: Batch) -> None:
        n = len(batch)
        self.tally.read += n
        ts_event, ts_init = self.clock.read(batch)
        starts, side, price, size = self._levels(batch)
        ticks, lots, good = self.whole(price, size)
        good &= lots > 0
        counts = np.concatenate(([0], np.cumsum(good)))
        starts = counts[starts]
        side, ticks, lots = side[good], ticks[good], lots[good]

        before = np.concatenate(([self._previous or 0], ts_init[:-1]))
        fresh = ts_init - before > self._table.gap
        holes = int(fresh.sum()) - (self._previous is None)
        self.tally.notes["holes in time: book cleared and written anew"] += holes
        self._previous = int(ts_init[-1])

        sequence = self._number + 1 + np.arange(n)
        self._number += n
        if self._table.sequence is not None:
            sequence = batch.integer(self._table.sequence)
        self.book.reserve(int(np.diff(starts).max(initial=0)))
        action, side, ticks, lots, update, state = snapshot_updates(
            self.book.prices, self.book.sizes, self.book.count, starts, side, ticks, lots, fresh
        )
        if state[3] >= 0:
            row = int(np.searchsorted(starts, state[3], "right")) - 1
            raise MappingError(
                f"{batch.path}: row {batch.rows[row]}: the levels of a side do not go from best to worst; "
                "check which columns are bids and which asks, and the numbering of the levels"
            )
        self.count(state)
        changed = np.unique(update)
        self.tally.notes["snapshots without a change: nothing to write"] += n - len(changed)
        self.emit(ts_event, ts_init, sequence, fresh, update, action, side, ticks, lots)

    def _levels(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """First row of each snapshot, and side, price, size of its rows: bids from the best, then asks."""
        levels, n = self._table.levels, len(batch)
        if isinstance(levels, WideLevels):
            bid_price, bid_size, ask_price, ask_size = (
                np.column_stack([batch.number(name) for name in names]) for names in levels.parts()
            )
            width = 2 * levels.levels
            side = np.repeat(np.array([1, -1], dtype=np.int8), levels.levels)
            return (
                np.arange(n + 1) * width,
                np.tile(side, n),
                np.concatenate((bid_price, ask_price), axis=1).ravel(),
                np.concatenate((bid_size, ask_size), axis=1).ravel(),
            )
        bids, bid_price = batch.lists(levels.bid_price)
        same_bids, bid_size = batch.lists(levels.bid_size)
        asks, ask_price = batch.lists(levels.ask_price)
        same_asks, ask_size = batch.lists(levels.ask_size)
        if not (np.array_equal(bids, same_bids) and np.array_equal(asks, same_asks)):
            raise MappingError(f"{batch.path}: the price and size lists of a side differ in length")
        bid_count, ask_count = np.diff(bids), np.diff(asks)
        starts = bids + asks
        bid_rows = np.arange(len(bid_price)) + np.repeat(asks[:-1], bid_count)
        ask_rows = np.arange(len(ask_price)) + np.repeat(bids[1:], ask_count)
        side = np.empty(len(bid_price) + len(ask_price), dtype=np.int8)
        price, size = np.empty(len(side)), np.empty(len(side))
        side[bid_rows], side[ask_rows] = 1, -1
        price[bid_rows], price[ask_rows] = bid_price, ask_price
        size[bid_rows], size[ask_rows] = bid_size, ask_size
        return starts, side, price, size
