"""The report of a run: one HTML page with its charts, figures and decisions."""

from pathlib import Path
from typing import Any

import numpy as np

from core.records import RoundTrip
from engine.reports import charts, metrics
from engine.reports.benchmark import Holding, hold
from engine.reports.ledger import Ledger, keep_ledger, round_trips
from engine.reports.metrics import DAY
from engine.reports.page import (
    GAIN,
    GATE_COLOURS,
    LOSS,
    REGIME_COLOURS,
    Cell,
    Page,
    card,
    escape,
    swatch,
    table,
    tile,
)
from engine.reports.run_folder import GATE, LABELS, Run, floats, integers, read_run
from engine.reports.summary import amount, books_differ, liquidation_told, sampled_returns, summarize
from engine.reports.tables import (
    cost_table,
    day,
    decision_list,
    decision_note,
    drawdown_table,
    funnel,
    gate_table,
    month_table,
    reasons,
    regime_note,
    regime_table,
    show,
    side_table,
    strategy_table,
    trip_list,
)

_CAVEATS = (
    "The market does not react: our orders never move the price, other traders never answer them, and size "
    "beyond the recorded book is filled by rule.",
    "Place in the queue, latency and fills are models with settings, not measurements; passive fills are the "
    "least certain of all figures here, and a grid lives on them.",
    "Fees and funding are those of the config and of the data: no tiers, no rebates, no borrowing, no taxes.",
    "Outages, rejected connections, exchange halts and auto-deleveraging are not modelled.",
    "One path of history, and settings chosen by people who had seen markets like it: a Sharpe ratio with a "
    "standard error as wide as itself is no evidence, and a span looked at twice is no longer out of sample.",
)


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into ``run_folder`` and return its path.

    The page holds everything it needs and opens without a network. Equity, price, position, regime and gate
    are in it bar by bar; posterior, volatility and the cumulative lines in at most 40,000 points.
    """
    run = read_run(run_folder)
    figures, ledger, trips, holding = summarize(run), keep_ledger(run), round_trips(run), hold(run)
    page = Page()
    ts = integers(run.equity, "ts")
    long = ts.size and ts[-1] - ts[0] > 60 * DAY
    body = "".join(
        (
            _header(run, figures),
            _banners(run, figures),
            _tiles(run, figures),
            card(
                "The run",
                _legend(run) + page.chart("run", charts.run_figure(page, run, ledger, holding)),
                _run_note(run, holding),
            ),
            card(
                "Net PnL by regime and strategy",
                regime_table(figures) + gate_table(run, ledger),
                regime_note(run),
                wide=False,
            ),
            card("From gross to net", cost_table(figures), _COST_NOTE, wide=False),
            *_cumulative(page, run, ledger),
            card("Return by month", month_table(run)) if long else "",
            *_risk(page, run, figures),
            card("Strategies", strategy_table(run, ledger, trips, figures), _TRIP_NOTE),
            *_trips(page, run, trips, figures),
            card("From bars to fills", funnel(run, figures), wide=False),
            card("Why nothing was done", reasons(figures), _REASON_NOTE, wide=False),
            card("Decisions that acted", decision_list(page, run), decision_note(run)),
            card("What this backtest does not say", _caveats()),
            _provenance(run, figures),
        )
    )
    return page.write(run_folder / "report.html", f"{run.folder.name} · Beaufort", body)


def _cumulative(page: Page, run: Run, ledger: Ledger) -> list[str]:
    return [
        card(
            f"Cumulative net PnL by {by}",
            page.chart(f"by-{by}", charts.cumulative_figure(page, run, ledger, by)),
            wide=False,
        )
        for by in ("strategy", "regime")
    ]


def _risk(page: Page, run: Run, figures: dict[str, Any]) -> list[str]:
    """Worst drawdowns, and rolling figures where the span is long enough for them."""
    ts, equity, start = integers(run.equity, "ts"), floats(run.equity, "equity"), run.manifest["start"]
    known = np.isfinite(equity)
    ts, equity, lowest = ts[known], equity[known], floats(run.equity, "equity_low")[known]
    parts = []
    falls = metrics.worst_drawdowns(ts, equity, run.manifest["starting_equity"], start, lowest)
    returns, period = sampled_returns(run)
    rolled = metrics.rolling(returns, start, period) if period else None
    if rolled is not None:
        unit = "days" if rolled.period == DAY else "hours"
        content = page.chart("rolling", charts.rolling_figure(page, rolled))
        parts.append(card(f"Rolling figures of {rolled.window} {unit}", content, wide=not falls))
    if falls:
        table_ = drawdown_table(falls, int(ts[-1]))
        parts.append(card("Worst drawdowns", table_, _FALL_NOTE, wide=rolled is None))
    return parts


def _trips(page: Page, run: Run, trips: list[RoundTrip], figures: dict[str, Any]) -> list[str]:
    if not trips:
        return []
    drawn = page.chart("trips", charts.trips_figure(trips, run.strategies, figures["currency"]))
    return [
        card("Long and short", side_table(trips), wide=False),
        card("What round trips earned, net", drawn, wide=False),
        card("Round trips", trip_list(page, run, trips), _LIST_NOTE),
    ]


def _legend(run: Run) -> str:
    """What the colours and signs of the chart mean."""
    states = [swatch(name, REGIME_COLOURS[name]) for name in LABELS]
    states += [
        swatch(f"gate {name}", colour) for name, colour in zip(GATE, GATE_COLOURS, strict=True) if colour
    ]
    signs = [
        f"<span style='color:{GAIN}'>▲</span> bought",
        f"<span style='color:{LOSS}'>▼</span> sold",
        *(f"{'▽' if i % 2 else '▼'} {escape(name)}" for i, name in enumerate(run.strategies)),
        "<span style='color:var(--chosen)'>┆</span> the row that was clicked",
    ]
    return f"<div class='legend'>{''.join(f'<span>{item}</span>' for item in [*states, *signs])}</div>"


def _run_note(run: Run, holding: Holding | None) -> str:
    note = (
        "Colours behind lines are the regime that was acted on; where many bars share a pixel, it shows each "
        "one's share. Drag to zoom (axes follow), double-click for all; with the keyboard + - ← → 0. Click a "
        "name to hide it. One marker is one filled order, or the largest of several at one place."
    )
    if holding is None:
        return note
    funding = (
        f"the funding of {holding.settlements} settlements is in it"
        if holding.settlements
        else "the run recorded no funding rate, so none is in it"
    )
    if not holding.equity[-1]:
        lost = int(np.argmax(holding.equity == 0))
        funding += f"; nothing was left from {day(int(integers(run.equity, 'ts')[lost]))}"
    return (
        f"{note} <b>Holding the instrument</b>: starting equity once, bought at the first bar, no fees; "
        f"{funding}: {holding.total:+.2%}."
    )


_COST_NOTE = "Slippage is a part of gross: what fills gave against the mid at the bar's close before them."
_FALL_NOTE = "From the moment the peak was last held to its recovery. Click a row to see it in the chart."
_LIST_NOTE = (
    "From flat to flat, or through zero; what is still open at the end is not here. Click a row to see it in "
    "the chart, a title to sort by it."
)
_TRIP_NOTE = (
    "A round trip goes from flat to flat (or through zero) and is judged after its fees and funding; "
    "slippage is the fill price against the mid at the bar's close before it, drift since then included."
)
_REASON_NOTE = "One count a bar and strategy."


def _header(run: Run, figures: dict[str, Any]) -> str:
    manifest, money = run.manifest, figures["currency"]
    net = figures["net_pnl"]
    standing = "gain" if net > 0 else "loss" if net < 0 else ""
    chips = [
        manifest["instrument"],
        f"{day(manifest['start'])} → {day(manifest['end'])}",
        f"{figures['bars']:,} bars" + (f" of {manifest['bars']}" if "bars" in manifest else ""),
        f"{manifest['mode']} mode",
        f"{figures['events']:,} events in {figures['wall_s']:,.1f} s",
        f"starting equity {manifest['starting_equity']:,.10g} {money}",
    ]
    share = "" if figures["return"] is None else f" ({figures['return']:+.2%})"
    parts = f"gross {amount(figures['gross_pnl'])} · fees {amount(figures['fees'])}"
    return (
        f"<header><div class='head'><h1>{escape(manifest['name'])}</h1><div class='chips'>"
        + "".join(f"<span class='chip'>{escape(text)}</span>" for text in chips)
        + f"</div></div><div class='result'><div class='net {standing}'>"
        f"{escape(amount(net))} {escape(money)}</div><div class='parts'>net{escape(share)} = {parts}"
        f" · funding {amount(figures['funding'])}</div></div></header>"
    )


def _banners(run: Run, figures: dict[str, Any]) -> str:
    messages = []
    if not figures["complete"]:
        last = integers(run.equity, "ts")
        reached = f"It reached {day(int(last[-1]))}." if len(last) else "It recorded no bar."
        messages.append(
            f"<b>Incomplete run.</b> It was stopped before its end. {reached} Figures cover that part only."
        )
    for warning in run.manifest.get("warnings", ()):
        messages.append(f"<b>Warning.</b> {escape(warning[0].upper() + warning[1:])}.")
    if told := liquidation_told(figures):
        messages.append(f"<b>Liquidated.</b> {escape(told)}. Nothing was traded from then on.")
    if not figures["fills"]:
        messages.append("<b>No fills.</b> Nothing was traded; see why nothing was done, below.")
    if differ := books_differ(figures):
        messages.append(f"<b>Books differ.</b> {escape(differ[0].upper() + differ[1:])}.")
    return "".join(f"<div class='banner'>{message}</div>" for message in messages)


def _tiles(run: Run, f: dict[str, Any]) -> str:
    gross_at_mid = f["gross_pnl"] - f["slippage"]
    eaten = -(f["fees"] + f["slippage"] + f["funding"]) / gross_at_mid if gross_at_mid > 0 else None
    notional = f["turnover"] * f["starting_equity"] if f["turnover"] else 0.0
    edge = f["net_pnl"] / notional * 1e4 if notional else None
    error = "" if f["sharpe_error"] is None else f"± {f['sharpe_error']:.1f}"
    ratio = f["sharpe"]
    sampled = {3600: "hourly", 86_400: "daily"}.get(f["sharpe_period_s"] or 0)
    span = f"{sampled} returns, 365 d" if sampled else "needs 20 hours"
    slip = f["slippage_bps"]
    passive = "above -1 bp, positive for makers" + (
        f"; {f['maker_share']:.0%} of volume was maker" if f["maker_share"] is not None else ""
    )
    # Without wins and losses in number no ratio of them is worth a judgement.
    enough = f["round_trips"] >= 30
    return (
        "<div class='tiles'>"
        + tile(
            "Net return",
            show(f["return"], "+.2%"),
            f"above 0 after all costs; holding gave {show(f['holding_return'], '+.2%')}",
            _judge(f["return"], 0, None),
        )
        + tile(
            "Sharpe",
            show(ratio, ".2f"),
            f"1 to 3; above 4 look for an error ({span})",
            _judge(ratio, 1, 4),
            error,
        )
        + tile("Sortino", show(f["sortino"], ".2f"), "1.5 to 6, above Sharpe", _judge(f["sortino"], 1.5, 8))
        + tile(
            "Max drawdown",
            show(f["max_drawdown"], ".2%"),
            "under 10 %",
            _judge(f["max_drawdown"], None, 0.10),
        )
        + tile(
            "Profit factor",
            show(f["profit_factor"], ".2f"),
            "1.2 to 2.5, net of costs",
            _judge(f["profit_factor"], 1.2, 2.5) if enough else "",
        )
        + tile(
            "Win rate",
            show(f["win_rate"], ".1%"),
            "momentum 35 to 50 %, grids 55 to 80 %; alone it says little",
        )
        + tile(
            "Round trips",
            f"{f['round_trips']:,}",
            "100 or more, or the ratios are anecdotes",
            _judge(f["round_trips"], 100, None),
        )
        + tile(
            "Edge per volume",
            show(edge, "+.2f", " bps"),
            "above 0: net PnL on traded notional",
            _judge(edge, 0, None),
        )
        + tile("Eaten by costs", show(eaten, ".0%"), "under 50 % of gross at mid", _judge(eaten, None, 0.5))
        + tile("Slippage", show(slip, "+.2f", " bps"), passive, _judge(slip, -1, None))
        + tile(
            "Turnover", show(f["turnover"], ",.1f", "x"), "of equity; worth what the edge per volume pays for"
        )
        + tile("Time exposed", show(f["exposure_time"], ".0%"), "10 to 70 %: it should wait for its weather")
        + "</div>"
    )


def _caveats() -> str:
    return (
        "<ul>"
        + "".join(f"<li>{escape(text)}</li>" for text in _CAVEATS)
        + "</ul><p>Not financial advice.</p>"
    )


def _provenance(run: Run, figures: dict[str, Any]) -> str:
    manifest = run.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())
    rows = [
        ("run", run.folder.name),
        ("started", manifest["started"]),
        ("fingerprint of decisions and fills", figures["fingerprint"]),
        ("fingerprint of the data", manifest.get("data_fingerprint", "")),
        ("bundles, sha256", ", ".join(f"{n} {h[:16]}" for n, h in manifest.get("bundles", {}).items())),
        ("versions", versions),
    ]
    lines = [[name, Cell(f"<code>{escape(text)}</code>", "wrap")] for name, text in rows if text]
    config = (
        f"<details><summary>resolved config</summary><pre>{escape(run.config)}</pre></details>"
        if run.config
        else ""
    )
    return card("Where this comes from", table(["", ""], lines, "left") + config)


def _judge(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    return "ok" if (low is None or value > low) and (high is None or value < high) else "watch"
