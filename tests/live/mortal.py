"""A run that is to be killed: ``python mortal.py FOLDER`` says when it is ready, and begins when it is told.

``FOLDER`` holds what ``test_killed`` prepared. The line that it waits for names what is run (``session`` or
``backtest``) and the file to which it notes, beside its journal, when it wrote which record.
"""

import os
import sys
import time
from pathlib import Path

from toy import loopback, toy_config

from core.journal import FolderJournal
from core.records import Record
from engine.config import RunConfig
from engine.sessions.backtest import run_backtest
from engine.sessions.live import run_live
from tests.engine import small_market


def session_config(folder: Path) -> RunConfig:
    """A session whose strategies trade from its second second on."""
    config = toy_config(folder / "toy")
    return config.model_copy(update={"backtest": config.backtest.model_copy(update={"warmup": 10**9})})


def backtest_config(folder: Path) -> RunConfig:
    """The small market, ten minutes of it."""
    return small_market.config(folder / "small" / "market", folder / "small")


def note(record: Record) -> str:
    """What tells a record from others."""
    return f"{record.TABLE} {getattr(record, 'client_order_id', '') or getattr(record, 'ts', '')}"


def bear_witness(path: Path) -> None:
    """From now on every record is noted in ``path`` once the journal took it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write = FolderJournal.write

    def witnessed(self: FolderJournal, record: Record, *, at_once: bool = False) -> None:
        write(self, record, at_once=at_once)
        os.write(fd, f"{time.monotonic_ns()} {int(at_once)} {note(record)}\n".encode())
        time.sleep(0.003)  # so that a backtest lasts, too

    FolderJournal.write = witnessed  # type: ignore[method-assign]


def main(folder: Path) -> None:
    print("ready", flush=True)
    what, witness = sys.stdin.readline().split()
    bear_witness(Path(witness))
    if what == "session":
        run_live(session_config(folder), source=loopback(folder / "toy"))
    else:
        run_backtest(backtest_config(folder), "faithful", quiet=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
