"""Neighbouring files of a catalog made one, because a backtest opens every file of its span at once.

Nautilus merges all files by time and decodes the beginning of each before it starts, some 20 MB a file: a
session recorded in files of minutes, or a long import, would cost gigabytes before its first event.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalogs.layout import file_name, file_range

ROW_GROUP = 65_536  # rows: small enough to seek by time, large enough to compress and to read fast
_MOST_ROWS = 50_000_000  # of a joined file: what is that large is not written again
_NEAR = 60 * 10**9  # ns between files: into a longer gap somebody may import what is missing


def consolidate(folder: Path) -> int:
    """Join the neighbouring files of one identifier; returns how many files are gone.

    Files are joined that follow each other within a minute and say the same of their rows. The joined file is
    written under a temporary name and renamed before its parts are removed; parts that an interruption left
    behind lie inside it and are removed first. Rows and their order stay as they are.
    """
    gone = remove_nested(folder)
    for parts in _groups(sorted(folder.glob("*.parquet"))):
        target = folder / file_name(file_range(parts[0])[0], file_range(parts[-1])[1])
        schema = pq.read_schema(parts[0])
        with (
            whole_file(target) as partial,
            pq.ParquetWriter(partial, schema, **parquet_options(schema)) as writer,
        ):
            for table in _row_groups(parts):
                writer.write_table(table, row_group_size=ROW_GROUP)
        gone += remove_nested(folder)
    return gone


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write ``target`` at, which takes its name when all is written and is removed on an error."""
    partial = target.with_name(target.name + ".partial")
    try:
        with named_errors(target):
            yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Put the name of ``path`` to errors of writing it that have none, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def parquet_options(schema: pa.Schema) -> dict[str, object]:
    """How every data file of a catalog is written."""
    names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": names,
        "write_page_checksum": True,
        "write_statistics": ["ts_init"],
    }


def remove_nested(folder: Path) -> int:
    """Remove files that lie inside the time of another, as only the parts of a joined file do."""
    ranges = sorted(((file_range(path), path) for path in folder.glob("*.parquet")), key=_widest_first)
    gone, end = 0, None
    for (_, last), path in ranges:
        if end is not None and last <= end:
            path.unlink()
            gone += 1
        else:
            end = last
    return gone


def _widest_first(item: tuple[tuple[int, int], Path]) -> tuple[int, int]:
    (start, end), _ = item
    return start, -end


def _groups(paths: list[Path]) -> list[list[Path]]:
    """Runs of two or more files to be joined."""
    groups: list[list[Path]] = [[path] for path in paths[:1]]
    rows = [pq.read_metadata(path).num_rows for path in paths]
    schemas = [pq.read_schema(path) for path in paths]
    size = sum(rows[:1])
    for i, (before, path) in enumerate(pairwise(paths), start=1):
        near = file_range(path)[0] - file_range(before)[1] <= _NEAR
        if near and size + rows[i] <= _MOST_ROWS and schemas[i].equals(schemas[i - 1], check_metadata=True):
            groups[-1].append(path)
            size += rows[i]
        else:
            groups.append([path])
            size = rows[i]
    return [group for group in groups if len(group) > 1]


def _row_groups(paths: Iterable[Path]) -> Iterator[pa.Table]:
    """All rows in pieces of ``ROW_GROUP``, the last one shorter."""
    held: list[pa.Table] = []
    rows = 0
    for path in paths:
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            held.append(file.read_row_group(number))
            rows += len(held[-1])
            if rows >= ROW_GROUP:
                table = pa.concat_tables(held)
                full = rows - rows % ROW_GROUP
                yield table.slice(0, full)
                held, rows = [table.slice(full)], rows - full
    if rows:
        yield pa.concat_tables(held)
