"""Reading a run folder: the tables and the manifest a backtest or a live session leaves behind."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import BeaufortError
from core.messages import REGIMES
from core.records import JOURNALED, Liquidation, schema

LABELS = (*REGIMES, "none")
"""Names of the rows and columns "by regime"; ``none`` stands for no model valid or none has spoken."""

PASSIVE = ("", "none", "hold")
"""Values of a decision's ``action`` that mean that nothing was done."""

REFUSED = ("denied", "rejected")
"""Values of ``status`` of orders that never stood: refused before they left, or by the venue."""

FORMAT = 4
"""Of run folders. In the first one, fees were positive where they had been paid; the second knew no equity
within a bar; the third named the instrument in decisions alone."""


class Manifest(TypedDict):
    """``manifest.json``."""

    format: int  # FORMAT
    name: str
    mode: str  # "faithful", "replay" or "sandbox"
    started: str  # ISO wall time
    wall_s: float
    events: int  # market data events read
    start: int  # first and last moment of the span, ns since the epoch
    end: int
    instrument: str
    currency: str  # of settlement
    starting_equity: float
    complete: bool
    dust: NotRequired[list[dict[str, Any]]]  # positions too small to be closed: strategy, contracts, worth
    warnings: NotRequired[list[str]]  # sentences on what the run's data or models lacked
    bars: NotRequired[str]  # a description, such as "1s clock bars"
    multiplier: NotRequired[float]  # of the contract, 1 where absent
    inverse: NotRequired[bool]  # quoted in the other currency than settled, false where absent
    definition: NotRequired[dict[str, Any]]  # of the instrument: ``catalogs.instruments.definition``
    bundles: NotRequired[dict[str, str]]  # name to the sha256 of its manifest
    data_fingerprint: NotRequired[str]
    versions: NotRequired[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run folder says; a table whose file is absent is empty."""

    folder: Path
    manifest: Manifest
    config: str  # the resolved config as TOML, "" if absent
    decisions: pa.Table
    orders: pa.Table
    fills: pa.Table
    funding: pa.Table
    equity: pa.Table
    liquidations: pa.Table = dataclasses.field(default_factory=schema(Liquidation).empty_table)

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies that decided or filled, sorted."""
        names = pa.chunked_array(
            [*self.decisions["strategy"].chunks, *self.fills["strategy"].chunks], pa.string()
        )
        return tuple(sorted(name or "" for name in pc.unique(names).to_pylist()))


def read_run(folder: Path) -> Run:
    """Read ``folder``.

    Raises
    ------
    BeaufortError
        If there is no readable manifest, or a table lacks a column or holds values of another type.
    """
    path = folder / "manifest.json"
    try:
        manifest: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise BeaufortError(f"{folder}: not a run folder: it has no manifest.json") from None
    except json.JSONDecodeError as error:
        raise BeaufortError(f"{path}: not valid JSON: {error}") from None
    if "format" not in manifest or manifest["format"] != FORMAT:
        raise BeaufortError(
            f"{folder}: run format {manifest.get('format', 1)!r}, this version reads {FORMAT} "
            "(costs are negative, equity_low is there, every row names its instrument); run it again"
        )
    absent = [key for key in Manifest.__required_keys__ if key not in manifest]
    if absent:
        raise BeaufortError(
            f"{path}: no {', '.join(sorted(absent))}; write every required key of the manifest"
        )
    config = folder / "config.toml"
    tables = {kind.TABLE: _read_table(folder / f"{kind.TABLE}.parquet", schema(kind)) for kind in JOURNALED}
    return Run(folder, manifest, config.read_text() if config.exists() else "", **tables)


def floats(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, NaN where null."""
    return pc.fill_null(table[name], np.nan).to_numpy() if len(table) else np.empty(0)


def integers(table: pa.Table, name: str) -> np.ndarray:
    """A column of int64 without nulls."""
    return table[name].to_numpy() if len(table) else np.empty(0, np.int64)


def flags(table: pa.Table, name: str) -> np.ndarray:
    """A column of booleans, false where null."""
    return pc.fill_null(table[name], False).to_numpy() if len(table) else np.empty(0, bool)


def codes(table: pa.Table, name: str, values: tuple[str, ...]) -> np.ndarray:
    """Each row's index in ``values``, -1 where it is none of them."""
    index = pc.index_in(table[name], pa.array(values, pa.string()))
    return pc.fill_null(index, -1).to_numpy().astype(np.int64) if len(table) else np.empty(0, np.int64)


def regimes(table: pa.Table) -> np.ndarray:
    """The column ``regime`` as indices of ``LABELS``; anything unknown counts as ``none``."""
    index = codes(table, "regime", LABELS)
    return np.where(index < 0, len(LABELS) - 1, index)


GATE = ("risk-on", "risk-off", "no model")
"""States of the volatility gate; where no model speaks the recorded flag is off."""


def gate(run: Run) -> np.ndarray:
    """Each bar's index in ``GATE``, shape (bars,): no model where its decisions know no volatility."""
    silent = run.decisions.filter(pc.invert(pc.is_finite(pc.fill_null(run.decisions["volatility"], np.nan))))
    off = np.where(np.isin(integers(run.equity, "ts"), integers(silent, "ts")), 2, 1)
    return np.where(flags(run.equity, "risk_on"), 0, off)


def acted(decisions: pa.Table) -> np.ndarray:
    """Which decisions did something, shape (n,)."""
    return codes(decisions, "action", PASSIVE) < 0 if len(decisions) else np.empty(0, bool)


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    if not path.exists():
        return schema.empty_table()
    table = pq.read_table(path)
    columns = []
    for field in schema:
        name = field.name
        if name not in table.column_names:
            raise BeaufortError(f"{path}: no column {name!r}; it has {', '.join(table.column_names)}")
        try:
            columns.append(_cast(table[name], field))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BeaufortError(
                f"{path}: column {name!r} is {table[name].type}, not {field.type}: {error}"
            ) from None
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    column = column.cast(field.type)
    return (
        pc.fill_null(column, "none" if field.name == "action" else "")
        if field.type == pa.string()
        else column
    )
