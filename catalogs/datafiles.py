"""The Parquet files of a catalog, opened with care: what is damaged is said in a sentence, with the file."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalogs.layout import ACTIONS, PRECISIONS, SCHEMAS, SIDES, DataType, file_range, times

_NAMES: dict[str, tuple[str, ...]] = {
    "aggressor_side": SIDES["trades"],
    "side": SIDES["deltas"],
    "action": ACTIONS,
}
"""What columns of names may say."""


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """Some rows of a file, with the times (``ts_init``, ns) of the first and the last."""

    path: Path
    number: int
    first: int
    last: int
    rows: int


class DataFile:
    """A data file at ``path`` that holds ``data_type``.

    Raises ValueError, here and in every method, where the file is not whole or not of that kind: a page whose
    checksum does not hold, a column that is not there, times that are not those the file's name says.
    """

    def __init__(self, path: Path, data_type: DataType) -> None:
        self.path = path
        self._schema = SCHEMAS[data_type]
        with self._damage():
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            present = self._file.schema_arrow
        for field in self._schema:
            kind = present.field(field.name).type if field.name in present.names else None
            if _plain(kind) != _plain(field.type):
                found = "is absent" if kind is None else f"is {kind}, not {field.type}"
                raise self._error(f"column {field.name!r} {found}")
        self._check_metadata(present.metadata or {}, data_type)

    def groups(self) -> list[RowGroup]:
        """The row groups, from the footer alone."""
        with self._damage():
            metadata = self._file.metadata
            column = metadata.schema.to_arrow_schema().get_field_index("ts_init")
            found = []
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                statistics = group.column(column).statistics
                if statistics is None or not statistics.has_min_max:
                    raise self._error("no statistics of ts_init")
                found.append(
                    RowGroup(self.path, number, statistics.min_raw, statistics.max_raw, group.num_rows)
                )
        if not found or (found[0].first, max(group.last for group in found)) != file_range(self.path):
            raise self._error("its rows are not of the time that its name says")
        return found

    def read(self, group: RowGroup, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a group."""
        with self._damage():
            table = self._file.read_row_group(group.number, columns=list(columns) if columns else None)
            table.validate(full=True)
            if "rate" in table.column_names:
                pc.cast(table["rate"], pa.float64())
        for name in table.column_names:
            if (
                name in self._schema.names
                and not self._schema.field(name).nullable
                and table[name].null_count
            ):
                raise self._error(f"column {name!r} has empty cells")
        for name in table.column_names:
            names = _NAMES.get(name)
            if names is not None and pa.types.is_dictionary(table.schema.field(name).type):
                odd = [word for word in table[name].unique().to_pylist() if word not in names]
                if odd:
                    raise self._error(f"column {name!r} says {odd[0]!r}")
        if len(table) != group.rows:
            raise self._error(f"{len(table):,} rows where its footer says {group.rows:,}")
        if "ts_init" in table.column_names:
            ts = times(table["ts_init"])
            if len(ts) and (int(ts.min()), int(ts.max())) != (group.first, group.last):
                raise self._error("its rows are not of the times that its footer says")
        return table

    def _check_metadata(self, metadata: dict[bytes, bytes], data_type: DataType) -> None:
        if data_type != "series" and not metadata.keys() & {b"instrument_id", b"bar_type"}:
            raise self._error("its metadata do not name the instrument")
        for name in PRECISIONS.get(data_type, ()):
            value = metadata.get(name.encode(), b"")
            if not (value.isdigit() and int(value) <= 16):
                raise self._error(f"{name} is {value.decode(errors='replace')!r}")

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError, OverflowError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise self._error(str(error).splitlines()[0][:200] if str(error) else "too large") from None

    def _error(self, what: str) -> ValueError:
        return ValueError(f"{self.path}: damaged: {what}; remove it and import its data again")


def _plain(kind: pa.DataType | None) -> pa.DataType | None:
    return kind.value_type if kind is not None and pa.types.is_dictionary(kind) else kind
