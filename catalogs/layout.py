"""Where things lie in a catalog and how they are written: folders, file names, Arrow schemas, exact decimals.

The market data follow the Parquet catalog of Nautilus (``data/<type>/<identifier>/<start>_<end>.parquet``,
prices and sizes as ``decimal128(38, 16)``); slow series that Nautilus has no type for lie beside it in
``series/<name>/<identifier>/``. The format changes with Nautilus: a catalog is derived data, keep what it
came from.
"""

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from nautilus_trader.model import BarType
from numba import njit

DataType = Literal["trades", "quotes", "deltas", "bars", "mark", "index", "funding", "series"]
"""Kinds of data in a catalog. Identifiers are instrument ids, for bars bar types, for series ``name/id``."""

_FOLDERS: dict[str, str] = {
    "trades": "data/trades",
    "quotes": "data/quotes",
    "deltas": "data/order_book_deltas",
    "bars": "data/bars",
    "mark": "data/mark_prices",
    "index": "data/index_prices",
    "funding": "data/funding_rates",
    "series": "series",
}

SCALE = 16
"""Decimal places of the fixed-point numbers of Nautilus."""

_LARGEST = 17_014_118_346_046.0  # PRICE_MAX of Nautilus
_DECIMAL = pa.decimal128(38, SCALE)
_NAME = pa.dictionary(pa.int8(), pa.string())
_TIME = pa.timestamp("ns", tz="UTC")


def _schema(*fields: tuple[str, pa.DataType], nullable: tuple[str, ...] = ()) -> pa.Schema:
    times = (("ts_event", _TIME), ("ts_init", _TIME))
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in (*fields, *times)])


SCHEMAS: dict[DataType, pa.Schema] = {
    "trades": _schema(
        ("price", _DECIMAL), ("size", _DECIMAL), ("aggressor_side", _NAME), ("trade_id", pa.string())
    ),
    "quotes": _schema(*((name, _DECIMAL) for name in ("bid_price", "ask_price", "bid_size", "ask_size"))),
    "deltas": _schema(
        ("action", _NAME),
        ("side", _NAME),
        ("price", _DECIMAL),
        ("size", _DECIMAL),
        ("order_id", pa.uint64()),
        ("flags", pa.uint8()),
        ("sequence", pa.uint64()),
        nullable=("price", "size"),
    ),
    "bars": _schema(*((name, _DECIMAL) for name in ("open", "high", "low", "close", "volume"))),
    "mark": _schema(("value", _DECIMAL), nullable=("value",)),
    "index": _schema(("value", _DECIMAL), nullable=("value",)),
    "funding": _schema(
        ("rate", pa.string()),
        ("interval", pa.uint64()),
        ("next_funding_ns", _TIME),
        nullable=("interval", "next_funding_ns"),
    ),
    "series": _schema(("value", pa.float64())),
}
TYPE_NAMES = {
    "trades": "TradeTick",
    "quotes": "QuoteTick",
    "deltas": "OrderBookDelta",
    "bars": "Bar",
    "mark": "MarkPriceUpdate",
    "index": "IndexPriceUpdate",
    "funding": "FundingRateUpdate",
    "series": "Series",
}

_PRICE, _SIZE = "price_precision", "size_precision"
PRECISIONS: dict[DataType, tuple[str, ...]] = {
    **dict.fromkeys(("trades", "quotes", "deltas", "bars"), (_PRICE, _SIZE)),
    **dict.fromkeys(("mark", "index"), (_PRICE,)),
}
"""The decimal places that the metadata of a file tell."""

ACTIONS = ("ADD", "UPDATE", "DELETE", "CLEAR")
"""Names of the order book actions, in the order of their Nautilus codes 1 to 4."""

SIDES = {"trades": ("SELL", "NO_AGGRESSOR", "BUY"), "deltas": ("SELL", "NO_ORDER_SIDE", "BUY")}
"""Names of the sides -1, 0, 1."""

F_SNAPSHOT, F_LAST = 32, 128
"""Flags of Nautilus order book deltas: part of a snapshot; last record of one atomic update."""


def folder(catalog: Path, data_type: DataType, identifier: str) -> Path:
    """Where the files of one kind of data of one instrument (bar type, series) lie."""
    if data_type == "series":
        return catalog / "series" / identifier
    return catalog / _FOLDERS[data_type] / identifier.replace("/", "")


def identifiers(catalog: Path, data_type: DataType) -> list[str]:
    """The identifiers that have data of this type, sorted."""
    root = catalog / _FOLDERS[data_type]
    pattern = "*/*/*.parquet" if data_type == "series" else "*/*.parquet"
    return sorted({path.parent.relative_to(root).as_posix() for path in root.glob(pattern)})


def bar_type_of(identifier: str, period: int) -> str:
    """The external bar type of bars of ``period`` ns. Raises ValueError where Nautilus has none."""
    for unit, length in (("DAY", 86_400), ("HOUR", 3_600), ("MINUTE", 60), ("SECOND", 1)):
        if period > 0 and period % (length * 10**9) == 0:
            name = f"{identifier}-{period // (length * 10**9)}-{unit}-LAST-EXTERNAL"
            with contextlib.suppress(ValueError):
                return str(BarType.from_str(name))
    raise ValueError(
        f"Nautilus has no bars of {period / 1e9:g} s; take a length that divides the next larger unit, such "
        "as 1s, 5m, 15m, 1h, 4h or 1d"
    )


def file_name(start: int, end: int) -> str:
    """The name Nautilus gives to a file whose first and last ``ts_init`` are ``start`` and ``end``."""
    return f"{_stamp(start)}_{_stamp(end)}.parquet"


def _stamp(ns: int) -> str:
    return f"{np.datetime64(ns, 'ns')}Z".replace(":", "-").replace(".", "-")


def file_range(path: Path) -> tuple[int, int]:
    """First and last ``ts_init`` (ns) that the name of a catalog file states."""
    start, _, end = path.stem.partition("_")
    try:
        return _nanoseconds(start), _nanoseconds(end[:30])
    except ValueError:
        raise ValueError(
            f"{path}: the name is not <start>_<end>.parquet; remove the file, it is not of a catalog"
        ) from None


def _nanoseconds(stamp: str) -> int:
    day, _, time = stamp.removesuffix("Z").partition("T")
    hour, minute, second, fraction = time.split("-")
    return int(np.datetime64(f"{day}T{hour}:{minute}:{second}.{fraction}", "ns").astype(np.int64))


def files(catalog: Path, data_type: DataType, identifier: str) -> list[Path]:
    """The data files of one identifier in time order.

    Raises ValueError where one lies inside the time of another, so that its rows are there twice.
    """
    found = sorted(folder(catalog, data_type, identifier).glob("*.parquet"))
    for before, path in pairwise(found):
        (start, end), (first, last) = file_range(before), file_range(path)
        if last <= end or first == start:
            outer, inner = (before, path) if last <= end else (path, before)
            raise ValueError(
                f"{outer}: holds the time of {inner.name} too, as an interrupted import leaves it; "
                "import again, which mends it"
            )
    return found


def largest(precision: int) -> float:
    """The largest number of ``precision`` decimal places that a catalog holds and a float tells apart."""
    return min(2.0**53 / 10.0**precision, _LARGEST)


def to_decimal(values: np.ndarray, precision: int, what: str) -> pa.Array:
    """Floats rounded to ``precision`` decimal places, as exact ``decimal128(38, 16)``.

    Raises ValueError where a value is not finite, larger than Nautilus allows (1.7e13), or of more ticks
    than a float can tell apart (2**53).
    """
    ticks = np.rint(np.asarray(values, dtype=np.float64) * 10.0**precision)
    bad = ~(np.abs(ticks) <= largest(precision) * 10.0**precision)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{what}: row {row} is {np.asarray(values)[row]}; not finite and below 2**53 ticks and 1.7e13"
        )
    raw = _multiply(ticks.astype(np.int64), 10 ** (SCALE - precision))
    return pa.Array.from_buffers(_DECIMAL, len(raw), [None, pa.py_buffer(raw)])


def to_float(array: pa.Array) -> np.ndarray:
    """Decimals as the floats that ``Price.as_double()`` and ``Quantity.as_double()`` give, bit for bit."""
    if array.null_count:
        array = array.fill_null(0)
    raw = np.frombuffer(array.buffers()[1], dtype=np.uint64).reshape(-1, 2)[
        array.offset : array.offset + len(array)
    ]
    return _divide(raw)


def times(column: pa.ChunkedArray) -> np.ndarray:
    """A timestamp column as int64 nanoseconds, 0 where null."""
    values = flat(column).view(pa.int64())
    return (values.fill_null(0) if values.null_count else values).to_numpy()


def flat(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def codes(column: pa.Array, values: dict[str, int]) -> np.ndarray:
    """A column of names as the int16 that ``values`` gives each, 0 where it gives none."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    table = np.array([values.get(name, 0) for name in column.dictionary.to_pylist()] or [0], dtype=np.int16)
    return table[column.indices.to_numpy()]


@njit(cache=True)
def _multiply(ticks: np.ndarray, factor: int) -> np.ndarray:
    """Little-endian 128-bit ``ticks * factor`` as pairs of words, for 0 < factor < 2**63."""
    out = np.empty((len(ticks), 2), dtype=np.uint64)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    f_lo, f_hi = np.uint64(factor) & mask, np.uint64(factor) >> half
    for i in range(len(ticks)):
        magnitude = np.uint64(abs(ticks[i]))
        a_lo, a_hi = magnitude & mask, magnitude >> half
        low = a_lo * f_lo
        middle = a_hi * f_lo + (low >> half)  # cannot overflow: (2**32 - 1)**2 + 2**32 - 1 < 2**64
        cross = a_lo * f_hi + (middle & mask)
        lo = (cross << half) | (low & mask)
        hi = a_hi * f_hi + (middle >> half) + (cross >> half)
        if ticks[i] < 0:  # two's complement
            lo, hi = ~lo + np.uint64(1), ~hi
            if lo == np.uint64(0):
                hi += np.uint64(1)
        out[i, 0], out[i, 1] = lo, hi
    return out


@njit(cache=True)
def _divide(raw: np.ndarray) -> np.ndarray:
    """Each 128-bit integer to the nearest float, then over 10**16: the two roundings Nautilus makes, in
    its order.
    """
    out = np.empty(len(raw), dtype=np.float64)
    one, full = np.uint64(1), np.uint64(64)
    for i in range(len(raw)):
        lo, hi = raw[i, 0], raw[i, 1]
        negative = (hi >> np.uint64(63)) == one
        if negative:
            lo, hi = ~lo + one, ~hi
            if lo == np.uint64(0):
                hi += one
        if hi == np.uint64(0):
            value = np.float64(lo)
        else:
            # The top 64 bits, and in the last of them whether anything was cut, so that the conversion
            # rounds right.
            shift = np.uint64(0)
            while (hi >> shift) != np.uint64(0):
                shift += one
            top = (hi << (full - shift)) | (lo >> shift) if shift < full else hi
            if shift == full:
                top |= np.uint64(lo != np.uint64(0))
            elif (lo << (full - shift)) != np.uint64(0):
                top |= one
            value = np.float64(top) * 2.0 ** np.float64(shift)
        value = value / 1e16
        out[i] = -value if negative else value
    return out
