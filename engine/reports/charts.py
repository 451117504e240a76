"""Charts of a run, as plain dicts that the page's script draws: what happened over time, and why.

A figure has one x axis (``"time"`` in ms, ``"number"`` or ``"log"``) and panels one above the other. A panel
draws ``series`` (lines, steps, bars or dots), may lay a state's colours behind them (``back``), or is a
``strip`` of a state's shares or a ``stack`` of probabilities. Numbers are lists or names of ``Columns``.
Colours that begin with ``$`` are the theme's.
"""

import itertools
from typing import Any

import numpy as np

from core.messages import REGIMES
from core.records import RoundTrip
from engine.reports import metrics
from engine.reports.benchmark import Holding
from engine.reports.columns import Columns
from engine.reports.decimate import lasts, least, means
from engine.reports.ledger import Ledger
from engine.reports.page import GAIN, GATE_COLOURS, LOSS, REGIME_COLOURS, SERIES_COLOURS, Figure, Page
from engine.reports.run_folder import GATE, LABELS, Run, floats, gate, integers, regimes

_BARS = "bars.ts"
_LIGHT = 0.22  # of a regime's colour behind a line


def run_figure(page: Page, run: Run, ledger: Ledger, holding: Holding | None) -> Figure:
    """Equity, regime, gate, drawdown, position, price with orders, posterior and volatility over the bars."""
    columns, ts = page.columns, integers(run.equity, "ts")
    columns.add(_BARS, ts // 10**6)
    equity = floats(run.equity, "equity")
    columns.add("bars.equity", equity)
    paid = (ledger.fees + ledger.funding).sum(axis=1)
    columns.add("bars.paid", np.cumsum(paid)[:-1])
    columns.add("bars.price", floats(run.equity, "price"))
    columns.add("bars.position", floats(run.equity, "position"))
    columns.add("bars.regime", regimes(run.equity).astype(np.int64))
    columns.add("bars.gate", gate(run).astype(np.int64))
    page.derived["bars.gross"] = ["difference", "bars.equity", "bars.paid"]
    low, below = floats(run.equity, "equity_low"), np.zeros(len(ts))
    at = least(low)
    below[at] = (equity - low)[at]
    columns.add("bars.below", np.nan_to_num(below), bits=10)
    page.derived["bars.drawdown"] = ["drawdown", "bars.equity", "bars.below", run.manifest["starting_equity"]]
    page.derived["bars.long"] = ["positive", "bars.position"]
    page.derived["bars.short"] = ["negative", "bars.position"]
    lines = [
        _series("net", "bars.equity", "$ink", width=1.7),
        _series("gross", "bars.gross", "$muted", width=1.0),
    ]
    loose = None
    if holding is not None:
        loose = "bars.holding"
        columns.add("bars.received", holding.received)
        page.derived["bars.holding"] = ["holding", "bars.price", "bars.received", *holding.terms]
        lines.append(_series("holding the instrument", "bars.holding", "#7c5fd3", width=1.0, dash=[4, 3]))
    states = {"codes": "bars.regime", "names": LABELS, "colours": [REGIME_COLOURS[name] for name in LABELS]}
    back = {**states, "strength": _LIGHT}
    unit = f" {run.manifest['currency']}"
    panels = [
        _panel(f"Equity,{unit}", 250, lines, back=back, labels=True, loose=loose),
        _panel("Regime", 22, strip=states),
        _panel("Gate", 22, strip={"codes": "bars.gate", "names": GATE, "colours": GATE_COLOURS}),
        _panel(
            "Drawdown, % of the peak",
            100,
            [_series("drawdown", "bars.drawdown", LOSS, width=1.2, fill=True)],
            most=0,
            figures=3,
        ),
        _panel(
            "Position, contracts",
            110,
            [
                _series("long", "bars.long", GAIN, kind="step", fill=True, width=1.0),
                _series("short", "bars.short", LOSS, kind="step", fill=True, width=1.0),
            ],
            zero=True,
        ),
        _panel(
            "Price and filled orders",
            280,
            [_series("price", "bars.price", "$ink", width=1.1)],
            back=back,
            marks=_order_marks(columns, run),
            labels=True,
            figures=9,
        ),
        *_stage_panels(columns, run),
    ]
    panels[-1]["labels"] = True
    end = int(ts[-1]) if len(ts) else run.manifest["end"]
    events = [
        {"from": row["ts"] // 10**6, "to": row["ts"] // 10**6, "label": "liquidated", "colour": LOSS}
        for row in run.liquidations.to_pylist()
    ]
    span = [run.manifest["start"] // 10**6, end // 10**6]
    return {"x": "time", "range": span, "panels": panels, "events": events}


def cumulative_figure(page: Page, run: Run, ledger: Ledger, by: str) -> Figure:
    """Cumulative net PnL of each ``by``, which is ``"strategy"`` or ``"regime"``."""
    ts = integers(run.equity, "ts")
    # The last row lies after the last bar, the first before the first one.
    times = np.append(ts, ts[-1:] + 10**6)
    at = lasts(len(times))
    x = page.columns.add(f"{by}.ts", times[at] // 10**6)
    if by == "strategy":
        parts = list(zip(ledger.strategies, ledger.net.T, itertools.cycle(SERIES_COLOURS), strict=False))
    else:
        earned = ledger.net.sum(axis=1)
        present = [i for i in range(len(LABELS)) if np.any(earned[ledger.regime == i])]
        parts = [
            (LABELS[i], np.where(ledger.regime == i, earned, 0.0), REGIME_COLOURS[LABELS[i]]) for i in present
        ]
    series = []
    for i, (name, earned, colour) in enumerate(parts):
        y = page.columns.add(f"{by}.{i}", np.cumsum(earned)[: len(times)][at])
        series.append(_series(name, y, colour))
    panel = _panel("", 230, series, x=x, labels=True, zero=True)
    return {"x": "time", "range": _ends(times), "panels": [panel]}


def rolling_figure(page: Page, rolled: metrics.Rolling) -> Figure:
    """Rolling Sharpe ratio, return and drawdown."""
    x = page.columns.add("rolling.ts", rolled.ts // 10**6)
    panels = []
    for name, title, values, colour in (
        ("sharpe", "Sharpe ratio, annualised", rolled.sharpe, SERIES_COLOURS[1]),
        ("return", "Return, %", 100 * rolled.total, SERIES_COLOURS[0]),
        ("drawdown", "Deepest drawdown within, %", -100 * rolled.drawdown, LOSS),
    ):
        y = page.columns.add(f"rolling.{name}", values)
        line = _series(title.split(",")[0].lower(), y, colour, fill=name == "drawdown")
        panels.append(_panel(title, 110, [line], x=x, zero=True, figures=3))
    panels[-1]["labels"] = True
    return {"x": "time", "range": _ends(rolled.ts), "panels": panels}


def trips_figure(trips: list[RoundTrip], strategies: tuple[str, ...], currency: str) -> Figure:
    """Histogram of what round trips earned net, strategies stacked; one per cent at the ends is clipped."""
    net = np.array([trip.net_pnl for trip in trips])
    low, high = np.quantile(net, (0.005, 0.995)) if len(net) else (-1.0, 1.0)
    width = (high - low) / 60 or 1.0
    # A bin edge on zero, so that no bar mixes winners and losers.
    edges = np.arange(np.floor(low / width), np.ceil(high / width) + 1) * width
    below = np.zeros(len(edges) - 1, np.int64)
    series = []
    for s, name in enumerate(strategies):
        mine = (
            np.clip(net[[trip.strategy == name for trip in trips]], edges[0], edges[-1]) if len(net) else net
        )
        below = below + np.histogram(mine, edges)[0]
        stacked = [int(value) or None for value in below.tolist()]
        series.append(_series(name, stacked, SERIES_COLOURS[s % len(SERIES_COLOURS)], kind="bars"))
    # The tallest is drawn first, so that each shows what it adds.
    centres = ((edges[:-1] + edges[1:]) / 2).tolist()
    panel = _panel("Round trips", 220, series[::-1], x=centres, labels=True, zero=True)
    return {
        "x": "number",
        "label": f"net, {currency}",
        "pad": 0.6 / max(len(centres) - 1, 1),
        "panels": [panel],
    }


def _panel(title: str, height: int, series: list[Figure] | None = None, **more: Any) -> Figure:
    panel = {"title": title, "height": height, "x": _BARS, **more}
    return panel if series is None else {**panel, "series": series}


def _series(name: str, y: str | list[Any], colour: str, **more: Any) -> Figure:
    return {"name": name, "y": y, "colour": colour, **more}


def _ends(ts: np.ndarray) -> list[int]:
    return [int(ts[0]) // 10**6, int(ts[-1]) // 10**6] if len(ts) else [0, 1]


def _order_marks(columns: Columns, run: Run) -> Figure | None:
    """Filled orders at their average price, each at the time of its first fill."""
    fills = run.fills
    if not len(fills):
        return None
    ids = np.array([name or f"#{i}" for i, name in enumerate(fills["client_order_id"].to_pylist())])
    _, first, order = np.unique(ids, return_index=True, return_inverse=True)
    qty = np.bincount(order, weights=floats(fills, "qty"))
    price = np.bincount(order, weights=floats(fills, "qty") * floats(fills, "price")) / qty
    ts = integers(fills, "ts")[first]
    by_time = np.argsort(ts, kind="stable")
    names = run.strategies
    who = np.array([names.index(name) for name in np.array(fills["strategy"].to_pylist())[first]])
    marks: Figure = {"names": names, "bought": GAIN, "sold": LOSS}
    for key, values in (
        ("x", ts // 10**6),
        ("y", price),
        ("side", integers(fills, "side")[first]),
        ("who", who),
        ("qty", qty),
    ):
        marks[key] = columns.add(f"orders.{key}", values[by_time])
    return marks


def _stage_panels(columns: Columns, run: Run) -> list[Figure]:
    """Posterior and volatility, which every strategy's decision of a bar repeats."""
    ts = integers(run.decisions, "ts")
    once = np.flatnonzero(np.concatenate(([True], ts[1:] != ts[:-1]))) if len(ts) else ts
    read = [floats(run.decisions, f"p_{name}")[once] for name in REGIMES]
    at, mean = means(np.column_stack([*read, 100 * floats(run.decisions, "volatility")[once]]))
    x = columns.add("stages.ts", ts[once][at] // 10**6)
    # A part in 250 is more than a strip of pixels shows.
    parts = [columns.add(f"stages.{n}", np.round(mean[:, i] * 250) / 250) for i, n in enumerate(REGIMES)]
    colours = [REGIME_COLOURS[name] for name in REGIMES]
    stack = {"columns": parts, "names": REGIMES, "colours": colours}
    volatility = columns.add("stages.volatility", mean[:, -1])
    return [
        _panel("Filtered posterior of the regime", 90, x=x, stack=stack),
        _panel(
            "Forecast volatility over the model's horizon, %",
            110,
            [_series("volatility", volatility, "#7c5fd3", width=1.2)],
            x=x,
            figures=4,
        ),
    ]
