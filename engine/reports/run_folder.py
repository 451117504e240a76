"""Reading a run folder: the tables and the manifest a backtest or a live session leaves behind."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import BeaufortError
from core.journal import JOURNAL, Tables, is_running, read_journal
from core.messages import REGIMES
from core.records import EquityMark, Liquidation, schema
from core.settings import format_time

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
    ended: NotRequired[str]  # ISO wall time; absent while the run goes on, and where it was cut off
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
    recorded = read_journal(folder)
    if "ended" not in manifest:
        _say_how_far(folder, manifest, recorded)
    tables = {kind.TABLE: table for kind, table in recorded.items()}
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


def _say_how_far(folder: Path, manifest: Any, recorded: Tables) -> None:
    """Complete the manifest of a run that has not ended: how far it came, and that it was cut off or goes on.

    When it was cut off is told by the last write of its journal.
    """
    bars = recorded[EquityMark]["ts"]
    last = bars[-1].as_py() if len(bars) else manifest["start"]
    path = folder / JOURNAL if (folder / JOURNAL).exists() else folder / "manifest.json"
    written = path.stat().st_mtime
    reached = f"after the bar that closed at {format_time(last)}" if len(bars) else "before its first bar"
    said = datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    how = "goes on: it was last heard of" if is_running(folder) else "was cut off: it was last heard of"
    manifest["end"] = max(last, manifest["start"])
    manifest["wall_s"] = max(written - datetime.fromisoformat(manifest["started"]).timestamp(), 0.0)
    manifest["warnings"] = [
        f"this run {how} at {said}, {reached}; the figures cover what its journal holds, orders are as they "
        "were last heard of, and events were not counted",
        *manifest.get("warnings", []),
    ]
