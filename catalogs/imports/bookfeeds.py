"""What all order books share on their way into the catalog as deltas."""

import numpy as np

from catalogs.books import LevelBook
from catalogs.imports.base import Scale, TableSettings
from catalogs.imports.feeds import Feed, Target
from catalogs.layout import F_LAST, F_SNAPSHOT, largest


class BookTable(TableSettings):
    """A table that books are made of."""

    price_scale: Scale = 1.0
    """Multiplies prices."""
    size_scale: Scale = 1.0
    """Multiplies sizes."""


class BookFeed(Feed):
    """Whole ticks and lots, and counting locked and crossed books."""

    def __init__(
        self,
        table: BookTable,
        target: Target,
    ) -> None:
        instrument, writer = target.instrument, target.writer

        def write(**columns: np.ndarray) -> int:
            return writer.deltas(instrument, **columns)

        super().__init__(table, target.summary.tally("deltas", target.id), write, target.summary)
        self.book = LevelBook()
        self.identifier = target.id
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
