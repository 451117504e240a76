"""Run folders: what a backtest or a live session leaves behind, written as it ends, however it ends."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.report.run_folder import DECISIONS, EQUITY, FILLS, FUNDING, ORDERS


@dataclasses.dataclass
class RunLogs:
    """What the components of a run append to while it runs: plain tuples, in the order of their columns."""

    decisions: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    fills: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    funding: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    equity: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)


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
    """Fill a run folder; the manifest comes last, so a folder with one is whole."""
    (folder / "config.toml").write_text(config)
    write_rows(folder / "decisions.parquet", DECISIONS, logs.decisions)
    write_rows(folder / "orders.parquet", ORDERS, orders)
    write_rows(folder / "fills.parquet", FILLS, logs.fills)
    write_rows(folder / "funding.parquet", FUNDING, logs.funding)
    write_rows(folder / "equity.parquet", EQUITY, logs.equity)
    write_json(folder / "manifest.json", manifest)


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows in the order of ``schema`` as Parquet, whole or not at all."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial, compression="zstd")
    os.replace(partial, path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False))
    os.replace(partial, path)
