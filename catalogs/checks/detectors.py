"""What a quality check looks for: one class a defect, fed a catalog's batches in order, in bounded memory."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalogs.books import LevelBook, replay
from catalogs.checks.findings import Finding, length_text, time_text
from catalogs.checks.overlaps import SeenIds
from catalogs.instruments import Instrument
from catalogs.layout import F_LAST, PRECISIONS, DataType, codes, flat, times, to_float

_DAY = 86_400 * 10**9  # ns
_WEEK = 7 * 24 * 60  # min
_BETWEEN = 256  # deltas between two samples of a book's price


class Counter:
    """How often something occurred, and when first."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    def add(self, where: np.ndarray, ts: np.ndarray) -> None:
        if not self.count and where.any():
            self.first = int(ts[np.argmax(where)])
        self.count += int(where.sum())


class Check:
    """One thing looked for in the batches of a feed."""

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        raise NotImplementedError

    def findings(self, rows: int) -> Iterator[Finding]:
        raise NotImplementedError


class Order(Check):
    def __init__(self) -> None:
        self._back = Counter()
        self._latest = 0
        self._furthest = 0

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        before = np.maximum.accumulate(np.concatenate(([self._latest], ts)))
        back = before[:-1] - ts
        self._back.add(back > 0, ts)
        self._furthest = max(self._furthest, int(back.max()))
        self._latest = int(before[-1])

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._back.count:
            detail = f"{self._back.count:,} rows go back in ts_init, by up to {length_text(self._furthest)}"
            yield Finding("out of order", self._back.count, self._back.first, detail)


class EventTimes(Check):
    """Events received before they happened and, where ``late`` says so, more than a day after."""

    def __init__(self, late: bool) -> None:
        self._late = late
        self._ahead, self._stale = Counter(), Counter()
        self._furthest = 0

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        ahead = times(table["ts_event"]) - ts
        self._ahead.add(ahead > 0, ts)
        self._furthest = max(self._furthest, int(ahead.max(initial=0)))
        if self._late:
            self._stale.add(ahead < -_DAY, ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._ahead.count:
            detail = (
                f"{self._ahead.count:,} rows have a ts_event after their ts_init, "
                f"by up to {length_text(self._furthest)}"
            )
            yield Finding("event after receipt", self._ahead.count, self._ahead.first, detail)
        if self._stale.count:
            detail = f"{self._stale.count:,} rows have a ts_event more than a day before their ts_init"
            yield Finding("stale event", self._stale.count, self._stale.first, detail)


class Duplicates(Check):
    """Rows equal in every column to the row before."""

    def __init__(self) -> None:
        self._same = Counter()
        self._last: pa.Table | None = None

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        joined = table if self._last is None else pa.concat_tables([self._last, table])
        joined = joined.unify_dictionaries()
        same = np.ones(len(joined) - 1, dtype=bool)
        for name in joined.column_names:
            column = flat(joined[name])
            if pa.types.is_dictionary(column.type):
                column = column.indices
            equal = pc.equal(column[1:], column[:-1])
            same &= pc.fill_null(equal, True).to_numpy(zero_copy_only=False)
        self._same.add(same, ts[-len(same) :] if len(same) else ts)
        self._last = table.slice(len(table) - 1)

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._same.count:
            detail = f"{self._same.count:,} rows ({self._same.count / rows:.2%}) repeat the row before"
            yield Finding("duplicate", self._same.count, self._same.first, detail)


class EmptyValues(Check):
    """Prices that are null, NaN or not positive; sizes that are null or not what a size can be."""

    _DUE: dict[str, tuple[str, ...]] = {  # noqa: RUF012
        "trades": ("price", "size"),
        "quotes": ("bid_price", "ask_price", "bid_size", "ask_size"),
        "bars": ("open", "high", "low", "close"),
        "mark": ("value",),
        "index": ("value",),
    }

    def __init__(self, data_type: DataType) -> None:
        self._data_type = data_type
        self._empty = Counter()

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        bad = np.zeros(len(ts), dtype=bool)
        for name in self._DUE.get(self._data_type, ()):
            bad |= ~(to_float(flat(table[name])) > 0)
        if self._data_type == "bars":
            bad |= ~(to_float(flat(table["volume"])) >= 0)
        if self._data_type == "series":
            bad |= ~np.isfinite(flat(table["value"]).to_numpy())
        if self._data_type == "deltas":
            action = codes(flat(table["action"]), {"ADD": 1, "UPDATE": 1})
            both = (to_float(flat(table["size"])) > 0) & (to_float(flat(table["price"])) > 0)
            bad |= (action == 1) & ~both
        if self._data_type == "funding":
            minutes = flat(table["interval"]).fill_null(1).to_numpy()
            bad |= (minutes == 0) | (minutes > _WEEK)
        self._empty.add(bad, ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._empty.count:
            detail = (
                f"{self._empty.count:,} rows ({self._empty.count / rows:.2%}) without a value that can be"
            )
            yield Finding("empty value", self._empty.count, self._empty.first, detail)


class Aggressors(Check):
    """Sides of a healthy market are mixed: of a hundred trades or more, over 99 in 100 on one side are
    a recorder's fault.
    """

    def __init__(self) -> None:
        self._buys, self._sells, self._unknown = Counter(), Counter(), Counter()

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        side = codes(flat(table["aggressor_side"]), {"BUY": 1, "SELL": -1})
        for counter, code in ((self._buys, 1), (self._sells, -1), (self._unknown, 0)):
            counter.add(side == code, ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._unknown.count:
            detail = f"{self._unknown.count:,} of {rows:,} trades have no aggressor"
            yield Finding("unknown aggressor", self._unknown.count, self._unknown.first, detail)
        most = max(self._buys, self._sells, key=lambda counter: counter.count)
        signed = self._buys.count + self._sells.count
        if signed >= 100 and most.count > 0.99 * signed:
            name = "BUY" if most is self._buys else "SELL"
            detail = f"{most.count / signed:.1%} of {signed:,} trades say {name}"
            yield Finding("one-sided trades", most.count, most.first, detail)


class SameIds(Check):
    """Trades whose id an earlier one has."""

    def __init__(self) -> None:
        self._same = Counter()
        self._seen = SeenIds()

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        ids = pa.chunked_array([pc.fill_null(flat(table["trade_id"]), "")])
        self._same.add(self._seen.repeated(ids), ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._same.count:
            detail = f"{self._same.count:,} of {rows:,} trades have the id of an earlier one"
            yield Finding("same id", self._same.count, self._same.first, detail)


class ImpossibleBars(Check):
    """Bars whose high and low do not contain their open and close."""

    def __init__(self) -> None:
        self._bad = Counter()

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        opens, high, low, close = (to_float(flat(table[name])) for name in ("open", "high", "low", "close"))
        self._bad.add((high < np.maximum(opens, close)) | (low > np.minimum(opens, close)), ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._bad.count:
            detail = f"{self._bad.count:,} of {rows:,} bars have an open or close outside high and low"
            yield Finding("impossible bar", self._bad.count, self._bad.first, detail)


class Rates(Check):
    """Funding rates that look like percents: beyond 10 % a settlement, or half of them beyond 0.3 %."""

    def __init__(self) -> None:
        self._beyond, self._large = Counter(), Counter()
        self._largest = 0.0

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        rate = np.abs(flat(table["rate"]).cast(pa.float64()).to_numpy())
        self._beyond.add(~(rate <= 0.1), ts)
        self._large.add(~(rate <= 0.003), ts)
        self._largest = max(self._largest, float(rate.max(initial=0.0)))

    def findings(self, rows: int) -> Iterator[Finding]:
        found = self._large if self._large.count > 0.5 * rows else self._beyond
        if found.count:
            detail = (
                f"{found.count:,} of {rows:,} rates are very large, up to {self._largest:.4g} a settlement"
            )
            yield Finding("funding rate", found.count, found.first, detail)


class Precisions(Check):
    """Files whose prices or sizes have other decimal places than any definition of the instrument."""

    def __init__(self, data_type: DataType, definitions: list[Instrument]) -> None:
        self._names = PRECISIONS.get(data_type, ())
        self._known = {tuple(str(getattr(item, name)) for name in self._names) for item in definitions}
        self._other = Counter()
        self._said = ""

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        said = tuple((table.schema.metadata or {})[name.encode()].decode() for name in self._names)
        if self._names and self._known and said not in self._known:
            self._other.add(np.ones(len(ts), dtype=bool), ts)
            self._said = ", ".join(f"{name} {value}" for name, value in zip(self._names, said, strict=True))

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._other.count:
            detail = (
                f"{self._other.count:,} rows are of {self._said}, which no definition of the instrument says"
            )
            yield Finding("other precision", self._other.count, self._other.first, detail)


class Touch(Check):
    """Locked and crossed states, however they are found."""

    def __init__(self) -> None:
        self._locked, self._crossed, self._states = Counter(), Counter(), 0

    def judge(self, state: np.ndarray, ts: np.ndarray) -> None:
        """``state``: -1 not a state, 0 sound, 1 locked, 2 crossed."""
        self._states += int((state >= 0).sum())
        self._locked.add(state == 1, ts)
        self._crossed.add(state == 2, ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        for defect, counter in (("crossed book", self._crossed), ("locked book", self._locked)):
            if counter.count:
                share = counter.count / self._states
                detail = f"after {counter.count:,} of {self._states:,} updates ({share:.2%})"
                yield Finding(defect, counter.count, counter.first, detail)


class Quotes(Touch):
    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        bid, ask = to_float(flat(table["bid_price"])), to_float(flat(table["ask_price"]))
        self.judge(np.where(bid < ask, 0, np.where(bid == ask, 1, 2)), ts)


class Book(Touch):
    """The book replayed; ``middles`` are samples of its middle price, times and values."""

    def __init__(self, price_precision: int, size_precision: int) -> None:
        super().__init__()
        self._scale = 10.0**price_precision, 10.0**size_precision
        self._book = LevelBook()
        self.middles: list[tuple[int, float]] = []

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        action = codes(flat(table["action"]), {"ADD": 1, "UPDATE": 1, "DELETE": 2})
        side = np.where(action == 0, 0, codes(flat(table["side"]), {"BUY": 1, "SELL": -1}))
        price = np.rint(to_float(flat(table["price"])) * self._scale[0]).astype(np.int64)
        size = np.rint(to_float(flat(table["size"])) * self._scale[1]).astype(np.int64)
        size[action != 1] = 0
        last = (flat(table["flags"]).to_numpy() & F_LAST) != 0
        self._book.reserve(len(ts))
        book, states = self._book, []
        for lo in range(0, len(ts), _BETWEEN):
            part = slice(lo, lo + _BETWEEN)
            states.append(
                replay(book.prices, book.sizes, book.count, side[part], price[part], size[part], last[part])
            )
            best = book.best()
            if best is not None:
                self.middles.append((int(ts[part][-1]), 0.5 * (best[0] + best[2]) / self._scale[0]))
        self.judge(np.concatenate(states), ts)


class LostBook(Check):
    """Clearings of the book that nothing follows at their moment: until the next delta there is no book."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int]] = []  # (length, start)
        self._since: int | None = None

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        action, last = codes(flat(table["action"]), {"CLEAR": 1}), flat(table["flags"]).to_numpy() & F_LAST
        self._end(int(ts[0]))
        for row in np.flatnonzero((action == 1) & (last != 0)).tolist():
            self._end(int(ts[row]))
            self._since = int(ts[row])
            if row + 1 < len(ts):
                self._end(int(ts[row + 1]))

    def _end(self, ts: int) -> None:
        if self._since is not None and ts > self._since:
            self._stretches.append((ts - self._since, self._since))
        self._since = None

    def findings(self, rows: int) -> Iterator[Finding]:
        found, said = [start for _, start in self._stretches], []
        if found:
            length, start = max(self._stretches)
            total = length_text(sum(length for length, _ in self._stretches))
            said = [
                f"{len(found):,} time{'s' if len(found) > 1 else ''} without a book, for {total} in all, the "
                f"longest {length_text(length)} from {time_text(start)} on"
            ]
        if self._since is not None:
            found.append(self._since)
            said.append(f"from {time_text(self._since)} on to the end of the recording there is none")
        if found:
            yield Finding("lost book", len(found), found[0], "; ".join(said))
