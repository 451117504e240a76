"""Numpy arrays into the Parquet catalog of Nautilus: written whole or not at all, and never twice."""

import os
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from nautilus_trader.model import BarType
from nautilus_trader.persistence import ParquetDataCatalog

from catalogs.consolidation import ROW_GROUP, consolidate, parquet_options, remove_nested, whole_file
from catalogs.instruments import Instrument
from catalogs.layout import (
    ACTIONS,
    PRECISIONS,
    SCHEMAS,
    SIDES,
    TYPE_NAMES,
    DataType,
    file_name,
    file_range,
    files,
    folder,
    identifiers,
    to_decimal,
)

_INSTRUMENT_FOLDERS = ("crypto_perpetual", "currency_pair")
_LOCK = ".lock"
_ASIDE = ".aside.partial"  # what a whole writer has not put in place yet


class CatalogWriter:
    """Writes market data into the catalog at ``path`` (made if absent).

    Every method takes arrays of one length: ``ts_event`` and ``ts_init`` int64 nanoseconds with ``ts_init``
    ascending, prices and sizes as floats, rounded to the instrument's precision. A call writes one file
    named by its first and last ``ts_init``; rows whose ``ts_init`` lies in a stretch that a file already
    covers are left out, so a repeated import adds nothing. Cut chunks between different ``ts_init``. Each
    method returns the number of rows added and raises ValueError for arrays it cannot write truthfully. When
    all is written, ``close`` joins neighbouring files; leaving a ``with`` block does so too, but after an
    error only lets the catalog go.

    A ``whole`` writer keeps everything aside until ``close``: leaving a ``with`` block after an error, or a
    process that is killed, adds nothing to the catalog.

    One writer has a catalog at a time, until it is closed or its process ends. Raises ValueError where
    another has it, NotADirectoryError where ``path`` is a file.
    """

    def __init__(self, path: Path, whole: bool = False) -> None:
        self.path = Path(path)
        self._target = self.path / _ASIDE if whole else self.path  # where files are written
        if self.path.is_file():
            raise NotADirectoryError(f"{self.path}: is a file; --out names the folder of a catalog")
        self.path.mkdir(parents=True, exist_ok=True)
        self._folders: set[Path] = set()
        self._lock = FileLock(self.path / _LOCK, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"{self.path}: another process is writing this catalog; wait for it, or end it"
            ) from None
        self._remove_remains()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            try:
                if self._target != self.path:
                    shutil.rmtree(self._target, ignore_errors=True)
            finally:
                self._lock.release()

    def _remove_remains(self) -> None:
        """What a process that was killed has left: all that it kept aside, and files half written."""
        if (self.path / _ASIDE).exists():
            shutil.rmtree(self.path / _ASIDE)
        for name in ("data", "series"):
            for partial in (self.path / name).rglob("*.partial"):
                partial.unlink()
        for data_type in SCHEMAS:
            for identifier in identifiers(self.path, data_type):
                remove_nested(folder(self.path, data_type, identifier))

    def close(self) -> None:
        """Put in place what was kept aside, join neighbouring files of what was written, and let go."""
        try:
            if self._target != self.path and self._target.exists():
                for source in sorted(self._target.rglob("*.parquet")):
                    target = self.path / source.relative_to(self._target)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(source, target)
                shutil.rmtree(self._target)
            for each in sorted(self._folders):
                consolidate(each)
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Remove everything in the catalog's folder, as a run that was interrupted may have left it."""
        for each in self.path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != _LOCK:
                each.unlink()

    def instrument(self, instrument: Instrument) -> None:
        """Keep the definition; it replaces one of this id with the same ``ts_init``, since when it holds."""
        identifier = str(instrument.id)
        draft = self.path / ".instrument.partial"
        if draft.exists():  # left by a process that was killed
            shutil.rmtree(draft)
        draft.mkdir()
        try:
            ParquetDataCatalog(str(draft)).write_instruments([instrument])
            source = next(draft.rglob("*.parquet"))
            target = self.path / source.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        finally:
            shutil.rmtree(draft)
        for name in _INSTRUMENT_FOLDERS:
            old = self.path / "data" / name / identifier.replace("/", "") / target.name
            if old != target:
                old.unlink(missing_ok=True)

    def trades(
        self,
        instrument: Instrument,
        ts_event: np.ndarray,
        ts_init: np.ndarray,
        price: np.ndarray,
        size: np.ndarray,
        side: np.ndarray,
        trade_id: np.ndarray | None = None,
    ) -> int:
        """Trades; ``side`` is +1 where the aggressor bought, -1 where it sold, 0 where unknown.

        ``trade_id`` holds integers or strings; without it a trade is named by its ``ts_init`` and row.
        """
        names = np.arange(len(ts_init)) if trade_id is None else trade_id
        ids = pa.array(names).cast(pa.string())
        if trade_id is None:
            ids = pc.binary_join_element_wise(pa.array(ts_init).cast(pa.string()), ids, "-")
        price_places, size_places = instrument.price_precision, instrument.size_precision
        columns = {
            "price": to_decimal(price, price_places, "trade price"),
            "size": to_decimal(_positive(size, size_places, "trade size"), size_places, "trade size"),
            "aggressor_side": _named(side, SIDES["trades"]),
            "trade_id": ids,
        }
        return self._market("trades", instrument, columns, ts_event, ts_init)

    def quotes(
        self,
        instrument: Instrument,
        ts_event: np.ndarray,
        ts_init: np.ndarray,
        bid_price: np.ndarray,
        ask_price: np.ndarray,
        bid_size: np.ndarray,
        ask_size: np.ndarray,
    ) -> int:
        """Best bid and ask."""
        price_places, size_places = instrument.price_precision, instrument.size_precision
        columns = {
            "bid_price": to_decimal(bid_price, price_places, "bid price"),
            "ask_price": to_decimal(ask_price, price_places, "ask price"),
            "bid_size": to_decimal(bid_size, size_places, "bid size"),
            "ask_size": to_decimal(ask_size, size_places, "ask size"),
        }
        return self._market("quotes", instrument, columns, ts_event, ts_init)

    def deltas(
        self,
        instrument: Instrument,
        ts_event: np.ndarray,
        ts_init: np.ndarray,
        action: np.ndarray,
        side: np.ndarray,
        price: np.ndarray,
        size: np.ndarray,
        flags: np.ndarray,
        sequence: np.ndarray,
    ) -> int:
        """Order book deltas, one row a level.

        ``action`` holds values of Nautilus ``BookAction`` (1 add, 2 update, 3 delete, 4 clear), ``side`` +1
        for bids, -1 for asks, 0 for a clear; ``flags`` those of Nautilus (``F_LAST`` = 128 on the last row
        of a batch).
        """
        columns = {
            "action": _named(np.asarray(action, dtype=np.int8) - 2, ACTIONS),
            "side": _named(side, SIDES["deltas"]),
            "price": to_decimal(price, instrument.price_precision, "delta price"),
            "size": to_decimal(size, instrument.size_precision, "delta size"),
            "order_id": np.zeros(len(ts_init), dtype=np.uint64),
            "flags": np.asarray(flags, dtype=np.uint8),
            "sequence": np.asarray(sequence, dtype=np.uint64),
        }
        return self._market("deltas", instrument, columns, ts_event, ts_init)

    def bars(
        self,
        instrument: Instrument,
        bar_type: BarType | str,
        ts_event: np.ndarray,
        ts_init: np.ndarray,
        open: np.ndarray,
        high: np.ndarray,
        low: np.ndarray,
        close: np.ndarray,
        volume: np.ndarray,
    ) -> int:
        """Bars, stamped at their close.

        Raises where high and low do not contain open and close, as Nautilus does.
        """
        bad = (high < np.maximum(open, close)) | (low > np.minimum(open, close))
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"bars {bar_type}: row {row} has open {open[row]}, high {high[row]}, low {low[row]}, "
                f"close {close[row]}; widen high and low to contain open and close first"
            )
        columns = {
            name: to_decimal(values, instrument.price_precision, f"bar {name}")
            for name, values in (("open", open), ("high", high), ("low", low), ("close", close))
        }
        columns["volume"] = to_decimal(volume, instrument.size_precision, "bar volume")
        metadata = _precisions("bars", instrument) | {"bar_type": str(bar_type)}
        return self._write("bars", str(bar_type), metadata, columns, ts_event, ts_init)

    def mark_prices(
        self, instrument: Instrument, ts_event: np.ndarray, ts_init: np.ndarray, value: np.ndarray
    ) -> int:
        """Mark prices, rounded to the instrument's price precision."""
        columns = {"value": to_decimal(value, instrument.price_precision, "mark price")}
        return self._market("mark", instrument, columns, ts_event, ts_init)

    def index_prices(
        self, instrument: Instrument, ts_event: np.ndarray, ts_init: np.ndarray, value: np.ndarray
    ) -> int:
        """Index prices, rounded to the instrument's price precision."""
        columns = {"value": to_decimal(value, instrument.price_precision, "index price")}
        return self._market("index", instrument, columns, ts_event, ts_init)

    def funding_rates(
        self,
        instrument: Instrument,
        ts_event: np.ndarray,
        ts_init: np.ndarray,
        rate: np.ndarray,
        next_funding_ns: np.ndarray,
        interval: int | None,
    ) -> int:
        """Funding rates (fraction a settlement), time of the next settlement (0 where unknown), interval
        between them in ns.
        """
        _finite(rate, "funding rate")
        minutes = None if interval is None else interval // 60_000_000_000
        settlement = np.asarray(next_funding_ns, dtype=np.int64)
        columns = {
            "rate": pa.array([f"{Decimal(repr(float(value))):f}" for value in rate], pa.string()),
            "interval": pa.array([minutes] * len(rate), pa.uint64()),
            "next_funding_ns": pa.array(settlement, pa.timestamp("ns", tz="UTC"), mask=settlement == 0),
        }
        return self._market("funding", instrument, columns, ts_event, ts_init)

    def series(
        self, name: str, stream_id: str, ts_event: np.ndarray, ts_init: np.ndarray, value: np.ndarray
    ) -> int:
        """A slow series that Nautilus has no type for (open interest, liquidations, sentiment …).

        ``ts_init`` is the time of publication. Lies in ``<catalog>/series/<name>/<stream_id>/``.
        """
        _finite(value, f"series {name}")
        identifier = f"{name}/{stream_id.replace('/', '')}"
        columns = {"value": np.asarray(value, dtype=np.float64)}
        metadata = {"type_name": TYPE_NAMES["series"], "name": name, "instrument_id": stream_id}
        return self._write("series", identifier, metadata, columns, ts_event, ts_init)

    def _market(
        self,
        data_type: DataType,
        instrument: Instrument,
        columns: dict[str, pa.Array | np.ndarray],
        ts_event: np.ndarray,
        ts_init: np.ndarray,
    ) -> int:
        metadata = _precisions(data_type, instrument)
        return self._write(data_type, str(instrument.id), metadata, columns, ts_event, ts_init)

    def _write(
        self,
        data_type: DataType,
        identifier: str,
        metadata: dict[str, str],
        columns: dict[str, pa.Array | np.ndarray],
        ts_event: np.ndarray,
        ts_init: np.ndarray,
    ) -> int:
        where = f"{data_type} {identifier}"
        ts_event, ts_init = np.asarray(ts_event, dtype=np.int64), np.asarray(ts_init, dtype=np.int64)
        if len(ts_init) == 0:
            return 0
        back = np.flatnonzero(ts_init[1:] < ts_init[:-1])
        if len(back):
            raise ValueError(
                f"{where}: ts_init goes back at row {back[0] + 1}, from {ts_init[back[0]]}; sort it first"
            )
        schema = SCHEMAS[data_type].with_metadata(metadata)
        columns = {**columns, "ts_event": ts_event, "ts_init": ts_init}
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column).cast(kind)
            for column, kind in (
                (columns[name], kind) for name, kind in zip(schema.names, schema.types, strict=True)
            )
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        self._folders.add(folder(self.path, data_type, identifier))
        places = {self.path, self._target}
        covered = [file_range(path) for place in places for path in files(place, data_type, identifier)]
        return sum(
            self._write_file(
                data_type, identifier, table.slice(lo, hi - lo), int(ts_init[lo]), int(ts_init[hi - 1])
            )
            for lo, hi in _uncovered(ts_init, covered)
        )

    def _write_file(self, data_type: DataType, identifier: str, table: pa.Table, start: int, end: int) -> int:
        target = folder(self._target, data_type, identifier) / file_name(start, end)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as partial:
            pq.write_table(table, partial, row_group_size=ROW_GROUP, **parquet_options(table.schema))
        return len(table)


def _uncovered(ts_init: np.ndarray, covered: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Row ranges outside every covered stretch, cut so that none spans one."""
    ranges, at = [], 0
    for start, end in sorted(covered):
        lo, hi = np.searchsorted(ts_init, start, "left"), np.searchsorted(ts_init, end, "right")
        if lo > at:
            ranges.append((at, int(lo)))
        at = max(at, int(hi))
    return [*ranges, (at, len(ts_init))] if at < len(ts_init) else ranges


def _precisions(data_type: DataType, instrument: Instrument) -> dict[str, str]:
    metadata = {"instrument_id": str(instrument.id), "type_name": TYPE_NAMES[data_type]}
    for name in PRECISIONS.get(data_type, ()):
        metadata[name] = str(getattr(instrument, name))
    return metadata


def _named(codes: np.ndarray, names: tuple[str, ...]) -> pa.DictionaryArray:
    """Codes -1, 0, 1 … as the names they stand for."""
    indices = np.asarray(codes, dtype=np.int8) + np.int8(1)
    if len(indices) and (indices.min() < 0 or indices.max() >= len(names)):
        raise ValueError(f"a code lies outside {-1}..{len(names) - 2} ({', '.join(names)})")
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), pa.array(names))


def _positive(size: np.ndarray, precision: int, what: str) -> np.ndarray:
    small = ~(np.asarray(size) >= 0.5 * 10.0**-precision)
    if small.any():
        row = int(np.argmax(small))
        raise ValueError(
            f"{what}: row {row} is {size[row]}, which rounds to nothing at {precision} places; drop it"
        )
    return size


def _finite(values: np.ndarray, what: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{what}: row {int(np.argmax(bad))} is {values[int(np.argmax(bad))]}; drop such rows first"
        )
