"""Journals: where a run's records go while it runs."""

from typing import Protocol

import pyarrow as pa

from core.records import JOURNALED, Record, as_table, schema

Tables = dict[type[Record], pa.Table]
"""The tables of a journal, one for every kind in ``JOURNALED``."""

_BLOCK = 4_096  # records turned into columns at a time


class Journal(Protocol):
    """Takes records in the order in which things happen."""

    def write(self, record: Record) -> None: ...

    def latest[R: Record](self, kind: type[R]) -> R | None:
        """The last record of a kind, None before the first."""
        ...


class MemoryJournal:
    """A journal in memory: records become columns in blocks, for years of decisions would not fit as objects.

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

    def write(self, record: Record) -> None:
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
        """All records so far."""
        return {
            kind: pa.concat_tables([schema(kind).empty_table(), *self._sealed[kind], as_table(kind, rows)])
            for kind, rows in self._open.items()
        }
