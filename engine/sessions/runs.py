"""Run folders: what a backtest or a live session leaves behind, written as it ends, however it ends."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BeaufortError
from core.settings import format_time
from engine.reports.ledger import round_trips
from engine.reports.run_folder import DECISIONS, EQUITY, FILLS, FORMAT, FUNDING, LIQUIDATIONS, ORDERS, Run

POSITIONS = pa.schema(
    [
        ("strategy", pa.string()),
        ("side", pa.int64()),  # +1 long, -1 short
        ("opened", pa.int64()),  # ns
        ("closed", pa.int64()),
        ("gross_pnl", pa.float64()),  # settlement currency; net_pnl = gross_pnl + fees + funding
        ("fees", pa.float64()),
        ("funding", pa.float64()),
        ("net_pnl", pa.float64()),
    ]
)
"""``positions.parquet``: one row a closed position, from flat to flat or through zero."""


class RowLog:
    """Rows appended one at a time and kept as Arrow batches: years of decisions would not fit as tuples."""

    def __init__(self, schema: pa.Schema, block: int = 4_096) -> None:
        self._schema = schema
        self._block = block
        self._sealed: list[pa.Table] = []
        self._rows: list[tuple[Any, ...]] = []

    def append(self, row: tuple[Any, ...]) -> None:
        """Add a row, in the order of the schema."""
        self._rows.append(row)
        if len(self._rows) == self._block:
            self._sealed.append(as_table(self._schema, self._rows))
            self._rows.clear()

    def table(self) -> pa.Table:
        """All rows so far."""
        return pa.concat_tables([*self._sealed, as_table(self._schema, self._rows)])

    def __len__(self) -> int:
        return sum(len(table) for table in self._sealed) + len(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for table in self._sealed:
            yield from zip(*table.to_pydict().values(), strict=True)
        yield from self._rows


@dataclasses.dataclass
class RunLogs:
    """What the components of a run append to while it runs: plain tuples, in the order of their columns."""

    decisions: RowLog = dataclasses.field(default_factory=lambda: RowLog(DECISIONS))
    fills: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    funding: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    equity: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    liquidations: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)


def bars_without_price(logs: RunLogs, instrument: str) -> list[str]:
    """A warning where the traded instrument had no price at the close of a bar: how often, where, what was
    held."""
    table = as_table(EQUITY, logs.equity)
    silent = ~(table["price"].to_numpy() > 0)
    if not silent.any():
        return []
    ts, held = table["ts"].to_numpy(), table["position"].to_numpy()[silent] != 0
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
    logs: RunLogs,
    orders: Sequence[tuple[Any, ...]],
) -> None:
    """Fill a run folder, whole or not at all: everything is first written beside it.

    The manifest comes last, so a folder with one is whole. What is in the folder already, such as a live
    session's recording, stays.

    Raises
    ------
    BeaufortError
        If it cannot be written; the folder is removed where nothing else is in it.
    """
    tables = {
        "decisions": logs.decisions.table(),
        "orders": as_table(ORDERS, orders),
        "fills": as_table(FILLS, logs.fills),
        "funding": as_table(FUNDING, logs.funding),
        "equity": as_table(EQUITY, logs.equity),
        "liquidations": as_table(LIQUIDATIONS, logs.liquidations),
    }
    manifest = {"format": FORMAT, **manifest}
    run = Run(folder, manifest, config, **tables)  # type: ignore[arg-type]
    trips = [
        (run.strategies[t.strategy], t.side, t.opened, t.closed, t.gross, t.fees, t.funding, t.net)
        for t in round_trips(run)
    ]
    tables["positions"] = as_table(POSITIONS, trips)
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


def as_table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows in the order of ``schema`` as a table."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
