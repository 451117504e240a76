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

LABELS = (*REGIMES, "none")
"""Names of the rows and columns "by regime"; ``none`` stands for no model valid or none has spoken."""

DECISIONS = pa.schema(
    [
        ("ts", pa.int64()),  # bar close, ns since the epoch
        ("strategy", pa.string()),
        ("instrument", pa.string()),
        ("regime", pa.string()),  # one of LABELS
        ("p_trend", pa.float64()),
        ("p_chop", pa.float64()),
        ("p_stress", pa.float64()),
        ("volatility", pa.float64()),
        ("risk_on", pa.bool_()),
        ("p_up", pa.float64()),
        ("p_down", pa.float64()),
        ("features_hash", pa.string()),
        ("permit", pa.string()),
        ("size_factor", pa.float64()),
        ("action", pa.string()),  # one of PASSIVE where nothing was done
        ("reason", pa.string()),
        ("size", pa.float64()),
        ("bound", pa.string()),  # which rule or cap set the size
        ("position", pa.float64()),
        ("price", pa.float64()),
        ("client_order_ids", pa.string()),  # joined by commas
        ("bundle", pa.string()),
    ]
)
"""``decisions.parquet``: one row a bar and strategy, also where nothing was done."""

PASSIVE = ("", "none", "hold")
"""Values of ``action`` that mean that nothing was done."""

ORDERS = pa.schema(
    [
        ("ts", pa.int64()),
        ("client_order_id", pa.string()),
        ("strategy", pa.string()),
        ("side", pa.string()),
        ("type", pa.string()),
        ("qty", pa.float64()),
        ("price", pa.float64()),
        ("status", pa.string()),  # "initialized" where it never reached the venue
        ("role", pa.string()),  # "entry", "exit", "stop" or "quote"
        ("reason", pa.string()),  # why it, or the last change of it, was refused; "" where nothing was
        ("held", pa.int64()),  # ns that a hole in the recording kept it from the venue, -1 for ever
    ]
)
"""``orders.parquet``: one row an order, with its last status."""

REFUSED = ("denied", "rejected")
"""Values of ``status`` of orders that never stood: refused before they left, or by the venue."""

FILLS = pa.schema(
    [
        ("ts", pa.int64()),
        ("client_order_id", pa.string()),
        ("strategy", pa.string()),
        ("side", pa.int64()),  # +1 bought, -1 sold
        ("qty", pa.float64()),  # contracts, positive
        ("price", pa.float64()),
        ("fee", pa.float64()),  # settlement currency, negative = charged, positive = rebate
        ("maker", pa.bool_()),
        ("mid", pa.float64()),  # last known at the fill (at a bar's close), NaN where unknown
        ("regime", pa.string()),
        ("risk_on", pa.bool_()),
    ]
)
"""``fills.parquet``: one row a fill, in the order they happened."""

FUNDING = pa.schema([("ts", pa.int64()), ("rate", pa.float64()), ("amount", pa.float64())])
"""``funding.parquet``: one row a settlement; ``amount`` in settlement currency, negative = paid, positive =
received, 0 where nothing was held."""

EQUITY = pa.schema(
    [
        ("ts", pa.int64()),
        ("equity", pa.float64()),  # settlement currency, open positions marked at ``price``
        ("equity_low", pa.float64()),  # the least within the bar: see strategies/account.py
        ("price", pa.float64()),  # mid at the bar's close
        ("position", pa.float64()),  # signed contracts
        ("regime", pa.string()),
        ("risk_on", pa.bool_()),
    ]
)
"""``equity.parquet``: one row a bar."""


LIQUIDATIONS = pa.schema(
    [
        ("ts", pa.int64()),  # when the mark was seen
        ("position", pa.float64()),  # signed contracts that the venue took over
        ("price", pa.float64()),  # booked: the level, or the first mark beyond it after a gap
        ("level", pa.float64()),  # where equity met the maintenance margin
        ("mark", pa.float64()),  # the bar's worst
        ("charge", pa.float64()),  # fee, and what was earned later in that bar; negative
        ("equity", pa.float64()),  # that was left
    ]
)
"""``liquidations.parquet``: empty, or the one row by which the account ended. The position's end is in the
fills too, under the order id ``LIQUIDATION``."""


FORMAT = 3
"""Of run folders. In the first one, fees were positive where they had been paid; the second knew no equity
within a bar."""


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
    liquidations: pa.Table = dataclasses.field(default_factory=LIQUIDATIONS.empty_table)

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
            "(costs are negative, equity_low is there); run it again"
        )
    absent = [key for key in Manifest.__required_keys__ if key not in manifest]
    if absent:
        raise BeaufortError(
            f"{path}: no {', '.join(sorted(absent))}; write every required key of the manifest"
        )
    config = folder / "config.toml"
    tables = {
        name: _read_table(folder / f"{name}.parquet", schema)
        for name, schema in (
            ("decisions", DECISIONS),
            ("orders", ORDERS),
            ("fills", FILLS),
            ("funding", FUNDING),
            ("equity", EQUITY),
            ("liquidations", LIQUIDATIONS),
        )
    }
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
