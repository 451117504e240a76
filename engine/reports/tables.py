"""Tables of a run's report: PnL by regime, strategy and gate, costs, orders, reasons, decisions."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.records import RoundTrip
from core.settings import format_time
from engine.reports.ledger import Ledger, contract_of, slippage
from engine.reports.metrics import Drawdown, durations, profit_factor, win_rate
from engine.reports.page import (
    GAIN,
    GATE_COLOURS,
    LOSS,
    REGIME_COLOURS,
    SERIES_COLOURS,
    Cell,
    Page,
    escape,
    swatch,
    table,
    tinted,
)
from engine.reports.run_folder import GATE, LABELS, Run, acted, flags, floats, gate, integers
from engine.reports.summary import amount

ROWS = 4_000
"""Most rows of a list on the page; the run's tables have all of them."""


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
    for i, colour in zip(present, (*GATE_COLOURS[:2], "var(--line)"), strict=False):
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


def cost_table(figures: dict[str, Any]) -> str:
    """From what mid prices gave to the net result, in money and against what was traded."""
    notional = (figures["turnover"] or 0.0) * figures["starting_equity"]
    slipped, gross = figures["slippage"], figures["gross_pnl"]
    steps = [  # where each bar begins, how far it goes
        ("gross at mid", 0.0, gross - slipped),
        ("slippage", gross - slipped, slipped),
        ("gross", 0.0, gross),
        ("fees", gross, figures["fees"]),
        ("funding", gross + figures["fees"], figures["funding"]),
        ("net", 0.0, figures["net_pnl"]),
    ]
    ends = [0.0, *(begin + value for _, begin, value in steps)]
    low, reach = min(ends), (max(ends) - min(ends)) or 1.0
    rows: list[list[Cell | str]] = []
    for name, begin, value in steps:
        left, width = (min(begin, begin + value) - low) / reach, abs(value) / reach
        colour = "var(--axis)" if name in ("gross at mid", "gross", "net") else GAIN if value > 0 else LOSS
        bar = f"<span style='margin-left:{left:.2%};width:{width:.2%};background:{colour}'></span>"
        bps = f"{value / notional * 1e4:+.2f}" if notional else "n/a"
        total = "total" if name in ("gross", "net") else ""
        rows.append([Cell(name, total), Cell(bar, "step"), Cell(amount(value), total), Cell(bps, "dim")])
    return table(["- paid, + received", "", figures["currency"], "bps of traded notional"], rows)


def strategy_table(run: Run, ledger: Ledger, trips: list[RoundTrip], figures: dict[str, Any]) -> str:
    """One row a strategy: result, costs, round trips, execution."""
    contract, slipped = contract_of(run), _slippage_by_strategy(run)
    notional = contract.notional(floats(run.fills, "qty"), floats(run.fills, "price"))
    maker, owner = flags(run.fills, "maker"), np.array(run.fills["strategy"].to_pylist())
    rows: list[list[Cell | str]] = []
    for s, name in enumerate(ledger.strategies):
        mine = [trip for trip in trips if trip.strategy == name]
        own = owner == name if len(owner) else np.zeros(0, bool)
        traded, net = float(notional[own].sum()), figures["pnl_by_strategy"][name]
        held = np.array([trip.closed - trip.opened for trip in mine]) / 1e9
        earned = np.array([trip.net_pnl for trip in mine])
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
                length(float(np.median(held))) if len(mine) else "n/a",
                f"{notional[own & maker].sum() / traded:.0%}" if traded else "n/a",
                f"{slipped[name] / traded * 1e4:+.2f}" if traded else "n/a",
                f"{net / traded * 1e4:+.2f}" if traded else "n/a",
            ]
        )
    names = (
        "strategy,net,gross,fees,funding,trips,win rate,profit factor,mean trip,worst trip,median hold,maker"
    )
    return table([*names.split(","), "slip, bps", "net, bps"], rows)


def side_table(trips: list[RoundTrip]) -> str:
    """Round trips long and short apart."""
    sides = [[trip for trip in trips if trip.side == side] for side in (1, -1)]
    nets = [sum(trip.net_pnl for trip in mine) for mine in sides]
    largest = max(map(abs, nets))
    holds = [[(trip.closed - trip.opened) / 1e9 for trip in mine] for mine in sides]
    rows: list[list[Cell | str]] = [
        ["round trips", *(f"{len(mine):,}" for mine in sides)],
        ["net", *(tinted(amount(net), net, largest) for net in nets)],
        ["gross", *(amount(sum(trip.gross_pnl for trip in mine)) for mine in sides)],
        ["fees", *(amount(sum(trip.fees for trip in mine)) for mine in sides)],
        ["funding", *(amount(sum(trip.funding for trip in mine)) for mine in sides)],
        ["win rate", *(show(_finite(win_rate(mine)), ".1%") for mine in sides)],
        ["profit factor", *(show(_finite(profit_factor(mine)), ".2f") for mine in sides)],
        ["mean trip", *(amount(n / len(m)) if m else "n/a" for n, m in zip(nets, sides, strict=True))],
        ["worst trip", *(amount(min(trip.net_pnl for trip in mine)) if mine else "n/a" for mine in sides)],
        ["median hold", *(length(float(np.median(held))) if held else "n/a" for held in holds)],
    ]
    return table(["", "long", "short"], rows)


def drawdown_table(falls: list[Drawdown], end: int) -> str:
    """The deepest drawdowns; one that had not recovered lasts until ``end`` (ns)."""
    rows: list[list[Cell | str]] = []
    spans = []
    for fall in falls:
        until = end if fall.recovered is None else fall.recovered
        rows.append(
            [
                Cell(f"{fall.depth:.2%}", "total"),
                day(fall.start),
                day(fall.trough),
                "not yet" if fall.recovered is None else day(fall.recovered),
                length((fall.trough - fall.start) / 1e9),
                length((until - fall.start) / 1e9),
            ]
        )
        spans.append((fall.start // 10**6, until // 10**6, f"drawdown of {fall.depth:.2%}"))
    return table(["depth", "start", "trough", "recovered", "to the trough", "length"], rows, spans=spans)


def trip_list(page: Page, run: Run, trips: list[RoundTrip]) -> str:
    """Every closed round trip, the latest ``ROWS``."""
    kept = trips[-ROWS:]
    rows = [
        [
            _second(t.opened),
            _second(t.closed),
            t.strategy,
            "long" if t.side > 0 else "short",
            length((t.closed - t.opened) / 1e9),
            *(amount(value) for value in (t.net_pnl, t.gross_pnl, t.fees, t.funding)),
        ]
        for t in kept
    ]
    spans = [
        (
            t.opened // 10**6,
            t.closed // 10**6,
            f"{t.strategy} {'long' if t.side > 0 else 'short'}, net {amount(t.net_pnl)}",
        )
        for t in kept
    ]
    header = ["opened (UTC)", "closed", "strategy", "side", "held", "net", "gross", "fees", "funding"]
    return page.rows("trips-list", header, rows, spans, _pad(run))


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
    parts = ["".join(lines)]
    if rows:
        parts.append(table(["orders that ended", "", "of orders"], rows))
    for title, found in (
        ("orders refused, by reason", figures["orders_refused"]),
        ("changes of orders refused", figures["changes_refused"]),
    ):
        if found:
            parts.append(table([title, ""], [[reason, f"{count:,}"] for reason, count in found.items()]))
    return "<p></p>".join(parts)


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


def decision_note(run: Run) -> str:
    """Which decisions the table holds."""
    count = int(acted(run.decisions).sum())
    kept = f"The latest {ROWS:,} of {count:,}; decisions.parquet has all. " if count > ROWS else ""
    return f"{kept}Click a row to see its moment in the chart, a title to sort by it."


def decision_list(page: Page, run: Run) -> str:
    """Decisions that acted, the latest ``ROWS``."""
    table_ = run.decisions.filter(pa.array(acted(run.decisions)))
    table_ = table_.slice(max(0, len(table_) - ROWS))
    rows, spans = [], []
    for d in table_.to_pylist():
        factor = "" if d["size_factor"] in (None, 1.0) else f" x{d['size_factor']:g}"
        rows.append(
            [
                format_time(d["ts"])[:23].replace("T", " ").removesuffix("Z"),
                d["strategy"],
                d["regime"],
                show(d[f"p_{d['regime']}"] if d["regime"] in LABELS[:-1] else None, ".2f"),
                show(d["volatility"], ".3%"),
                "on" if d["risk_on"] else "off",
                show(d["p_up"], ".3f"),
                show(d["p_down"], ".3f"),
                d["permit"] + factor,
                d["action"],
                d["reason"],
                show(d["size"], ".6g"),
                d["bound"],
                show(d["position"], ".6g"),
                show(d["price"], ".8g"),
                d["client_order_ids"],
            ]
        )
        at = d["ts"] // 10**6
        spans.append((at, at, f"{d['strategy']}: {d['action']}"))
    return page.rows("decisions", _COLUMNS.split(","), rows, spans, _pad(run))


def show(value: float | None, form: str, unit: str = "") -> str:
    """``value`` in its form and unit, or n/a."""
    return "n/a" if value is None or value != value else format(value, form) + unit


def _pad(run: Run) -> int:
    """Sixty bars in ms: what a click on a row shows on either side of its moment."""
    gaps = np.diff(integers(run.equity, "ts"))
    return int(60 * np.median(gaps)) // 10**6 + 1 if len(gaps) else 60_000


def _second(ns: int) -> str:
    return format_time(ns)[:19].replace("T", " ")


def day(ns: int) -> str:
    """A moment to the minute."""
    return format_time(ns)[:16].replace("T", " ")


def _slippage_by_strategy(run: Run) -> dict[str, float]:
    """What each strategy's fills gained on the mid, settlement currency."""
    gain, names = slippage(run), np.array(run.fills["strategy"].to_pylist())
    return {name: float(gain[names == name].sum()) if len(gain) else 0.0 for name in run.strategies}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def length(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
