"""Reading CSV and Parquet tables in batches, with columns as numbers and times, and errors that name the
place.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from catalogs.mapping import Cell, MappingError, TableSettings, TimeSettings, Unit

_CELLS = 1_000_000  # values decoded at once: bounds memory whatever the number of columns
_Convert = Callable[[pa.ChunkedArray], pa.ChunkedArray]
_UNFIT = (pa.ArrowInvalid, pa.ArrowNotImplementedError)  # what a conversion raises for cells or types
_FACTORS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class Batch:
    """Some rows of a file, columns by name.

    Every method raises MappingError naming file, column, row and value.
    """

    def __init__(self, path: Path, first_row: int, table: pa.Table, rows: np.ndarray | None = None) -> None:
        self.path = path
        self._table = table
        self.rows = np.arange(first_row, first_row + len(table)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._table)

    def take(self, which: np.ndarray) -> "Batch":
        """The rows where ``which`` is true, or those it lists."""
        if which.dtype == bool:
            if which.all():
                return self
            return Batch(self.path, 0, self._table.filter(pa.array(which)), self.rows[which])
        return Batch(self.path, 0, self._table.take(pa.array(which)), self.rows[which])

    def column(self, name: str) -> pa.ChunkedArray:
        """The raw column, its values in place where they are kept in a dictionary."""
        column = self._table[name]
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def number(self, name: str) -> np.ndarray:
        """A column as float64, NaN where null."""
        return self._converted(name, "a number", _to_float).to_numpy()

    def integer(self, name: str) -> np.ndarray:
        """A column as int64, without nulls."""
        whole = self._converted(name, "a whole number", _to_integer)
        self._no_nulls(name, whole)
        return whole.to_numpy()

    def is_text(self, name: str) -> bool:
        """Whether a column holds text."""
        kind = self.column(name).type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)

    def text(self, name: str) -> pa.ChunkedArray:
        """A column as text."""
        return pc.cast(self.column(name), pa.string())

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A list column as offsets (rows + 1) into its values, and the values as float64."""
        column = self.column(name).combine_chunks()
        if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
            raise MappingError(f"{self.path}: column {name!r} is {column.type}, not lists of levels")
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        values = pc.cast(column.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
        return np.concatenate(([0], np.cumsum(lengths))), values

    def is_any(self, name: str, values: Sequence[Cell]) -> np.ndarray:
        """Where a column equals one of ``values``."""
        column = self.column(name)
        try:
            wanted = pa.array(values).cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            raise MappingError(
                f"{self.path}: column {name!r} is {column.type}, which cannot equal {list(values)}; "
                "write values of that type"
            ) from None
        return pc.fill_null(pc.is_in(column, value_set=wanted), False).to_numpy()

    def times(self, name: str, unit: Unit) -> np.ndarray:
        """A time column as int64 nanoseconds."""
        column = self.column(name)
        temporal = pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
        if (unit == "timestamp") != (temporal or self.is_text(name)):
            if self.is_text(name) and _fails(_to_float, column) and not _fails(_to_float, column[:1]):
                self._converted(name, f"a time in {unit!r}", _to_float)  # one cell made the column text
            raise MappingError(
                f"{self.path}: time column {name!r} is {column.type}, but its unit is given as {unit!r}; "
                "use 's', 'ms', 'us' or 'ns' for numbers and 'timestamp' for timestamps and ISO text"
            )
        if unit != "timestamp":
            convert = _counted(_FACTORS[unit])
        elif temporal:
            convert = _to_nanoseconds
        else:
            convert = _parsed(column)
        ns = self._converted(name, f"a time in {unit!r}", convert)
        self._no_nulls(name, ns)
        out = ns.to_numpy()
        # 2005 to 2100: outside it the unit is wrong, and nothing else would say so.
        bad = (out < 1_104_537_600 * 10**9) | (out > 4_102_444_800 * 10**9)
        if bad.any():
            row = int(np.argmax(bad))
            raise MappingError(
                f"{self.path}: column {name!r}, row {self.rows[row]}: {column[row]} read as {unit!r} is "
                f"{np.datetime64(int(out[row]), 'ns')}; correct the unit"
            )
        return out

    def _no_nulls(self, name: str, column: pa.ChunkedArray) -> None:
        if column.null_count:
            row = int(np.argmax(pc.is_null(column).to_numpy()))
            raise MappingError(
                f"{self.path}: column {name!r}, row {self.rows[row]} is empty; name a column that never is"
            )

    def _converted(self, name: str, what: str, convert: _Convert) -> pa.ChunkedArray:
        first, rest = 0, self.column(name)
        with contextlib.suppress(*_UNFIT):
            return convert(rest)
        while len(rest) > 1:  # the first cell that fails is among the rest
            half = len(rest) // 2
            if _fails(convert, rest[:half]):
                rest = rest[:half]
            else:
                first, rest = first + half, rest[half:]
        raise MappingError(
            f"{self.path}: column {name!r}, row {self.rows[first]}: {rest[0].as_py()!r} is not {what}; "
            "correct the column or its unit, or leave the row out with `where`"
        )


def _fails(convert: _Convert, column: pa.ChunkedArray) -> bool:
    try:
        convert(column)
    except _UNFIT:
        return True
    return False


def _to_float(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, pa.float64(), safe=False)


def _to_integer(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, pa.int64())


def _to_nanoseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(column, pa.timestamp("ns", tz=getattr(column.type, "tz", None))), pa.int64())


def _counted(factor: int) -> _Convert:
    """From numbers of ``factor`` ns since 1970."""

    def convert(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not pa.types.is_floating(column.type):
            return pc.multiply_checked(pc.cast(column, pa.int64()), factor)
        # A double holds seconds of our time to about 0.2 microseconds; more digits than that are noise.
        micros = np.rint(pc.fill_null(column, np.nan).to_numpy() * (factor / 1e3))
        return pc.multiply(
            pa.chunked_array([pa.array(micros, mask=~np.isfinite(micros)).cast(pa.int64())]), 1_000
        )

    return convert


def _parsed(column: pa.ChunkedArray) -> _Convert:
    """From ISO text, with a zone or without one as the first has it."""
    zoned = not _fails(lambda first: pc.cast(first, pa.timestamp("ns", tz="UTC")), column.drop_null()[:1])
    kind = pa.timestamp("ns", tz="UTC" if zoned else None)
    return lambda text: pc.cast(pc.cast(text, kind), pa.int64())


def find(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of the patterns, each pattern's in name order.

    Raises MappingError for a pattern without files.
    """
    found: list[Path] = []
    for pattern in patterns:
        if Path(pattern).is_absolute():
            raise MappingError(f"{pattern}: write paths relative to the folder given with --root ({root})")
        matches = sorted(root.glob(pattern))
        if not matches:
            raise MappingError(
                f"no file matches {pattern!r} under {root}; give the folder of the data with --root"
            )
        found += [path for path in matches if path not in found]
    return found


def rows_in(path: Path) -> int:
    """Number of data rows: from metadata for Parquet, by counting lines for CSV.

    Raises MappingError where the file cannot be read.
    """
    with _naming(path):
        if path.suffix == ".parquet":
            return pq.read_metadata(path).num_rows
        lines = 0
        with pa.input_stream(str(path)) as stream:
            while block := stream.read(1 << 22):
                lines += block.count(b"\n")
        return max(lines - 1, 0)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of a damaged file, with its name."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise MappingError(f"{path}: cannot be read: {error}; mend it or fetch it again") from None


def read(path: Path, columns: Sequence[str], numbers: Sequence[str], time: TimeSettings) -> Iterator[Batch]:
    """The columns of a file in batches; the whole file at once, sorted by time, where ``time.sort`` says so.

    ``numbers`` are those columns that hold decimal numbers even where a CSV begins with whole ones.
    """
    names = list(dict.fromkeys(columns))
    if path.suffix == ".parquet":
        batches = _parquet(path, names)
    elif ".csv" in path.suffixes:
        batches = _csv(path, names, numbers)
    else:
        raise MappingError(f"{path}: neither .parquet nor .csv (.csv.gz, .csv.zst)")
    if time.sort:
        parts = list(batches)
        if not parts:
            return
        whole = Batch(path, 0, pa.concat_tables([part._table for part in parts]))
        if len(whole):
            unit = (time.init_unit or time.unit) if time.init else time.unit
            key = whole.times(time.init or time.event, unit)
            yield whole.take(np.argsort(key, kind="stable"))
        return
    yield from batches


def select(table: TableSettings, batch: Batch) -> Batch:
    """The rows that ``where`` asks for."""
    keep = np.ones(len(batch), dtype=bool)
    for name, wanted in table.where.items():
        keep &= batch.is_any(name, wanted if isinstance(wanted, list) else [wanted])
    return batch.take(keep)


def by_instrument(table: TableSettings, batch: Batch) -> Iterator[tuple[str | None, Batch]]:
    """The rows of each instrument; None where the symbol is not in the map and ``others`` says to skip
    those.
    """
    if table.instrument is not None:
        yield table.instrument, batch
        return
    symbol = table.symbol
    assert symbol is not None  # the mapping's validation says so
    names = [pc.fill_null(batch.text(name), "") for name in symbol.columns]
    encoded = pa.chunked_array(pc.binary_join_element_wise(*names, "/")).combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        target = symbol.map.get(text)
        if target is None and symbol.others == "error":
            row = batch.rows[np.argmax(codes == code)]
            raise MappingError(
                f"{batch.path}: row {row}: {'/'.join(symbol.columns)} {text!r} is not in symbol.map; "
                "add it, or set symbol.others = 'skip'"
            )
        yield target, batch.take(codes == code)


def _parquet(path: Path, names: list[str]) -> Iterator[Batch]:
    with _naming(path):
        file = pq.ParquetFile(path)
        _check_columns(path, names, file.schema_arrow.names)
        width = sum(1000 if pa.types.is_list(file.schema_arrow.field(name).type) else 1 for name in names)
        row = 0
        for batch in file.iter_batches(max(1_024, _CELLS // width), columns=names):
            yield Batch(path, row, pa.Table.from_batches([batch]).select(names))
            row += len(batch)


def _csv(path: Path, names: list[str], numbers: Sequence[str]) -> Iterator[Batch]:
    with _naming(path):
        with pv.open_csv(path) as head:
            schema = head.schema
        _check_columns(path, names, schema.names)
        # Columns that begin with text keep it, so that the error is ours and names the row. Times are parsed
        # by us, because a file that begins with whole seconds may go on with fractions.
        kinds = {}
        for name in names:
            kind = schema.field(name).type
            if name in numbers and (pa.types.is_integer(kind) or pa.types.is_null(kind)):
                kinds[name] = pa.float64()
            elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
                kinds[name] = pa.string()
        options = pv.ConvertOptions(include_columns=names, column_types=kinds)
        row = 0
        with pv.open_csv(path, pv.ReadOptions(block_size=1 << 24), convert_options=options) as reader:
            for batch in reader:
                yield Batch(path, row, pa.Table.from_batches([batch]))
                row += len(batch)


def _check_columns(path: Path, wanted: list[str], present: list[str]) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        shown = ", ".join(present[:30]) + (" …" if len(present) > 30 else "")
        raise MappingError(f"{path}: no column {', '.join(map(repr, missing))}; it has {shown}")
