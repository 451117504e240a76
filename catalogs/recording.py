"""Recording a live session: what was received, as it was received, in a catalog that a backtest can play."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from nautilus_trader.model import (
    AggressorSide,
    Bar,
    FundingRateUpdate,
    IndexPriceUpdate,
    MarkPriceUpdate,
    OrderBookDeltas,
    OrderSide,
    QuoteTick,
    TradeTick,
)

from catalogs.instruments import Instrument
from catalogs.writer import CatalogWriter

_Row = tuple[Any, ...]
_SLACK = 5_000_000_000  # ns a flush holds back, so that a late arrival still finds its place in the file
_TRADE_SIGN = {AggressorSide.BUY: 1, AggressorSide.SELL: -1}
_BOOK_SIGN = {OrderSide.BUY: 1, OrderSide.SELL: -1}


class CatalogRecorder:
    """Takes Nautilus data objects in the order they arrive and writes them into the catalog at ``path``.

    Calling it with a data object reads the object's fields and no more; ``flush`` hands what is old enough
    to a thread that writes a file a feed, so that the session's event loop never waits for a disk. Times,
    prices, sizes, flags and sequences are kept as received, with one exception: a time of the next funding
    that was already past when it arrived is written as unknown, because Nautilus refuses to play it.

    Parameters
    ----------
    path : Path
        The catalog, made if absent.
    instruments : sequence of Instrument
        Everything that will be received; the definitions are written at once.

    Attributes
    ----------
    received : int
        Data objects taken.

    A row that comes more than 5 s late finds its stretch written: it is counted, and said by ``close``.
    """

    def __init__(self, path: Path, instruments: Sequence[Instrument]) -> None:
        self.received = 0
        self._writer = CatalogWriter(path)
        self._instruments = {instrument.id: instrument for instrument in instruments}
        for instrument in instruments:
            self._writer.instrument(instrument)
        self._rows: dict[tuple[str, Any], list[_Row]] = defaultdict(list)
        self._thread = ThreadPoolExecutor(1, "recorder")
        self._jobs: list[Future[None]] = []
        self._late: Counter[str] = Counter()  # rows by feed

    def __call__(self, data: Any) -> None:
        """Keep ``data``. Raises KeyError for a type that is not recorded."""
        self.received += 1
        name, fields = _FIELDS[type(data)]
        key = data.bar_type if name == "bars" else data.instrument_id
        rows = self._rows[name, key]
        if name == "deltas":
            rows.extend(fields(delta) for delta in data.deltas)
        else:
            rows.append(fields(data))

    def flush(self, now: int) -> None:
        """Write what is well before ``now`` (ns). Raises OSError or ValueError if an earlier write failed."""
        self._hand_over(now - _SLACK)

    def close(self) -> None:
        """Write the rest and wait for it.

        Raises OSError or ValueError if a write failed; ValueError, too, where the recording is incomplete
        because rows came too late.
        """
        with self._writer:
            self._hand_over(None)
            self._thread.shutdown()
            for job in self._jobs:
                job.result()
        if self._late:
            feeds = ", ".join(f"{count:,} rows of {feed}" for feed, count in sorted(self._late.items()))
            raise ValueError(
                f"{self._writer.path}: {feeds} came more than {_SLACK // 10**9} s late and are left out; a "
                "backtest of the recording may differ from the session"
            )

    def _hand_over(self, before: int | None) -> None:
        for job in [job for job in self._jobs if job.done()]:
            self._jobs.remove(job)
            job.result()
        parts: list[tuple[str, Any, list[_Row]]] = []
        for (name, key), rows in self._rows.items():
            rows.sort(key=_ts_init)  # stable, and nothing to do where they came in order
            cut = (
                len(rows)
                if before is None
                else next((i for i, r in enumerate(rows) if r[1] >= before), len(rows))
            )
            parts.append((name, key, rows[:cut]))
            del rows[:cut]
        self._jobs.append(self._thread.submit(self._write, parts))

    def _write(self, parts: list[tuple[str, Any, list[_Row]]]) -> None:
        for name, key, rows in parts:
            if not rows:
                continue
            columns = list(zip(*rows, strict=True))
            write = getattr(self._writer, _METHODS[name])
            times = [np.array(column, dtype=np.int64) for column in columns[:2]]
            instrument = self._instruments[key.instrument_id if name == "bars" else key]
            head = (instrument, str(key)) if name == "bars" else (instrument,)
            values = [np.array(column) for column in columns[2:]]
            if name == "funding":
                added = self._write_funding(instrument, times, values, columns[4])
            else:
                added = write(*head, *times, *values)
            if added < len(rows):
                self._late[f"{name} {key}"] += len(rows) - added

    def _write_funding(
        self,
        instrument: Instrument,
        times: list[np.ndarray],
        values: list[np.ndarray],
        intervals: tuple[Any, ...],
    ) -> int:
        """Funding, whose interval is one a file: a venue that changes it begins a new one."""
        cuts = [0, *(i for i in range(1, len(intervals)) if intervals[i] != intervals[i - 1]), len(intervals)]
        added = 0
        for lo, hi in itertools.pairwise(cuts):
            part = slice(lo, hi)
            added += self._writer.funding_rates(
                instrument, times[0][part], times[1][part], values[0][part], values[1][part], intervals[lo]
            )
        return added


def _ts_init(row: _Row) -> int:
    return row[1]  # type: ignore[no-any-return]


def _trade(t: Any) -> _Row:
    side = _TRADE_SIGN.get(t.aggressor_side, 0)
    return t.ts_event, t.ts_init, t.price.as_double(), t.size.as_double(), side, str(t.trade_id)


def _quote(q: Any) -> _Row:
    prices = q.bid_price.as_double(), q.ask_price.as_double()
    return q.ts_event, q.ts_init, *prices, q.bid_size.as_double(), q.ask_size.as_double()


def _delta(d: Any) -> _Row:
    order = d.order
    place = (0, 0.0, 0.0)
    if not d.is_clear:
        place = (_BOOK_SIGN.get(order.side, 0), order.price.as_double(), order.size.as_double())
    return d.ts_event, d.ts_init, d.action.value, *place, d.flags, d.sequence


def _value(v: Any) -> _Row:
    return v.ts_event, v.ts_init, v.value.as_double()


def _funding(f: Any) -> _Row:
    interval = None if f.interval is None else f.interval * 60_000_000_000
    settlement = f.next_funding_ns or 0
    return f.ts_event, f.ts_init, float(f.rate), settlement if settlement > f.ts_init else 0, interval


def _bar(b: Any) -> _Row:
    values = (value.as_double() for value in (b.open, b.high, b.low, b.close, b.volume))
    return b.ts_event, b.ts_init, *values


_FIELDS: Mapping[type, tuple[str, Callable[[Any], _Row]]] = {
    TradeTick: ("trades", _trade),
    QuoteTick: ("quotes", _quote),
    OrderBookDeltas: ("deltas", _delta),
    MarkPriceUpdate: ("mark", _value),
    IndexPriceUpdate: ("index", _value),
    FundingRateUpdate: ("funding", _funding),
    Bar: ("bars", _bar),
}
_METHODS = {
    "trades": "trades",
    "quotes": "quotes",
    "deltas": "deltas",
    "mark": "mark_prices",
    "index": "index_prices",
    "funding": "funding_rates",
    "bars": "bars",
}
