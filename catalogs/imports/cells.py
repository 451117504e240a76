"""Cells of a column as numbers and times: how they are converted, and what to say of one that cannot be."""

import contextlib
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalogs.imports.base import CsvSettings

Convert = Callable[[pa.ChunkedArray], pa.ChunkedArray]
UNFIT = (pa.ArrowInvalid, pa.ArrowNotImplementedError)  # what a conversion raises for cells or types
FACTORS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
# 2005 to 2100: outside it the unit is wrong, and nothing else would say so.
EARLIEST, LATEST = 1_104_537_600 * 10**9, 4_102_444_800 * 10**9
_DAY = r"^\s*(\d{4})[-/.](\d\d)[-/.](\d\d)"
_REWRITES = (  # of times that are clear though not ISO
    (_DAY + r"[DT_ ]\s*(\d\d?:)", r"\1-\2-\3T\4"),
    (_DAY, r"\1-\2-\3"),
    (r"T(\d:)", r"T0\1"),
    (r"(:\d\d),(\d+)", r"\1.\2"),
    (r"\s*(UTC|GMT|Z)\s*$", "Z"),
    (r"(\.\d{9})0+(\D|$)", r"\1\2"),
)


def shown(cell: object) -> str:
    """A cell for an error: numbers as they stand, other text quoted, nothing long."""
    text = cell if isinstance(cell, str) and re.fullmatch(r"[\d.]+", cell) else repr(cell)
    return text if len(text) <= 80 else text[:77] + "…"


def hint(what: str, cell: object, csv: CsvSettings) -> str:
    """What to set where a cell is right, but for the mapping."""
    if not what.startswith("a time"):
        return _numeral_hint(cell, csv)
    if what.endswith("'timestamp'"):
        return unit_hint(cell)
    return unit_hint(cell) or "ISO text has the unit 'timestamp'; " * bool(re.match(r"\d{4}\D", str(cell)))


def unit_hint(cell: object) -> str:
    with contextlib.suppress(ValueError):
        value = float(str(cell))
        fits = [unit for unit, factor in FACTORS.items() if EARLIEST <= value * factor <= LATEST]
        return f"it would be a time in {fits[0]!r}; " if fits else ""
    return ""


def _numeral_hint(cell: object, csv: CsvSettings) -> str:
    """What to set where a cell is a number in another country's hand."""
    if not isinstance(cell, str):
        return ""
    for decimal, mark in ((".", ","), (",", "."), (".", "'"), (".", " "), (".", "_")):
        if re.fullmatch(rf"-?\d{{1,3}}({re.escape(mark)}\d{{3}})+({re.escape(decimal)}\d+)?", cell.strip()):
            how = [f"thousands = {mark!r}"] + ([f"decimal = {decimal!r}"] if decimal == "," else [])
            other = " (or decimal = ',', if it is one)" if mark == "," and "." not in cell else ""
            return f"set csv = {{ {', '.join(how)} }}{other}; else "
    if csv.decimal == "." and re.fullmatch(r"-?\d+,\d+", cell.strip()):
        return "set csv = { decimal = ',' }; else "
    return ""


def fails(convert: Convert, column: pa.ChunkedArray) -> bool:
    try:
        convert(column)
    except UNFIT:
        return True
    return False


def to_float(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return pc.cast(column, pa.float64(), safe=False)
    try:
        return pc.cast(column, pa.float64())
    except UNFIT:
        return pc.cast(pc.utf8_trim_whitespace(column), pa.float64())


def to_integer(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return pc.cast(column, pa.int64())
    try:
        return pc.cast(column, pa.int64())
    except UNFIT:
        return pc.cast(pc.utf8_trim_whitespace(column), pa.int64())


def to_nanoseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(column, pa.timestamp("ns", tz=getattr(column.type, "tz", None))), pa.int64())


def counted(factor: int) -> Convert:
    """From numbers of ``factor`` ns since 1970."""

    def convert(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_string(column.type):  # whole numbers keep every digit
            whole = not fails(to_integer, column)
            column = to_integer(column) if whole else to_float(column)
        if not pa.types.is_floating(column.type):
            return pc.multiply_checked(pc.cast(column, pa.int64()), factor)
        # A double holds seconds of our time to about 0.2 microseconds; more digits than that are noise.
        micros = np.rint(pc.fill_null(column, np.nan).to_numpy() * (factor / 1e3))
        return pc.multiply(
            pa.chunked_array([pa.array(micros, mask=~np.isfinite(micros)).cast(pa.int64())]), 1_000
        )

    return convert


def parsed(column: pa.ChunkedArray) -> Convert:
    """From ISO text and near it, with a zone or without one as the first has it."""

    def convert(text: pa.ChunkedArray) -> pa.ChunkedArray:
        with contextlib.suppress(*UNFIT):
            return pc.cast(pc.cast(text, kind), pa.int64())
        return pc.cast(pc.cast(_rewritten(text), kind), pa.int64())

    first = column.drop_null()[:1]
    zoned = not fails(lambda cell: pc.cast(_rewritten(cell), pa.timestamp("ns", tz="UTC")), first)
    kind = pa.timestamp("ns", tz="UTC" if zoned else None)
    return convert


def _rewritten(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times such as ``2020-03-12D10:44:00,5 UTC`` as ISO."""
    for pattern, form in _REWRITES:
        text = pc.replace_substring_regex(text, pattern, form)
    return text
