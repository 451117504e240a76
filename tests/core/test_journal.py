"""A journal in a folder is there however its run ends: torn, damaged, full, growing or closed."""

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_records import made

import core.journal
from core.errors import BeaufortError
from core.journal import FolderJournal, MemoryJournal, is_running, read_journal
from core.records import JOURNALED, Decision, EquityMark, Order, Record, as_records


def _order(i: int, status: str = "initialized") -> Order:
    return Order(i, f"O-{i:03d}", "grid", "X", "buy", "limit", 1.0, 2.0, status, "quote")


def _marks(folder: Path) -> list[EquityMark]:
    return list(as_records(EquityMark, read_journal(folder)[EquityMark]))


def test_a_growing_a_closed_and_a_tabled_one_read_alike(tmp_path: Path) -> None:
    journal, memory = FolderJournal(tmp_path), MemoryJournal()
    everything: list[Record] = [row for kind in JOURNALED for row in made(kind, 30) if kind is not Order]
    everything += [_order(i) for i in range(9)] + [_order(3, "filled"), _order(1, "canceled")]
    for i, record in enumerate(everything):
        journal.write(record)
        memory.write(record)
        if i % 17 == 0:
            journal.flush()
    expected = memory.tables()
    assert journal.tables() == expected
    assert read_journal(tmp_path) == expected
    assert expected[Order]["status"].to_pylist() == [
        "initialized",
        "canceled",
        "initialized",
        "filled",
        *["initialized"] * 5,
    ]
    journal.close()
    assert read_journal(tmp_path) == expected
    for kind, table in expected.items():
        pq.write_table(table, tmp_path / f"{kind.TABLE}.parquet")
    journal.path.unlink()
    assert read_journal(tmp_path) == expected


def test_a_torn_or_damaged_tail_is_left_out_and_no_more(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    marks = made(EquityMark, 12)
    ends = []
    for i, mark in enumerate(marks):
        journal.write(mark)
        if i % 4 == 3:
            journal.flush()
            ends.append(journal.path.stat().st_size)
    journal.close()
    whole = journal.path.read_bytes()
    for length in range(len(whole)):
        journal.path.write_bytes(whole[:length])
        assert _marks(tmp_path) == marks[: 4 * sum(end <= length for end in ends)]
    for at in range(ends[1], ends[2], 7):  # a block that the disk never got
        journal.path.write_bytes(whole[:at] + bytes(len(whole) - at))
        assert _marks(tmp_path) == marks[:8]


def test_what_is_older_than_a_second_is_there_without_being_asked(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    (mark,) = made(EquityMark, 1)
    journal.write(mark)
    deadline = time.monotonic() + 10
    while not _marks(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert _marks(tmp_path) == [mark]
    journal.close()


def test_an_intent_is_there_when_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.journal, "_EVERY", 1e9)
    journal = FolderJournal(tmp_path, durable=True)
    journal.write(_order(1))
    assert len(read_journal(tmp_path)[Order]) == 0
    journal.write(_order(2), at_once=True)
    assert read_journal(tmp_path)[Order]["ts"].to_pylist() == [1, 2]
    journal._closing.set()


def _write_and_wait(folder: Path, ready: "multiprocessing.connection.Connection") -> None:
    journal = FolderJournal(folder)
    for record in made(Decision, 20):
        journal.write(record)
    journal.flush()
    ready.send(None)
    time.sleep(60)


def test_a_killed_one_is_told_from_one_that_goes_on(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_write_and_wait, args=(tmp_path, theirs))
    process.start()
    ours.recv()
    assert is_running(tmp_path)
    process.kill()
    process.join()
    assert not is_running(tmp_path)
    assert list(as_records(Decision, read_journal(tmp_path)[Decision])) == made(Decision, 20)
    with pytest.raises(FileExistsError):  # nobody writes on over it
        FolderJournal(tmp_path)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FolderJournal(tmp_path)
    marks = made(EquityMark, 3)
    journal.write(marks[0])
    journal.flush()
    honest = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return honest(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    journal.write(marks[1])
    with pytest.raises(BeaufortError, match=r"cannot be written: .*No space left"):
        journal.flush()
    with pytest.raises(BeaufortError, match="No space left"):
        journal.write(marks[2])
    assert list(as_records(EquityMark, journal.tables()[EquityMark])) == marks[:2]
    monkeypatch.undo()
    assert _marks(tmp_path) == marks[:1]  # no half of a frame is in the way
    journal.flush()
    assert _marks(tmp_path) == marks[:2]
