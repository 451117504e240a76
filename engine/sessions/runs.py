"""Run folders: what a backtest or a live session leaves behind, begun as it starts, however it ends."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BeaufortError
from core.journal import FolderJournal
from core.records import RoundTrip, as_table
from core.settings import format_time
from engine.reports.ledger import round_trips
from engine.reports.run_folder import FORMAT, Run


def bars_without_price(marks: pa.Table, instrument: str) -> list[str]:
    """A warning where the traded instrument had no price at the close of a bar: how often, where, what was
    held."""
    silent = ~(marks["price"].to_numpy() > 0)
    if not silent.any():
        return []
    ts, held = marks["ts"].to_numpy(), marks["position"].to_numpy()[silent] != 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], silent, [False]))))
    first, last = edges[::2], edges[1::2] - 1
    longest = int(np.argmax(last - first))
    return [
        f"{instrument} had no price at {silent.sum():,} of {len(ts):,} bars, "
        f"in {len(first):,} stretch{'es' if len(first) > 1 else ''}, "
        f"the longest {format_time(int(ts[first[longest]]))} .. {format_time(int(ts[last[longest]]))}: there "
        "its book was lost or lacked a side, and nothing was opened or closed"
        + (f"; a position was held at {held.sum():,} of them, at its last known price" if held.any() else "")
    ]


def new_run_folder(root: Path, name: str) -> Path:
    """``root/<name>-<UTC time>``, made and empty; a counter is appended if two start in one second."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        folder = root / f"{name}-{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root}: too many runs named {name}-{stamp}")


def begin_run(folder: Path, manifest: Mapping[str, Any], config: str, *, durable: bool) -> FolderJournal:
    """Write what is known of a run at its start; what happens from then on goes to the journal.

    Whatever ends the process, ``read_run`` reads the folder from now on.

    Raises
    ------
    BeaufortError
        If it cannot be written; the folder is removed then.
    """
    try:
        describe_run(folder, manifest, config)
        return FolderJournal(folder, durable=durable)
    except OSError as error:
        shutil.rmtree(folder)
        raise BeaufortError(f"{folder}: the run cannot be written: {error}") from error


def describe_run(folder: Path, manifest: Mapping[str, Any], config: str) -> None:
    """Write config and manifest, each whole or not at all. Raises OSError."""
    _replace(folder / "config.toml", config)
    _replace(folder / "manifest.json", json.dumps({"format": FORMAT, **manifest}, indent=1, allow_nan=False))


def end_run(folder: Path, manifest: Mapping[str, Any], config: str, journal: FolderJournal) -> None:
    """Turn the journal into tables, and say in the manifest that the run has ended.

    Raises
    ------
    BeaufortError
        If that cannot be written: the journal stays then, and is read in place of the tables.
    """
    said: Any = {"format": FORMAT, **manifest, "ended": datetime.now(UTC).isoformat()}
    written: list[Path] = []
    try:
        recorded = journal.tables()
        tables = {kind.TABLE: table for kind, table in recorded.items()}
        run = Run(folder, said, config, **tables)
        tables[RoundTrip.TABLE] = as_table(RoundTrip, round_trips(run))
        for name, table in tables.items():
            written.append(folder / f"{name}.parquet.partial")
            pq.write_table(table, written[-1], compression="zstd")
        for path in written:
            os.replace(path, path.with_suffix(""))
        describe_run(folder, said, config)
        journal.close()
        journal.path.unlink()
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise BeaufortError(
            f"{folder}: the run cannot be closed: {error}; what it did is in its journal, which `beaufort "
            "report` reads"
        ) from error


def abandon_run(folder: Path, journal: FolderJournal) -> None:
    """Let go of a run that broke off: a folder in which nothing has happened is removed."""
    with contextlib.suppress(BeaufortError, OSError):  # what came before is what went wrong
        journal.close()
    if not journal.path.stat().st_size:
        shutil.rmtree(folder)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
