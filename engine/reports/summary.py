"""The figures of a run as one JSON object and as a terminal table."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.settings import format_time
from engine.reports import metrics
from engine.reports.benchmark import hold
from engine.reports.ledger import Ledger, contract_of, keep_ledger, round_trips, slippage
from engine.reports.results import jsonable
from engine.reports.run_folder import LABELS, REFUSED, Run, acted, flags, floats, integers, read_run, regimes
from strategies.desk.refusals import short_reason


def summary(run_folder: Path) -> dict[str, Any]:
    """The figures of the run in ``run_folder``, which are also written there as ``summary.json``.

    Money is in settlement currency, ratios are annualised on 365 days, shares and drawdown are fractions, and
    what is undefined (no trades, a span too short) is None. What was paid is negative: ``net_pnl = gross_pnl
    + fees + funding``, where ``gross_pnl`` is what prices gave, ``slippage`` included. ``holding_return`` is
    that of ``benchmark.hold``. ``liquidated`` is the close (ns) of the bar that ended trading by liquidation,
    or None, and ``liquidation`` its row of ``liquidations.parquet``. ``orders_refused`` counts by reason the
    orders that Nautilus or the venue did not take, ``changes_refused`` those of which a move or a cancel was
    not taken; ``dust`` names positions at the end that are too small for an order. ``warnings`` are sentences
    on what the run lacked and on what went wrong. ``unexplained`` is the
    change of recorded equity that the ledger of fills and funding does not account for: it should be rounding
    (``books_differ`` says when it is more).
    """
    figures = summarize(read_run(run_folder))
    path = run_folder / "summary.json"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)
    return figures


def summarize(run: Run) -> dict[str, Any]:
    """``summary`` of a run already read; writes nothing."""
    manifest = run.manifest
    starting = manifest["starting_equity"]
    ledger, trips, contract, holding = keep_ledger(run), round_trips(run), contract_of(run), hold(run)
    ts, equity = integers(run.equity, "ts"), floats(run.equity, "equity")
    known = np.isfinite(equity)
    equity_known = equity[known]
    returns, period = sampled_returns(run)
    year = period or metrics.DAY
    gross, fees, funding = (float(part.sum()) for part in (ledger.gross, ledger.fees, ledger.funding))
    net = gross + fees + funding
    cells = ledger.by_regime_and_strategy()
    notional = contract.notional(floats(run.fills, "qty"), floats(run.fills, "price"))
    slipped = float(slippage(run).sum())
    did = acted(run.decisions)
    figures = {
        "run": run.folder.name,
        "mode": manifest["mode"],
        "events": manifest["events"],
        "wall_s": manifest["wall_s"],
        "decisions": len(run.decisions),
        "orders": len(run.orders),
        "fills": len(run.fills),
        "gross_pnl": gross,
        "fees": fees,
        "funding": funding,
        "net_pnl": net,
        "sharpe": metrics.sharpe(returns, year),
        "max_drawdown": metrics.max_drawdown(equity_known, starting, floats(run.equity, "equity_low")[known]),
        "win_rate": metrics.win_rate(trips),
        "profit_factor": metrics.profit_factor(trips),
        "time_in_regime": metrics.time_in_regime(ts, regimes(run.equity)),
        "pnl_by_regime": _named(LABELS, cells.sum(axis=1)),
        "pnl_by_strategy": _named(ledger.strategies, cells.sum(axis=0)),
        "fingerprint": metrics.fingerprint(run.decisions, run.fills),
        "complete": manifest["complete"],
        "warnings": manifest.get("warnings", []),
        "liquidated": _liquidated(run),
        "liquidation": next(iter(run.liquidations.to_pylist()), None),
        "currency": manifest["currency"],
        "inverse": contract.inverse,
        "starting_equity": starting,
        "return": net / starting if starting else math.nan,
        "holding_return": math.nan if holding is None else holding.total,
        "bars": len(ts),
        "acted": int(did.sum()),
        "round_trips": len(trips),
        "sharpe_error": metrics.sharpe_error(returns, year),
        "sharpe_period_s": period // 10**9 if period else None,
        "sortino": metrics.sortino(returns, year),
        "slippage": slipped,
        "slippage_bps": _ratio(slipped, notional.sum(), 1e4),
        "turnover": _ratio(notional.sum(), starting),
        "maker_share": _ratio(notional[flags(run.fills, "maker")].sum(), notional.sum()),
        "exposure_time": metrics.exposure_time(ts, floats(run.equity, "position")),
        "pnl_by_regime_and_strategy": {
            label: _named(ledger.strategies, row) for label, row in zip(LABELS, cells, strict=True)
        },
        "reasons_not_to_act": _counts(run, ~did),
        "orders_refused": _refused(run, True),
        "changes_refused": _refused(run, False),
        "dust": manifest.get("dust", []),
        "unexplained": _unexplained(equity, starting, ledger),
    }
    return jsonable(figures)


def sampled_returns(run: Run) -> tuple[np.ndarray, int | None]:
    """Returns of whole periods, and their length in ns; none where the span is too short for a ratio."""
    start, equity = run.manifest["start"], floats(run.equity, "equity")
    known = np.isfinite(equity)
    period = metrics.sampling_period(run.manifest["end"] - start)
    if period is None:
        return np.empty(0), None
    ts, starting = integers(run.equity, "ts")[known], run.manifest["starting_equity"]
    return metrics.periodic_returns(ts, equity[known], starting, start, period), period


def books_differ(figures: dict[str, Any]) -> str | None:
    """By how much recorded equity and the ledger differ and the likely cause, None where it is rounding."""
    gap, starting = figures["unexplained"] or 0.0, figures["starting_equity"]
    if abs(gap) <= 1e-6 * starting:
        return None
    cause = "a position from before the run, or an error"
    moved = f"recorded equity moved by {amount(gap)} {figures['currency']} more than fills, fees, funding and"
    return f"{moved} marks account for ({cause})"


def print_summary(figures: dict[str, Any], console: Console | None = None) -> None:
    """Print ``figures`` as a table, net first and never without gross, under what is wrong with the run."""
    console = console or Console()
    money, error = figures["currency"], figures["sharpe_error"]
    to, about = ("->", "+/-") if console.options.ascii_only else ("→", "±")
    console.print(Text(f"{figures['run']} ({figures['mode']})", style="bold"), soft_wrap=True)
    for label, sentence in _remarks(figures):
        console.print(Text.assemble((f"{label}: ", "bold red"), sentence), soft_wrap=True)
    table = Table(show_header=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(justify="right", no_wrap=True)

    def row(name: str, value: str, style: str = "", last: bool = False) -> None:
        table.add_row(Text(name, style=style), Text(value, style=style), end_section=last)

    row("net PnL", f"{amount(figures['net_pnl'])} {money}  ({_show(figures['return'], '+.2%')})", "bold")
    row("  gross PnL", f"{amount(figures['gross_pnl'])} {money}")
    row("  fees", f"{amount(figures['fees'])} {money}")
    row("  funding", f"{amount(figures['funding'])} {money}")
    row("holding the instrument", _show(figures["holding_return"], "+.2%"), last=True)
    row(
        "Sharpe (365 d)", _show(figures["sharpe"], ".2f") + ("" if error is None else f" {about} {error:.2f}")
    )
    row("max drawdown", _show(figures["max_drawdown"], ".2%"))
    row(f"win rate of {figures['round_trips']:,} round trips", _show(figures["win_rate"], ".1%"))
    row("profit factor", _show(figures["profit_factor"], ".2f"), last=True)
    for label in LABELS:
        spent, earned = figures["time_in_regime"][label], figures["pnl_by_regime"][label]
        if spent or earned:
            row(f"{label} ({spent:.0%} of time), net", amount(earned))
    for name, earned in figures["pnl_by_strategy"].items():
        row(f"{name}, net", amount(earned))
    table.add_section()
    row(f"decisions {to} acted", f"{figures['decisions']:,} {to} {figures['acted']:,}")
    row(f"orders {to} fills", f"{figures['orders']:,} {to} {figures['fills']:,}")
    for title, found in (
        ("orders refused", figures["orders_refused"]),
        ("changes of orders refused", figures["changes_refused"]),
    ):
        if found:
            row(title, f"{sum(found.values()):,}")
        for reason, count in found.items():
            row(f"  {reason}", f"{count:,}")
    pace = f"  ({figures['events'] / figures['wall_s']:,.0f}/s)" if figures["wall_s"] else ""
    row("events", f"{figures['events']:,}{pace}")
    row("fingerprint", figures["fingerprint"][:16])
    console.print(table)
    for warning in figures["warnings"]:
        console.print(Text.assemble(("warning: ", "bold red"), warning), soft_wrap=True)


def _remarks(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """What whoever reads the figures has to know first."""
    remarks = []
    if not figures["complete"]:
        remarks.append(("incomplete", "the run was stopped; figures cover what it reached"))
    if told := liquidation_told(figures):
        remarks.append(("liquidated", told))
    if differ := books_differ(figures):
        remarks.append(("books differ", differ))
    return remarks


def liquidation_told(figures: dict[str, Any]) -> str | None:
    """How the account ended, None where it did not."""
    if figures["liquidated"] is None:
        return None
    text, event = (
        f"{format_time(figures['liquidated'])}: equity met maintenance margin",
        figures["liquidation"],
    )
    if event is None:
        return text
    return (
        f"{text} at {event['level']:.10g}; {event['position']:+.10g} contracts were taken over at "
        f"{event['price']:.10g}, {amount(event['equity'])} {figures['currency']} was left"
    )


def amount(value: float) -> str:
    """Money with its sign: two decimals, four significant figures below one unit."""
    return f"{value:+,.2f}" if abs(value) >= 1 or value == 0 else f"{value:+.4g}"


def _named(names: tuple[str, ...], values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _unexplained(equity: np.ndarray, starting: float, ledger: Ledger) -> float:
    """Recorded less booked change of equity, at the last bar with an equity."""
    known = np.flatnonzero(np.isfinite(equity))
    if not len(known):
        return math.nan
    last = known[-1]
    return float(equity[last] - starting - ledger.net[: last + 1].sum())


def _liquidated(run: Run) -> int | None:
    at = pc.index(run.decisions["permit"], "liquidated").as_py()
    return None if at < 0 else int(integers(run.decisions, "ts")[at])


def _refused(run: Run, whole: bool) -> dict[str, int]:
    """Orders by why they were refused, or (``whole`` false) orders that stood by why a change of them was."""
    never_stood = np.array([status.lower() in REFUSED for status in run.orders["status"].to_pylist()], bool)
    texts = run.orders["reason"].to_pylist()
    counts = Counter(
        short_reason(text)
        for text, refused in zip(texts, never_stood, strict=True)
        if refused == whole and (refused or text)
    )
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def all_refused(figures: dict[str, Any]) -> str | None:
    """A sentence where orders were sent and the venue took none of them, else None."""
    refused = sum(figures["orders_refused"].values())
    if not refused or refused < figures["orders"]:
        return None
    return f"every order was refused, all {refused:,}: {counted(figures['orders_refused'])}"


def counted(reasons: Mapping[str, int]) -> str:
    """Reasons with how often each came, the most frequent first."""
    return ", ".join(f"{count:,} x {reason}" for reason, count in reasons.items())


def _ratio(part: float, whole: float, scale: float = 1.0) -> float:
    return float(part / whole * scale) if whole else math.nan


def _counts(run: Run, rows: np.ndarray) -> dict[str, int]:
    found = pc.value_counts(run.decisions["reason"].filter(pa.array(rows))).to_pylist() if len(rows) else []
    return {
        item["values"]: item["counts"] for item in sorted(found, key=lambda i: (-i["counts"], i["values"]))
    }


def _show(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)
