"""Tables of a run's report: PnL by regime, strategy and gate, costs, orders, reasons, decisions."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.report.ledger import Ledger, RoundTrip, contract_of, slippage
from engine.report.metrics import durations, profit_factor, win_rate
from engine.report.page import GAIN, REGIME_COLOURS, SERIES_COLOURS, Cell, escape, swatch, table, tinted
from engine.report.run_folder import GATE, LABELS, Run, acted, flags, floats, gate, integers
from engine.report.summary import amount
from features.settings import format_time

ROWS = 4_000
"""Most decisions in the page's table; ``decisions.parquet`` has all of them."""


def regime_table(figures: dict[str, Any]) -> str:
    """Net PnL by regime and strategy, with sums."""
    cells, names = figures["pnl_by_regime_and_strategy"], list(figures["pnl_by_strategy"])
    present = [label for label in LABELS if figures["time_in_regime"][label] or any(cells[label].values())]
    largest = max((abs(v) for label in present for v in cells[label].values()), default=0.0)
    rows: list[list[Cell | str]] = []
    for label in present:
        row: list[Cell | str] = [Cell(swatch(label, REGIME_COLOURS[label]))]
        row += [tinted(amount(cells[label][name]), cells[label][name], largest) for name in names]
        row.append(Cell(amount(figures["pnl_by_regime"][label]), "total"))
        row.append(Cell(f"{figures['time_in_regime'][label]:.1%}", "dim"))
        rows.append(row)
    totals = [Cell(escape(amount(value)), "total") for value in figures["pnl_by_strategy"].values()]
    rows.append([Cell("all", "total"), *totals, Cell(amount(figures["net_pnl"]), "total"), ""])
    return table(["regime", *names, "all", "of time"], rows)


def month_table(run: Run) -> str:
    """Change of equity by month and year, as a fraction of what the month or year began with."""
    ts, equity = integers(run.equity, "ts"), floats(run.equity, "equity")
    ts, equity = ts[np.isfinite(equity)], equity[np.isfinite(equity)]
    # A bar stamped midnight closes the month before.
    month = (ts - 1).astype("M8[ns]").astype("M8[M]").astype(int)
    last = np.flatnonzero(np.append(month[1:] != month[:-1], True))
    began = np.concatenate(([run.manifest["starting_equity"]], equity[last[:-1]]))
    change = dict(zip(month[last].tolist(), (equity[last] / began - 1).tolist(), strict=True))
    largest = max(abs(value) for value in change.values())
    rows: list[list[Cell | str]] = []
    for year in range(month[0] // 12, month[-1] // 12 + 1):
        found = [change.get(12 * year + i) for i in range(12)]
        whole = float(np.prod([1 + value for value in found if value is not None]) - 1)
        cells = [Cell("") if v is None else tinted(f"{v:+.1%}", v, largest) for v in found]
        rows.append([str(1970 + year), *cells, Cell(f"{whole:+.1%}", "total")])
    return table(
        ["", *["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], "year"],
        rows,
    )


def gate_table(run: Run, ledger: Ledger) -> str:
    """What was earned while the volatility gate said risk-on, risk-off, and while no model spoke."""
    spent, said = durations(integers(run.equity, "ts")), gate(run)
    earned, filled = ledger.net.sum(axis=1)[1:], ledger.fills.sum(axis=1)[1:]  # before them no gate was known
    present = [i for i in range(len(GATE)) if i < 2 or np.any(said == i)]
    net = [float(earned[said == i].sum()) for i in present]
    largest = max(map(abs, net), default=0.0)
    rows: list[list[Cell | str]] = []
    for i, colour in zip(present, (GAIN, "var(--muted)", "var(--line)"), strict=False):
        share = spent[said == i].sum() / spent.sum() if len(spent) else 0.0
        rows.append([Cell(swatch(GATE[i], colour)), tinted(amount(net[i]), net[i], largest)])
        rows[-1] += [f"{filled[said == i].sum():,}", Cell(f"{share:.1%}", "dim")]
    return "<h3>And by the gate</h3>" + table(["gate", "all", "fills", "of time"], rows)


def regime_note(run: Run) -> str:
    """How to read it."""
    return (
        f"In {escape(run.manifest['currency'])}, after fees and funding. PnL between two bars counts for the "
        "regime known at the first; a position handed over keeps earning under the new one."
    )


def cost_table(run: Run, figures: dict[str, Any]) -> str:
    """Costs in money and against what was traded."""
    notional = (figures["turnover"] or 0.0) * figures["starting_equity"]
    rows: list[list[Cell | str]] = []
    for name, value in (
        ("slippage against mid", figures["slippage"]),
        ("fees", figures["fees"]),
        ("funding", figures["funding"]),
    ):
        bps = f"{value / notional * 1e4:+.2f}" if notional else "n/a"
        rows.append([name, amount(value), Cell(bps, "dim")])
    return table(["- paid, + received", figures["currency"], "bps of traded notional"], rows)


def strategy_table(run: Run, ledger: Ledger, trips: list[RoundTrip], figures: dict[str, Any]) -> str:
    """One row a strategy: result, costs, round trips, execution."""
    contract, slipped = contract_of(run), _slippage_by_strategy(run)
    notional = contract.notional(floats(run.fills, "qty"), floats(run.fills, "price"))
    maker, owner = flags(run.fills, "maker"), np.array(run.fills["strategy"].to_pylist())
    rows: list[list[Cell | str]] = []
    for s, name in enumerate(ledger.strategies):
        mine = [trip for trip in trips if trip.strategy == s]
        own = owner == name if len(owner) else np.zeros(0, bool)
        traded, net = float(notional[own].sum()), figures["pnl_by_strategy"][name]
        held = np.array([trip.closed - trip.opened for trip in mine]) / 1e9
        earned = np.array([trip.net for trip in mine])
        rows.append(
            [
                Cell(swatch(name, SERIES_COLOURS[s % len(SERIES_COLOURS)])),
                Cell(amount(net), "total"),
                amount(float(ledger.gross[:, s].sum())),
                amount(float(ledger.fees[:, s].sum())),
                amount(float(ledger.funding[:, s].sum())),
                f"{len(mine):,}",
                show(_finite(win_rate(mine)), ".1%"),
                show(_finite(profit_factor(mine)), ".2f"),
                amount(float(earned.mean())) if len(mine) else "n/a",
                amount(float(earned.min())) if len(mine) else "n/a",
                _length(float(np.median(held))) if len(mine) else "n/a",
                f"{notional[own & maker].sum() / traded:.0%}" if traded else "n/a",
                f"{slipped[name] / traded * 1e4:+.2f}" if traded else "n/a",
                f"{net / traded * 1e4:+.2f}" if traded else "n/a",
            ]
        )
    names = (
        "strategy,net,gross,fees,funding,trips,win rate,profit factor,mean trip,worst trip,median hold,maker"
    )
    return table([*names.split(","), "slip, bps", "net, bps"], rows)


def funnel(run: Run, figures: dict[str, Any]) -> str:
    """From decisions to fills, and how orders ended."""
    filled = len(pc.unique(run.fills["client_order_id"]))
    steps = [
        ("decisions", figures["decisions"]),
        ("decisions that acted", figures["acted"]),
        ("orders", figures["orders"]),
        ("orders with a fill", filled),
        ("fills", figures["fills"]),
    ]
    # On one scale with all decisions the rest would vanish, so those stand as a number alone.
    largest = max(value for _, value in steps[1:])
    lines = [_bar(name, value, largest if i else 0, GAIN) for i, (name, value) in enumerate(steps)]
    ends = pc.value_counts(run.orders["status"]).to_pylist() if len(run.orders) else []
    ends = sorted(ends, key=lambda item: -item["counts"])
    total = max(len(run.orders), 1)
    rows = [
        [e["values"].lower().replace("_", " "), f"{e['counts']:,}", f"{e['counts'] / total:.1%}"]
        for e in ends
    ]
    return "".join(lines) + ("<p></p>" + table(["orders that ended", "", "of orders"], rows) if rows else "")


def reasons(figures: dict[str, Any]) -> str:
    """Counts of the reasons not to act, the fifteen most frequent."""
    found = list(figures["reasons_not_to_act"].items())
    if not found:
        return "<p class='note'>Every decision acted.</p>"
    largest = found[0][1]
    lines = [_bar(name or "no reason given", count, largest, "var(--axis)") for name, count in found[:15]]
    rest = sum(count for _, count in found[15:])
    if rest:
        lines.append(_bar(f"{len(found) - 15} other reasons", rest, largest, "var(--axis)"))
    return "".join(lines)


def _bar(name: str, value: int, largest: int, colour: str) -> str:
    width = 100 * min(value / largest, 1.0) if largest else 0
    text = escape(name)
    return (
        f"<div class='bar'><b title='{text}'>{text}</b>"
        f"<span style='width:{width:.2f}%;background:{colour}'></span><u>{value:,}</u></div>"
    )


_COLUMNS = "time (UTC),strategy,regime,posterior,volatility,gate,up,down,permit,action,reason,size,bound by"
_COLUMNS += ",position,price,orders"
DECISION_TABLE = (
    "<div id='decisions'><div class='tools'><input type='search' placeholder='search: grid stress exit …' "
    "aria-label='search decisions'><span class='count'></span></div>"
    "<div class='scroll'><table class='left'><thead><tr>"
    + "".join(f"<th>{name}</th>" for name in _COLUMNS.split(","))
    + "</tr></thead><tbody></tbody></table></div>"
    "<div class='tools'><button class='more'>show more</button></div></div>"
)


def decision_note(run: Run) -> str:
    """Which decisions the table holds."""
    count = int(acted(run.decisions).sum())
    kept = f"The latest {ROWS:,} of {count:,}; decisions.parquet has all. " if count > ROWS else ""
    return f"{kept}Click a row to see its moment in the chart."


def decision_rows(run: Run) -> dict[str, Any]:
    """Decisions that acted as texts, with the time (ms) that a click on a row shows."""
    table_ = run.decisions.filter(pa.array(acted(run.decisions)))
    table_ = table_.slice(max(0, len(table_) - ROWS))
    rows = [
        [
            format_time(d["ts"])[:23].replace("T", " ").removesuffix("Z"),
            d["strategy"],
            d["regime"],
            show(d[f"p_{d['regime']}"] if d["regime"] in LABELS[:-1] else None, ".2f"),
            show(d["volatility"], ".3%"),
            "on" if d["risk_on"] else "off",
            show(d["p_up"], ".3f"),
            show(d["p_down"], ".3f"),
            d["permit"] + (f" x{d['size_factor']:g}" if d["size_factor"] not in (None, 1.0) else ""),
            d["action"],
            d["reason"],
            show(d["size"], ".6g"),
            d["bound"],
            show(d["position"], ".6g"),
            show(d["price"], ".8g"),
            d["client_order_ids"],
        ]
        for d in table_.to_pylist()
    ]
    span = run.manifest["end"] - run.manifest["start"]
    return {
        "rows": rows,
        "times": [t // 10**6 for t in table_["ts"].to_pylist()],
        "window": max(span // 60, 1) // 10**6 + 1,
    }


def show(value: float | None, form: str, unit: str = "") -> str:
    """``value`` in its form and unit, or n/a."""
    return "n/a" if value is None or value != value else format(value, form) + unit


def day(ns: int) -> str:
    """A moment to the minute."""
    return format_time(ns)[:16].replace("T", " ")


def _slippage_by_strategy(run: Run) -> dict[str, float]:
    """What each strategy's fills gained on the mid, settlement currency."""
    gain, names = slippage(run), np.array(run.fills["strategy"].to_pylist())
    return {name: float(gain[names == name].sum()) if len(gain) else 0.0 for name in run.strategies}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _length(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
