"""Order books on their way into the catalog as deltas; here those recorded as snapshots."""

import numpy as np

from catalogs.books import LevelBook, snapshot_updates
from catalogs.imports.feeds import Feed
from catalogs.imports.mapping import DiffsTable, MappingError, SnapshotsTable, WideLevels
from catalogs.imports.tables import Batch
from catalogs.instruments import Instrument
from catalogs.layout import F_LAST, F_SNAPSHOT, largest
from catalogs.summary import ImportSummary
from catalogs.writer import CatalogWriter


class BookFeed(Feed):
    """What both kinds share: whole ticks and lots, and counting locked and crossed books."""

    def __init__(
        self,
        table: SnapshotsTable | DiffsTable,
        instrument: Instrument,
        writer: CatalogWriter,
        summary: ImportSummary,
    ) -> None:
        def write(**columns: np.ndarray) -> int:
            return writer.deltas(instrument, **columns)

        super().__init__(table, summary.tally("deltas", str(instrument.id)), write, summary)
        self.book = LevelBook()
        self.identifier = str(instrument.id)
        self._to_ticks = table.price_scale * 10.0**instrument.price_precision
        self._to_lots = table.size_scale * 10.0**instrument.size_precision
        self._tick, self._lot = 10.0**instrument.price_precision, 10.0**instrument.size_precision
        self._most = (
            largest(instrument.price_precision) / table.price_scale,
            largest(instrument.size_precision) / table.size_scale,
        )
        self._increment = instrument.price_increment
        self._step = round(self._increment.as_decimal() * 10**instrument.price_precision)
        self._states = np.zeros(3, dtype=np.int64)

    def whole(self, price: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ticks, lots, and where both are there (a missing level has size 0)."""
        there = ~(np.isnan(price) | np.isnan(size) | ((price == 0) & (size == 0)))
        good = there & (price > 0) & (size >= 0) & (price <= self._most[0]) & (size <= self._most[1])
        self.tally.notes["levels without a price or size that can be: left out"] += int((there & ~good).sum())
        ticks, lots = np.where(good, price, 0.0) * self._to_ticks, np.where(good, size, 0.0) * self._to_lots
        whole_ticks, whole_lots = np.rint(ticks), np.rint(lots)
        off = (np.abs(ticks - whole_ticks) > 1e-6 + 1e-9 * np.abs(ticks)) | (
            np.abs(lots - whole_lots) > 1e-6 + 1e-9 * np.abs(lots)
        )
        self.tally.notes["levels rounded to the instrument's decimal places"] += int(off.sum())
        between = whole_ticks % self._step != 0
        self.tally.notes[f"levels between the ticks of {self._increment}: kept"] += int(between.sum())
        return whole_ticks.astype(np.int64), whole_lots.astype(np.int64), good

    def emit(
        self,
        ts_event: np.ndarray,
        ts_init: np.ndarray,
        sequence: np.ndarray,
        snapshot: np.ndarray,
        update: np.ndarray,
        action: np.ndarray,
        side: np.ndarray,
        price: np.ndarray,
        size: np.ndarray,
    ) -> None:
        """Hand deltas on. The first four arrays are by update, the others by delta; ``update`` says whose."""
        last = np.ones(len(update), dtype=bool)
        last[:-1] = update[1:] != update[:-1]
        flags = np.where(snapshot[update], F_SNAPSHOT, 0) | np.where(last, F_LAST, 0)
        columns = {
            "action": action,
            "side": side,
            "price": price / self._tick,
            "size": size / self._lot,
            "flags": flags.astype(np.uint8),
            "sequence": sequence[update],
        }
        self.sink.add(ts_event[update], ts_init[update], columns)

    def count(self, states: np.ndarray) -> None:
        """Add numbers of sound, locked and crossed books."""
        self._states += states[:3]

    def finish(self) -> None:
        total = int(self._states.sum())
        states = {"locked (bid = ask)": self._states[1], "crossed (bid > ask)": self._states[2]}
        for name, number in states.items():
            if number:
                self.tally.notes[f"books {name}: kept as recorded"] += int(number)
                self.summary.warnings.append(
                    f"book of {self.identifier}: {number:,} of {total:,} states ({number / total:.1%}) are "
                    f"{name}, kept as recorded: the spread is then not positive, and fills there are doubtful"
                )
        super().finish()


class SnapshotsFeed(BookFeed):
    """Snapshots to the deltas between them. A level that leaves the recorded depth counts as gone."""

    def __init__(
        self, table: SnapshotsTable, instrument: Instrument, writer: CatalogWriter, summary: ImportSummary
    ) -> None:
        super().__init__(table, instrument, writer, summary)
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
