"""Run folders: what a backtest or a live session leaves behind, written as it ends, however it ends."""

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
from core.journal import Tables
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


def write_run(
    folder: Path,
    manifest: Mapping[str, Any],
    config: str,
    recorded: Tables,
) -> None:
    """Fill a run folder, whole or not at all: everything is first written beside it.

    The manifest comes last, so a folder with one is whole. What is in the folder already, such as a live
    session's recording, stays.

    Raises
    ------
    BeaufortError
        If it cannot be written; the folder is removed where nothing else is in it.
    """
    manifest = {"format": FORMAT, **manifest}
    tables = {kind.TABLE: table for kind, table in recorded.items()}
    run = Run(folder, manifest, config, **tables)  # type: ignore[arg-type]
    tables[RoundTrip.TABLE] = as_table(RoundTrip, round_trips(run))
    partial = folder.with_name(folder.name + ".partial")
    try:
        partial.mkdir()
        (partial / "config.toml").write_text(config)
        for name, table in tables.items():
            pq.write_table(table, partial / f"{name}.parquet", compression="zstd")
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "manifest.json"):
            os.replace(path, folder / path.name)
        partial.rmdir()
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        if isinstance(error, OSError):
            raise BeaufortError(f"{folder}: the run cannot be written: {error}") from error
        raise
