"""Journals: where a run's records go while it runs, so that they are there however it ends.

A journal in a run folder is one file that only grows: frames, each the records since the last one. A frame is
a head (mark, length of the body, its length unpacked, its CRC-32) and a body: for every kind of record in it
an Arrow IPC stream of one table, packed with zstd. What a kill or a lost disk leaves torn at the end is told
by length and checksum, and left out.
"""

import contextlib
import fcntl
import os
import struct
import threading
import zlib
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import BeaufortError
from core.records import JOURNALED, Record, as_table, schema

Tables = dict[type[Record], pa.Table]
"""The tables of a journal, one for every kind in ``JOURNALED``."""

JOURNAL = "journal"
"""Name of the file in a run folder, until the run is closed."""

_BLOCK = 4_096  # records turned into columns at a time
_EVERY = 0.5  # seconds between two flushes, so that all that is older than one is there
_HEAD = struct.Struct("<4sIII")
_MARK = b"BfJ1"
_ZSTD = pa.Codec("zstd")


class Journal(Protocol):
    """Takes records in the order in which things happen."""

    def write(self, record: Record, *, at_once: bool = False) -> None:
        """Take a record; ``at_once``: before this returns it is where a kill does not reach it."""
        ...

    def latest[R: Record](self, kind: type[R]) -> R | None:
        """The last record of a kind, None before the first."""
        ...

    def tables(self) -> Tables:
        """All records so far; of those with one key the last (``Record.KEY``)."""
        ...


class MemoryJournal:
    """A journal that ends with its process: records become columns in blocks, for years of decisions would
    not fit as objects.

    Parameters
    ----------
    block : int
        Records of a kind turned into columns at a time.
    """

    def __init__(self, block: int = _BLOCK) -> None:
        self._block = block
        self._open: dict[type[Record], list[Record]] = {kind: [] for kind in JOURNALED}
        self._sealed: dict[type[Record], list[pa.Table]] = {kind: [] for kind in JOURNALED}
        self._latest: dict[type[Record], Record] = {}

    def write(self, record: Record, *, at_once: bool = False) -> None:
        kind = type(record)
        self._latest[kind] = record
        rows = self._open[kind]
        rows.append(record)
        if len(rows) == self._block:
            self._sealed[kind].append(as_table(kind, rows))
            rows.clear()

    def latest[R: Record](self, kind: type[R]) -> R | None:
        return self._latest.get(kind)  # type: ignore[return-value]

    def tables(self) -> Tables:
        return {
            kind: _whole(kind, [*self._sealed[kind], as_table(kind, rows)])
            for kind, rows in self._open.items()
        }


class FolderJournal:
    """A journal in a run folder, that a ``kill -9`` leaves readable with all that is older than a second.

    Records wait in memory, and a thread writes them twice a second. While the journal is open its file is
    locked, which ends with the process: so a reader tells a run that goes on from one that was cut off.

    Parameters
    ----------
    folder : Path
        Has no journal yet.
    durable : bool
        For sessions: ``at_once`` is obeyed, which saves from a kill, and the thread waits for the disk, which
        saves all but the last second from a loss of power. What a backtest did can be had again.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.path = folder / JOURNAL
        self._durable = durable
        self._pending: deque[Record] = deque()  # its append and popleft need no lock
        self._latest: dict[type[Record], Record] = {}
        self._writing = threading.RLock()
        self._error: OSError | None = None
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._length = self._synced = 0
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_flushing, name="journal", daemon=True)
        self._thread.start()

    def write(self, record: Record, *, at_once: bool = False) -> None:
        """Take a record.

        Raises
        ------
        BeaufortError
            If an earlier one could not be written: a run that cannot keep its records must not go on.
        """
        if self._error is not None:
            raise self._told()
        self._latest[type(record)] = record
        self._pending.append(record)
        if (at_once and self._durable) or len(self._pending) >= _BLOCK:
            self.flush()

    def latest[R: Record](self, kind: type[R]) -> R | None:
        return self._latest.get(kind)  # type: ignore[return-value]

    def flush(self) -> None:
        """Write what waits. Raises BeaufortError if it cannot be written; it goes on waiting."""
        with self._writing:
            rows = [self._pending.popleft() for _ in range(len(self._pending))]
            if not rows:
                return
            try:
                self._append(_frame(rows))
            except OSError as error:
                self._pending.extendleft(reversed(rows))
                self._error = error
                raise self._told() from error

    def tables(self) -> Tables:
        with self._writing:
            with contextlib.suppress(BeaufortError):  # what waits is added all the same
                self.flush()
            parts = _read(self.path)
            for kind, rows in _by_kind(self._pending).items():
                parts[kind].append(as_table(kind, rows))
        return {kind: _whole(kind, parts[kind]) for kind in JOURNALED}

    def close(self) -> None:
        """Write what waits and let go of the file. Raises BeaufortError if that cannot be written."""
        self._closing.set()
        self._thread.join()
        if self._fd < 0:
            return
        try:
            self.flush()
            self._sync()
        finally:
            os.close(self._fd)
            self._fd = -1

    def _append(self, frame: bytes) -> None:
        try:
            left = memoryview(frame)
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._length)
            raise
        self._length += len(frame)

    def _told(self) -> BeaufortError:
        return BeaufortError(f"{self.path}: the run's records cannot be written: {self._error}")

    def _keep_flushing(self) -> None:
        while not self._closing.wait(_EVERY) and self._error is None:
            try:
                self.flush()
                self._sync()
            except BeaufortError:  # kept in ``_error``: the next write raises it
                pass
            except OSError as error:
                self._error = error

    def _sync(self) -> None:
        """Wait for the disk, while others may write on."""
        if self._durable and self._synced != self._length:
            self._synced = self._length
            os.fdatasync(self._fd)


def read_journal(folder: Path) -> Tables:
    """All that a run folder's records say, of a run that goes on, was cut off, or is closed.

    Raises
    ------
    BeaufortError
        If a table lacks a column or holds values of another type.
    """
    path = folder / JOURNAL
    if path.exists():
        parts = _read(path)
        return {kind: _whole(kind, [conform(part, kind, path) for part in parts[kind]]) for kind in JOURNALED}
    return {kind: _read_table(folder / f"{kind.TABLE}.parquet", kind) for kind in JOURNALED}


def is_running(folder: Path) -> bool:
    """Whether the process that writes the journal of a run folder lives."""
    try:
        fd = os.open(folder / JOURNAL, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def conform(table: pa.Table, kind: type[Record], path: Path) -> pa.Table:
    """``table`` with the columns of a kind, empty strings for null ones.

    Raises
    ------
    BeaufortError
        If it lacks one, or one holds values of another type; ``path`` is where it was read.
    """
    columns = []
    for field in schema(kind):
        if field.name not in table.column_names:
            raise BeaufortError(f"{path}: no column {field.name!r}; it has {', '.join(table.column_names)}")
        column = table[field.name]
        try:
            cast = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BeaufortError(
                f"{path}: column {field.name!r} is {column.type}, not {field.type}: {error}"
            ) from None
        if field.type == pa.string():
            cast = pc.fill_null(cast, "none" if field.name == "action" else "")
        columns.append(cast)
    return pa.table(columns, schema=schema(kind))


def _read_table(path: Path, kind: type[Record]) -> pa.Table:
    return conform(pq.read_table(path), kind, path) if path.exists() else schema(kind).empty_table()


def _whole(kind: type[Record], parts: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables([schema(kind).empty_table(), *parts])
    if not kind.KEY:
        return table
    rows = table.append_column("_row", pa.array(range(len(table)), pa.int64()))
    last = rows.group_by(kind.KEY).aggregate([("_row", "max")])["_row_max"]
    return table.take(last).sort_by([("ts", "ascending"), (kind.KEY, "ascending")])


def _by_kind(rows: Sequence[Record] | deque[Record]) -> dict[type[Record], list[Record]]:
    found: dict[type[Record], list[Record]] = defaultdict(list)
    for row in rows:
        found[type(row)].append(row)
    return found


def _frame(rows: Sequence[Record]) -> bytes:
    sink = pa.BufferOutputStream()
    for kind, records in _by_kind(rows).items():
        table = as_table(kind, records).replace_schema_metadata({"table": kind.TABLE})
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    raw = sink.getvalue()
    body = _ZSTD.compress(raw, asbytes=True)
    return _HEAD.pack(_MARK, len(body), len(raw), zlib.crc32(body)) + body


def _read(path: Path) -> dict[type[Record], list[pa.Table]]:
    """The tables of every whole frame, by kind."""
    kinds = {kind.TABLE.encode(): kind for kind in JOURNALED}
    parts: dict[type[Record], list[pa.Table]] = {kind: [] for kind in JOURNALED}
    for raw in _bodies(path.read_bytes()):
        source = pa.BufferReader(raw)
        while source.tell() < len(raw):
            table = pa.ipc.open_stream(source).read_all()
            kind = kinds.get(table.schema.metadata[b"table"])
            if kind is not None:
                parts[kind].append(table.replace_schema_metadata(None))
    return parts


def _bodies(data: bytes) -> Iterator[pa.Buffer]:
    at = 0
    while at + _HEAD.size <= len(data):
        mark, packed, length, checksum = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        body = data[at : at + packed]
        if mark != _MARK or len(body) < packed or zlib.crc32(body) != checksum:
            return
        at += packed
        yield _ZSTD.decompress(body, length)
