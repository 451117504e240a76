"""Reading CSV and Parquet tables in batches, with columns as numbers and times, and errors that name the
place.
"""

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from catalogs.imports.base import Cell, CsvSettings, MappingError, TableSettings, TimeSettings, Unit
from catalogs.imports.cells import (
    EARLIEST,
    FACTORS,
    LATEST,
    UNFIT,
    Convert,
    counted,
    fails,
    hint,
    parsed,
    shown,
    to_float,
    to_integer,
    to_nanoseconds,
    unit_hint,
)
from catalogs.imports.delimited import check_columns, form_of

_CELLS = 1_000_000  # values decoded at once: bounds memory whatever the number of columns
_PLAIN = CsvSettings()


class Batch:
    """Some rows of a file, columns by name.

    Every method raises MappingError naming file, column, row and value. ``csv`` says how numbers are written
    where they are text.
    """

    def __init__(
        self,
        path: Path,
        first_row: int,
        table: pa.Table,
        rows: np.ndarray | None = None,
        csv: CsvSettings = _PLAIN,
    ) -> None:
        self.path = path
        self.csv = csv
        self._table = table
        self.rows = np.arange(first_row, first_row + len(table)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._table)

    def take(self, which: np.ndarray) -> "Batch":
        """The rows where ``which`` is true, or those it lists."""
        if which.dtype == bool:
            if which.all():
                return self
            return Batch(self.path, 0, self._table.filter(pa.array(which)), self.rows[which], self.csv)
        return Batch(self.path, 0, self._table.take(pa.array(which)), self.rows[which], self.csv)

    def column(self, name: str) -> pa.ChunkedArray:
        """The raw column, its values in place where they are kept in a dictionary."""
        column = self._table[name]
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def number(self, name: str) -> np.ndarray:
        """A column as float64, NaN where null."""
        return self._converted(name, "a number", to_float, self._numerals(name)).to_numpy()

    def integer(self, name: str) -> np.ndarray:
        """A column as int64, without nulls."""
        whole = self._converted(name, "a whole number", to_integer, self._numerals(name))
        self._no_nulls(name, whole)
        return whole.to_numpy()

    def converted(self, kinds: Mapping[str, pa.DataType]) -> "Batch":
        """The same rows with some columns as other types."""
        table = self._table
        for name, kind in kinds.items():
            convert = functools.partial(pc.cast, target_type=kind)
            column = self._converted(name, f"{kind}, as the column begins", convert)
            table = table.set_column(table.column_names.index(name), name, column)
        return Batch(self.path, 0, table, self.rows, self.csv)

    def is_text(self, name: str) -> bool:
        """Whether a column holds text."""
        kind = self.column(name).type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)

    def text(self, name: str) -> pa.ChunkedArray:
        """A column as text."""
        return pc.cast(self.column(name), pa.string())

    def identifiers(self, name: str) -> pa.ChunkedArray:
        """A column of names, integers or text; none is empty."""
        column = self.column(name)
        column = column if pa.types.is_integer(column.type) else self.text(name)
        self._no_nulls(name, column)
        return column

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
        if not self.is_text(name) and (unit == "timestamp") != temporal:
            raise MappingError(
                f"{self.path}: time column {name!r} is {column.type}, but its unit is given as {unit!r}; "
                "use 's', 'ms', 'us' or 'ns' for numbers and 'timestamp' for timestamps and ISO text"
            )
        convert, cells = counted(FACTORS.get(unit, 1)), column
        if unit != "timestamp":
            cells = self._numerals(name)
        else:
            convert = to_nanoseconds if temporal else parsed(column)
        ns = self._converted(name, f"a time in {unit!r}", convert, cells)
        self._no_nulls(name, ns)
        out = ns.to_numpy()
        bad = (out < EARLIEST) | (out > LATEST)
        if bad.any():
            row = int(np.argmax(bad))
            raise MappingError(
                f"{self.path}: column {name!r}, row {self.rows[row]}: {column[row]} read as {unit!r} is "
                f"{np.datetime64(int(out[row]), 'ns')}; {unit_hint(column[row].as_py())}correct the unit"
            )
        return out

    def _numerals(self, name: str) -> pa.ChunkedArray:
        """A column of numbers; where they are text, with a decimal point and nothing between thousands."""
        column = self.column(name)
        if not self.is_text(name):
            return column
        if self.csv.thousands:
            mark, decimal = re.escape(self.csv.thousands), re.escape(self.csv.decimal)
            right = pc.match_substring_regex(
                column, rf"^\s*[-+]?\d{{1,3}}({mark}\d{{3}})+({decimal}\d*)?\s*$"
            )
            column = pc.if_else(right, pc.replace_substring(column, self.csv.thousands, ""), column)
        if self.csv.decimal != ".":
            # A point would be read as one, though the file says it is none.
            column = pc.replace_substring(column, ".", "?")
            column = pc.replace_substring(column, self.csv.decimal, ".")
        return column

    def _no_nulls(self, name: str, column: pa.ChunkedArray) -> None:
        if column.null_count:
            row = int(np.argmax(pc.is_null(column).to_numpy()))
            raise MappingError(
                f"{self.path}: column {name!r}, row {self.rows[row]} is empty; name a column that never is"
            )

    def _converted(
        self, name: str, what: str, convert: Convert, column: pa.ChunkedArray | None = None
    ) -> pa.ChunkedArray:
        rest = self.column(name) if column is None else column
        with contextlib.suppress(*UNFIT):
            return convert(rest)
        first = 0
        while len(rest) > 1:  # the first cell that fails is among the rest
            half = len(rest) // 2
            if fails(convert, rest[:half]):
                rest = rest[:half]
            else:
                first, rest = first + half, rest[half:]
        cell = self.column(name)[first].as_py()
        raise MappingError(
            f"{self.path}: column {name!r}, row {self.rows[first]}: {shown(cell)} is not {what}; "
            f"{hint(what, cell, self.csv)}correct the column or its unit, or leave the row out with `where`"
        )


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


def read(
    path: Path,
    columns: Sequence[str],
    plain: Sequence[str],
    time: TimeSettings,
    csv: CsvSettings = _PLAIN,
) -> Iterator[Batch]:
    """The columns of a file in batches; the whole file at once, sorted by time, where ``time.sort`` says so.

    Of a CSV, the ``plain`` columns and those of times are text; the others are what they look like. Sorting a
    file that is newest first turns it round, so that rows of one time come in the order they happened in.
    """
    names = list(dict.fromkeys(columns))
    if _is_parquet(path):
        batches = _parquet(path, names)
    else:
        batches = _csv(path, names, [*plain, *time.columns()], csv)
    if time.sort:
        parts = list(batches)
        if not parts:
            return
        whole = Batch(path, 0, pa.concat_tables([part._table for part in parts]), csv=csv)
        if len(whole):
            unit = (time.init_unit or time.unit) if time.init else time.unit
            yield whole.take(_by_time(whole.times(time.init or time.event, unit)))
        return
    yield from batches


def _by_time(key: np.ndarray) -> np.ndarray:
    """The rows in order of time; rows of one time as in the file, or backwards where it is newest first."""
    steps = np.diff(key)
    if (steps < 0).sum() > (steps > 0).sum():
        return len(key) - 1 - np.argsort(key[::-1], kind="stable")
    return np.argsort(key, kind="stable")


def check_file(path: Path, columns: Sequence[str], csv: CsvSettings) -> None:
    """Raise MappingError where a file cannot be opened or lacks a column: before anything is written."""
    with _naming(path):
        if _is_parquet(path):
            check_columns(path, columns, pq.read_schema(path).names)
        else:
            form_of(path, columns, csv)


def _is_parquet(path: Path) -> bool:
    if path.suffix != ".parquet" and ".csv" not in path.suffixes:
        raise MappingError(f"{path}: neither .parquet nor .csv (.csv.gz, .csv.zst)")
    return path.suffix == ".parquet"


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
        check_columns(path, names, file.schema_arrow.names)
        width = sum(1000 if pa.types.is_list(file.schema_arrow.field(name).type) else 1 for name in names)
        row = 0
        for batch in file.iter_batches(max(1_024, _CELLS // width), columns=names):
            yield Batch(path, row, pa.Table.from_batches([batch]).select(names))
            row += len(batch)


def _csv(path: Path, names: list[str], plain: Sequence[str], csv: CsvSettings) -> Iterator[Batch]:
    # Everything is read as text and converted by us: a file that begins with whole numbers may go on with
    # fractions, and an error of ours names the row.
    with _naming(path):
        form = form_of(path, names, csv)
        read = pv.ReadOptions(
            block_size=1 << 24, column_names=form.names, skip_rows=form.skip, encoding=form.encoding
        )
        parse = pv.ParseOptions(delimiter=form.separator, invalid_row_handler=_pass_over_comments)
        guessed = [name for name in names if name not in plain]
        kinds = {}
        if guessed:  # to pyarrow, none means all
            with pv.open_csv(path, read, parse, pv.ConvertOptions(include_columns=guessed)) as head:
                kinds = {field.name: field.type for field in head.schema if _is_simple(field.type)}
        options = pv.ConvertOptions(
            include_columns=names, column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
        )
        row = 0
        with pv.open_csv(path, read, parse, options) as reader:
            for records in reader:
                batch = Batch(path, row, pa.Table.from_batches([records]), csv=csv)
                yield batch.converted(kinds)
                row += len(batch)


def _is_simple(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _pass_over_comments(row: pv.InvalidRow) -> str:
    return "skip" if row.text.lstrip().startswith("#") else "error"
