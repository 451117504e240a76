"""Prices that cannot be: off their neighbours, at another level, standing still, unlike other feeds."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from scipy.ndimage import median_filter

from catalogs.checks.detectors import Check, Counter
from catalogs.checks.findings import Finding, length_text, time_text
from catalogs.layout import DataType, flat, to_float

_SAMPLES = 2_048  # kept of a batch of ticks; of slower feeds all rows are
_NEAR, _NEAREST = (
    60 * 10**9,
    300 * 10**9,
)  # ns: prices further apart are not compared; nor where feeds are slow
_AROUND = 20  # rows on either side that say what the level is
_PRICES: dict[DataType, tuple[str, ...]] = {
    "trades": ("price",),
    "quotes": ("bid_price", "ask_price"),
    "bars": ("open", "high", "low", "close"),
}
_FACTOR = np.log(1.5)  # from which on a move is looked at


def price_of(table: pa.Table, data_type: DataType) -> np.ndarray:
    """One price a row: of a trade, the middle of a quote, the close of a bar, a value."""
    if data_type == "quotes":
        return 0.5 * (to_float(flat(table["bid_price"])) + to_float(flat(table["ask_price"])))
    column = {"trades": "price", "bars": "close"}.get(data_type, "value")
    return to_float(flat(table[column]))


class OffMarket(Check):
    """Rows off the median of the 51 around them by over ``least`` and 20 times the usual distance from it."""

    def __init__(self, data_type: DataType, least: float) -> None:
        self._data_type = data_type
        self._least = least
        self._off = Counter()
        self._furthest = 0.0

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        if len(ts) < 10:
            return
        middle = median_filter(price_of(table, self._data_type), size=51, mode="nearest")
        middle, distance = np.maximum(middle, 1e-300), np.zeros(len(ts))
        for name in _PRICES.get(self._data_type, ("value",)):
            ratio = np.maximum(to_float(flat(table[name])), 1e-300) / middle
            distance = np.maximum(distance, np.maximum(ratio, 1 / ratio) - 1)
        off = distance > max(self._least, 20 * float(np.mean(np.minimum(distance, 1.0))))
        self._off.add(off, ts)
        self._furthest = max(self._furthest, float(distance[off].max(initial=0.0)))

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._off.count:
            detail = f"{self._off.count:,} rows are off those around them, by up to {self._furthest:.2%}"
            yield Finding("off-market print", self._off.count, self._off.first, detail)


class Levels(Check):
    """Prices that go on at another level from one row to the next, and those that no market makes."""

    def __init__(self, data_type: DataType) -> None:
        self._data_type = data_type
        self._held = np.empty(0), np.empty(0, dtype=np.int64)
        self._shifts: list[tuple[int, float]] = []  # time, factor
        self._first = 0
        self._typical: list[float] = []

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        price = price_of(table, self._data_type)
        self._first = self._first or int(ts[0])
        good = price > 0
        price = np.concatenate((self._held[0], price[good]))
        ts = np.concatenate((self._held[1], ts[good]))
        moves = np.abs(np.diff(np.log(price)))
        moved = moves[moves > 0]
        if len(moved):
            self._typical.append(float(np.median(moved)))
        self._shift(price, ts, moves, moved)
        self._held = price[-2 * _AROUND :], ts[-2 * _AROUND :]

    def _shift(self, price: np.ndarray, ts: np.ndarray, moves: np.ndarray, moved: np.ndarray) -> None:
        steps = np.diff(ts)
        usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
        # What the market does in this time; a feed that stood still moves by a tick or so.
        expected = max(float(np.median(moved)) if len(moved) else 0.0, 1e-4)
        for i in np.flatnonzero(moves > _FACTOR):
            before, after = price[max(0, i + 1 - _AROUND) : i + 1], price[i + 1 : i + 1 + _AROUND]
            if len(before) < 3 or len(after) < 3:
                continue
            factor = float(np.log(np.median(after) / np.median(before)))
            limit = max(_FACTOR, 20 * expected * np.sqrt(max(steps[i] / usual, 1.0)))
            new = not self._shifts or ts[i + 1] > self._shifts[-1][0]
            if abs(factor) > limit and new:
                self._shifts.append((int(ts[i + 1]), float(price[i + 1] / price[i])))

    def findings(self, rows: int) -> Iterator[Finding]:
        if self._typical and np.median(self._typical) > 0.05 and rows >= 20:
            detail = f"from row to row the price moves by {np.median(self._typical):.0%}: no market does that"
            yield Finding("wild prices", rows, self._first, detail)
        elif self._shifts:
            ts, factor = self._shifts[0]
            shown = factor if factor > 1 else 1 / factor
            more = f" (and {len(self._shifts) - 1:,} more)" if len(self._shifts) > 1 else ""
            way = "up" if factor > 1 else "down"
            detail = (
                f"the price goes {way} by a factor of {shown:,.4g} from one row to the next at "
                f"{time_text(ts)} and stays there{more}"
            )
            yield Finding("level shift", len(self._shifts), ts, detail)


class Frozen(Check):
    """Rows that stand still: for bars 30 in a row without a change and without volume (or the same), for
    other feeds 100 in a row over ten minutes or longer.
    """

    def __init__(self, data_type: DataType, step: int | None = None) -> None:
        self._data_type = data_type
        self._step = step or 0
        self._runs: list[tuple[int, int, int]] = []  # first, last, rows
        self._open = (0, 0, 0)
        self._last: list[float] | None = None
        self._silent = True

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        names = [name for name in table.column_names if pa.types.is_decimal(table.schema.field(name).type)]
        values = np.column_stack([to_float(flat(table[name])) for name in names])
        before = np.vstack((values[:1] if self._last is None else [self._last], values[:-1]))
        still = (values == before).all(axis=1)
        if self._last is None:
            still[0] = False
        if self._data_type == "bars":
            volume = values[:, names.index("volume")]
            prices = values[:, [names.index(name) for name in ("open", "high", "low", "close")]]
            flat_bar = (prices == before[:, [names.index("close")]]).all(axis=1) & (volume == 0)
            still |= flat_bar
        self._last = values[-1].tolist()
        edges = np.flatnonzero(np.diff(np.concatenate(([0], still.astype(np.int8), [0]))))
        for lo, hi in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            first, _, rows = self._open if lo == 0 and self._open[2] else (int(ts[lo]), 0, 0)
            self._open = first, int(ts[hi - 1]), rows + hi - lo
            if hi < len(ts):
                self._close()
        if not (len(still) and still[-1]):
            self._close()

    def _close(self) -> None:
        first, last, rows = self._open
        long = rows >= 30 if self._data_type == "bars" else rows >= 100 and last - first >= 600 * 10**9
        if long:
            self._runs.append(self._open)
        self._open = (0, 0, 0)

    def findings(self, rows: int) -> Iterator[Finding]:
        self._close()
        if self._runs:
            first, last, longest = max(self._runs, key=lambda run: run[2])
            total = sum(run[2] for run in self._runs)
            silent = ", no volume" if self._data_type == "bars" else ""
            detail = (
                f"{total:,} rows in {len(self._runs):,} stretches repeat the one before (frozen{silent}), "
                f"the longest {longest:,} rows ({length_text(last - first + self._step)}) at "
                f"{time_text(first - self._step)}"
            )
            yield Finding("frozen price", total, self._runs[0][0] - self._step, detail)


@dataclasses.dataclass
class Curve:
    """Samples of a feed's price: where and when."""

    identifier: str
    data_type: DataType
    ts: np.ndarray
    price: np.ndarray


class Sampler(Check):
    """Keeps up to 2,048 prices of each batch of ticks, to be compared with those of other feeds."""

    def __init__(self, data_type: DataType) -> None:
        self._data_type = data_type
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        every = -(-len(ts) // _SAMPLES) if self._data_type in ("trades", "quotes") else 1
        self.keep(ts[::every], price_of(table.take(np.arange(0, len(ts), every)), self._data_type))

    def keep(self, ts: np.ndarray, price: np.ndarray) -> None:
        """Add samples."""
        good = price > 0
        self._parts.append((ts[good], price[good]))

    def curve(self, identifier: str) -> Curve:
        """All samples."""
        ts, price = (np.concatenate([part[i] for part in self._parts] or [np.empty(0)]) for i in (0, 1))
        order = np.argsort(ts, kind="stable")
        return Curve(identifier, self._data_type, ts[order].astype(np.int64), price[order])

    def findings(self, rows: int) -> Iterator[Finding]:
        yield from ()


def disagreement(curve: Curve, other: Curve) -> Finding | None:
    """What to say where two feeds of one instrument are over 5 % apart in one of a hundred comparisons."""
    if len(curve.ts) == 0 or len(other.ts) == 0:
        return None
    at = np.searchsorted(other.ts, curve.ts, side="right") - 1
    age = curve.ts - other.ts[np.maximum(at, 0)]
    steps = np.diff(other.ts)
    usual = float(np.median(steps)) if len(steps) else 0.0
    near = (at >= 0) & (age <= max(_NEAR, min(usual, _NEAREST)))
    if not near.any():
        return None
    ratio = curve.price[near] / other.price[at[near]]
    off = np.abs(np.log(ratio)) > 0.05
    if off.sum() < min(3, len(off)) or off.mean() < 0.01:
        return None
    detail = (
        f"{int(off.sum()):,} of {len(off):,} prices compared with the {other.data_type} are over 5 % away; "
        f"the middle one is {np.median(ratio[off]):.4g} times theirs"
    )
    return Finding("prices disagree", int(off.sum()), int(curve.ts[near][np.argmax(off)]), detail)
