"""Reading a catalog as numbers: merged event records for the kernel, plain arrays for research."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from nautilus_trader.persistence import ParquetDataCatalog

from catalogs.datafiles import DataFile, RowGroup
from catalogs.instruments import Instrument
from catalogs.layout import F_LAST, SCHEMAS, DataType, codes, files, flat, identifiers, times, to_float
from core.events import EVENT, LAST, EventKind, sort_events
from core.table import FeatureTable
from features.bars import bar_events

TRADE = np.dtype([("ts_event", "i8"), ("ts_init", "i8"), ("price", "f8"), ("size", "f8"), ("side", "i1")])
FUNDING = np.dtype(
    [("ts_event", "i8"), ("ts_init", "i8"), ("rate", "f8"), ("next_funding_ns", "i8"), ("interval", "i8")]
)
SERIES = np.dtype([("ts_event", "i8"), ("ts_init", "i8"), ("value", "f8")])

_LAST_TIME = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Stream:
    """What a run reads of one instrument."""

    instrument_id: str
    book: Literal["deltas", "quotes", "none"] = "deltas"
    trades: bool = True
    mark: bool = False
    index: bool = False
    funding: bool = False

    def data_types(self) -> list[DataType]:
        """The kinds of data this stream is made of."""
        types: list[DataType] = [] if self.book == "none" else [self.book]
        flags: list[tuple[DataType, bool]] = [
            ("trades", self.trades),
            ("mark", self.mark),
            ("index", self.index),
            ("funding", self.funding),
        ]
        return types + [name for name, wanted in flags if wanted]


@dataclasses.dataclass(frozen=True)
class SeriesRef:
    """One slow series of a catalog: ``<catalog>/series/<name>/<id>``."""

    name: str
    id: str

    @property
    def identifier(self) -> str:
        """Its identifier for ``Catalog.coverage``."""
        return f"{self.name}/{self.id}"


History = dict[str, list[Instrument]]
"""The definitions of each instrument by id, in order of ``ts_init``, since when each holds."""


def read_definitions(catalog: Path) -> History:
    """All definitions in a catalog, by id. Raises ValueError where they are damaged."""
    found: History = {}
    if not (catalog / "data").is_dir():
        return found
    try:
        for item in ParquetDataCatalog(str(catalog)).instruments():
            found.setdefault(str(item.id), []).append(item)
    except BaseException as error:  # Nautilus panics on files that are damaged
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise ValueError(
            f"{catalog}: the definitions of instruments are damaged ({str(error)[:200]}); remove them from "
            "data/crypto_perpetual and data/currency_pair and import again, which writes them anew"
        ) from None
    return {name: sorted(found[name], key=lambda item: item.ts_init) for name in sorted(found)}


class Catalog:
    """A catalog at ``path``. Raises FileNotFoundError where there is none; every method ValueError where
    what it reads is damaged.

    ``until`` hides every row whose ``ts_init`` is not before it (ns), as if the catalog had
    been written then.
    """

    def __init__(self, path: Path, until: int | None = None) -> None:
        self.path = Path(path)
        self._until = _LAST_TIME if until is None else until
        if not (self.path / "data").is_dir() and not (self.path / "series").is_dir():
            raise FileNotFoundError(
                f"{self.path}: no catalog here; make one with `beaufort data import` or `beaufort data synth`"
            )

    def instruments(self) -> list[Instrument]:
        """Every instrument defined, by id, each by its newest definition."""
        return [found[-1] for found in read_definitions(self.path).values()]

    def instrument(self, identifier: str) -> Instrument:
        """The newest definition of this id. Raises KeyError naming those that are there."""
        return self.definitions(identifier)[-1]

    def definitions(self, identifier: str, start: int = 0, end: int = _LAST_TIME) -> list[Instrument]:
        """The definitions of this id in force in ``start <= ts < end``, in order of time.

        One is in force from its ``ts_init`` until that of the next; the first also before. Raises KeyError
        naming the ids that are there.
        """
        known = read_definitions(self.path)
        if identifier not in known:
            raise KeyError(f"{self.path}: no instrument {identifier}; it has {', '.join(known) or 'none'}")
        every = known[identifier]
        first = max((i for i, item in enumerate(every) if item.ts_init <= start), default=0)
        return [item for i, item in enumerate(every) if i == first or (i > first and item.ts_init < end)]

    def identifiers(self, data_type: DataType) -> list[str]:
        """Instrument ids (bar types, ``name/id`` of series) that have data of this type."""
        return identifiers(self.path, data_type)

    def coverage(self, identifier: str, data_type: DataType) -> tuple[int, int, int]:
        """First and last ``ts_init`` and number of rows, from metadata alone.

        With ``until`` the rows may be up to a row group too many.
        Raises KeyError where nothing is.
        """
        groups = self._groups(identifier, data_type, 0, _LAST_TIME)
        if not groups:
            return self._until, self._until, 0
        return groups[0].first, min(groups[-1].last, self._until - 1), sum(group.rows for group in groups)

    def events(
        self,
        streams: Sequence[Stream],
        start: int,
        end: int,
        chunk: int = 600_000_000_000,
        series: Sequence[SeriesRef] = (),
    ) -> Iterator[np.ndarray]:
        """The events with ``start <= ts < end`` in canonical order, one array a ``chunk`` of ns.

        ``EVENT.stream`` is the index into ``streams`` (into ``series`` for the events of series). Memory
        holds one chunk and one row group of each feed. A chunk without events is an empty array, so array
        ``i`` always covers ``[start + i * chunk, start + (i + 1) * chunk)``. Raises KeyError where a stream
        asks for data that the catalog lacks.
        """
        feeds = [
            _Cursor(self._decoded(identifier, data_type, index, start, end))
            for identifier, data_type, index in _feeds(streams, series)
        ]
        for at in range(start, end, chunk):
            parts = [feed.before(min(at + chunk, end)) for feed in feeds]
            parts = [part for part in parts if len(part)]
            yield sort_events(np.concatenate(parts)) if parts else np.empty(0, dtype=EVENT)

    def digests(self, data_type: DataType, identifier: str, start: int, ends: Sequence[int]) -> list[str]:
        """For each of ``ends`` (ns, ascending) the sha256 of a feed's times and values from ``start`` until
        then.

        It is that of what ``events`` and ``bars`` give of it, so it does not depend on how the rows lie in
        files. Raises KeyError where the catalog has nothing of the feed.
        """
        if data_type == "bars":
            table = self.bars(identifier, start + 1, ends[-1] + 1)
            feed = _Cursor(iter([bar_events(table.ts, table.values, 0)]))
        else:
            feed = _Cursor(self._decoded(identifier, data_type, 0, start, ends[-1]))
        digest, found = hashlib.sha256(), []
        for end in ends:
            digest.update(feed.before(end))
            found.append(digest.hexdigest())
        return found

    def verify(self, data_type: DataType, identifier: str, start: int, end: int) -> None:
        """Read what ``digests`` does not of a feed with ``start <= ts_init < end``, for others who will.

        Raises ValueError where a file is damaged, KeyError where there is nothing of the feed.
        """
        rest = [name for name in SCHEMAS[data_type].names if name not in _DECODERS.get(data_type, ((),))[0]]
        for _ in self.batches(identifier, data_type, start, end, rest):
            pass

    def last_snapshot(self, identifier: str, before: int) -> int:
        """``ts_init`` of the last clearing of the book up to ``before``; of the first delta without one.

        From there on the deltas tell the whole book.
        """
        before = min(before, self._until - 1)
        groups = self._groups(identifier, "deltas", 0, before + 1)
        for group in reversed(groups):
            table = DataFile(group.path, "deltas").read(group, ["action", "ts_init"])
            ts = times(table["ts_init"])
            clears = ts[(codes(flat(table["action"]), {"CLEAR": 1}) == 1) & (ts <= before)]
            if len(clears):
                return int(clears[-1])
        return groups[0].first if groups else before

    def bars(self, bar_type: str, start: int = 0, end: int = _LAST_TIME) -> FeatureTable:
        """Bars with ``start <= ts < end`` (``ts`` is ``ts_init``): open, high, low, close, volume."""
        names = ("open", "high", "low", "close", "volume")
        table = self._table(bar_type, "bars", start, end, names)
        values = [to_float(flat(table[name])) for name in names]
        return FeatureTable(times(table["ts_init"]), names, np.ascontiguousarray(np.column_stack(values)))

    def trades(self, identifier: str, start: int = 0, end: int = _LAST_TIME) -> np.ndarray:
        """Trades as an array of ``TRADE``; ``side`` +1 aggressor bought, -1 sold, 0 unknown."""
        table = self._table(identifier, "trades", start, end, ("price", "size", "aggressor_side"))
        side = codes(flat(table["aggressor_side"]), {"BUY": 1, "SELL": -1})
        return _record(
            TRADE,
            table,
            price=to_float(flat(table["price"])),
            size=to_float(flat(table["size"])),
            side=side,
        )

    def funding(self, identifier: str, start: int = 0, end: int = _LAST_TIME) -> np.ndarray:
        """Funding rates as an array of ``FUNDING``; times and intervals in ns, 0 where unknown."""
        table = self._table(identifier, "funding", start, end, ("rate", "next_funding_ns", "interval"))
        return _record(
            FUNDING,
            table,
            rate=flat(table["rate"]).cast(pa.float64()).to_numpy(),
            next_funding_ns=times(table["next_funding_ns"]),
            interval=flat(table["interval"]).fill_null(0).to_numpy().astype(np.int64) * 60_000_000_000,
        )

    def series(self, name: str, identifier: str, start: int = 0, end: int = _LAST_TIME) -> np.ndarray:
        """A slow series as an array of ``SERIES``."""
        table = self._table(f"{name}/{identifier}", "series", start, end, ("value",))
        return _record(SERIES, table, value=flat(table["value"]).to_numpy())

    def prices(
        self, identifier: str, data_type: Literal["mark", "index"], start: int = 0, end: int = _LAST_TIME
    ) -> np.ndarray:
        """Mark or index prices as an array of ``SERIES``."""
        table = self._table(identifier, data_type, start, end, ("value",))
        return _record(SERIES, table, value=to_float(flat(table["value"])))

    def batches(
        self,
        identifier: str,
        data_type: DataType,
        start: int = 0,
        end: int = _LAST_TIME,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """The raw Arrow tables, one a row group that overlaps ``[start, end)``, in time order."""
        file: DataFile | None = None
        for group in self._groups(identifier, data_type, start, end):
            if file is None or file.path != group.path:
                file = DataFile(group.path, data_type)
            table = file.read(group, columns)
            if group.last >= self._until:
                known = file.read(group, ["ts_init"])["ts_init"]
                table = table.slice(0, int(np.searchsorted(times(known), self._until)))
            yield table

    def _table(
        self, identifier: str, data_type: DataType, start: int, end: int, columns: Sequence[str]
    ) -> pa.Table:
        tables = []
        for table in self.batches(identifier, data_type, start, end, [*columns, "ts_event", "ts_init"]):
            lo, hi = np.searchsorted(times(table["ts_init"]), (start, end))
            tables.append(table.slice(lo, hi - lo))
        if not tables:
            raise KeyError(f"{self.path}: {data_type} of {identifier} has nothing in the span asked for")
        return pa.concat_tables(tables).unify_dictionaries()  # so that its columns can be made one piece

    def _decoded(
        self, identifier: str, data_type: DataType, stream: int, start: int, end: int
    ) -> Iterator[np.ndarray]:
        columns, decode = _DECODERS[data_type]
        for table in self.batches(identifier, data_type, start, end, [*columns, "ts_init"]):
            ts = times(table["ts_init"])
            if (ts[1:] < ts[:-1]).any():
                raise ValueError(
                    f"{self.path}: {data_type} of {identifier} go back in ts_init; see `beaufort data check`"
                )
            events = decode(table, ts, stream)
            lo, hi = np.searchsorted(events["ts"], (start, end))
            yield events[lo:hi]

    def _groups(self, identifier: str, data_type: DataType, start: int, end: int) -> list[RowGroup]:
        paths = files(self.path, data_type, identifier)
        if not paths:
            known = ", ".join(self.identifiers(data_type)) or "none"
            raise KeyError(f"{self.path}: no {data_type} of {identifier}; there are {data_type} of: {known}")
        end = min(end, self._until)
        return [
            group
            for path in paths
            for group in DataFile(path, data_type).groups()
            if group.first < end and group.last >= start
        ]


class _Cursor:
    """One feed's events, handed out by time; holds what it has decoded and not yet handed out."""

    def __init__(self, parts: Iterator[np.ndarray]) -> None:
        self._parts = parts
        self._held: list[np.ndarray] = []

    def before(self, end: int) -> np.ndarray:
        """The events with ``ts < end`` that were not handed out before."""
        while not self._held or self._held[-1]["ts"][-1] < end:
            part = next(self._parts, None)
            if part is None:
                break
            if len(part):
                self._held.append(part)
        if not self._held:
            return np.empty(0, dtype=EVENT)
        last = self._held.pop()
        cut = int(np.searchsorted(last["ts"], end))
        ready = [*self._held, last[:cut]]
        self._held = [last[cut:]] if cut < len(last) else []
        return np.concatenate(ready) if len(ready) > 1 else ready[0]


def _feeds(streams: Sequence[Stream], series: Sequence[SeriesRef]) -> list[tuple[str, DataType, int]]:
    feeds: list[tuple[str, DataType, int]] = [
        (stream.instrument_id, data_type, i)
        for i, stream in enumerate(streams)
        for data_type in stream.data_types()
    ]
    return feeds + [(item.identifier, "series", i) for i, item in enumerate(series)]


def _record(dtype: np.dtype, table: pa.Table, **columns: np.ndarray) -> np.ndarray:
    out = np.empty(len(table), dtype=dtype)
    out["ts_event"], out["ts_init"] = times(table["ts_event"]), times(table["ts_init"])
    for name, values in columns.items():
        out[name] = values
    return out


def _events(ts: np.ndarray, stream: int) -> np.ndarray:
    out = np.zeros(len(ts), dtype=EVENT)
    out["ts"], out["stream"] = ts, stream
    return out


def _decode_trades(table: pa.Table, ts: np.ndarray, stream: int) -> np.ndarray:
    out = _events(ts, stream)
    kinds = {"BUY": EventKind.TRADE_BUY - EventKind.TRADE, "SELL": EventKind.TRADE_SELL - EventKind.TRADE}
    out["kind"] = EventKind.TRADE + codes(flat(table["aggressor_side"]), kinds)
    out["price"], out["size"] = to_float(flat(table["price"])), to_float(flat(table["size"]))
    return out


def _decode_deltas(table: pa.Table, ts: np.ndarray, stream: int) -> np.ndarray:
    out = _events(ts, stream)
    action = codes(flat(table["action"]), {"ADD": 1, "UPDATE": 1, "CLEAR": 2})
    side = codes(flat(table["side"]), {"BUY": EventKind.BID, "SELL": EventKind.ASK})
    clear = action == 2
    out["kind"] = np.where(clear, EventKind.CLEAR, side)
    out["flags"] = np.where(flat(table["flags"]).to_numpy() & F_LAST, LAST, 0)
    out["price"] = np.where(clear, 0.0, to_float(flat(table["price"])))
    out["size"] = np.where(action == 1, to_float(flat(table["size"])), 0.0)
    return out


def _decode_quotes(table: pa.Table, ts: np.ndarray, stream: int) -> np.ndarray:
    out = _events(np.repeat(ts, 2), stream)
    out["flags"][1::2] = LAST
    for first, kind, side in ((0, EventKind.QUOTE_BID, "bid"), (1, EventKind.QUOTE_ASK, "ask")):
        out["kind"][first::2] = kind
        out["price"][first::2] = to_float(flat(table[f"{side}_price"]))
        out["size"][first::2] = to_float(flat(table[f"{side}_size"]))
    return out


def _decode_value(kind: EventKind) -> Callable[[pa.Table, np.ndarray, int], np.ndarray]:
    def decode(table: pa.Table, ts: np.ndarray, stream: int) -> np.ndarray:
        out = _events(ts, stream)
        out["kind"] = kind
        column = flat(table["rate" if kind == EventKind.FUNDING else "value"])
        out["price"] = (
            to_float(column) if pa.types.is_decimal(column.type) else column.cast(pa.float64()).to_numpy()
        )
        return out

    return decode


_DECODERS: dict[str, tuple[tuple[str, ...], Callable[[pa.Table, np.ndarray, int], np.ndarray]]] = {
    "trades": (("price", "size", "aggressor_side"), _decode_trades),
    "deltas": (("action", "side", "price", "size", "flags"), _decode_deltas),
    "quotes": (("bid_price", "ask_price", "bid_size", "ask_size"), _decode_quotes),
    "mark": (("value",), _decode_value(EventKind.MARK)),
    "index": (("value",), _decode_value(EventKind.INDEX)),
    "funding": (("rate",), _decode_value(EventKind.FUNDING)),
    "series": (("value",), _decode_value(EventKind.SERIES)),
}
