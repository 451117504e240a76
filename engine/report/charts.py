"""Figures of a run, as plotly dicts: what happened over time, what it cost, and how round trips ended."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from engine.report import metrics
from engine.report.decimate import extremes, means, runs
from engine.report.ledger import Ledger, RoundTrip
from engine.report.page import GAIN, LOSS, REGIME_COLOURS, SERIES_COLOURS, Figure, escape, layout
from engine.report.run_folder import GATE, LABELS, Run, flags, floats, gate, integers, regimes
from features.messages import REGIMES

MARKERS = 4_000
"""Most filled orders drawn; the largest by size."""

# Panels of the chart over time: axis, title, height in pixels. One x axis runs through all of them.
_PANELS = (
    ("equity", "Equity, net and gross of fees and funding", 270),
    ("gate", "Gate", 16),
    ("drawdown", "Drawdown, % of the peak", 100),
    ("price", "Price and filled orders", 300),
    ("posterior", "Filtered posterior of the regime", 110),
    ("volatility", "Forecast volatility over the model's horizon, %", 130),
)
_GAP = 34
_LEGEND = 68
_TITLE = 24
_BOTTOM = 42
RUN_HEIGHT = sum(height for _, _, height in _PANELS) + _GAP * (len(_PANELS) - 1) + _LEGEND + _BOTTOM


def run_figure(run: Run, ledger: Ledger) -> Figure:
    """Equity, gate, drawdown, price with orders, posterior and volatility over one time axis."""
    ts, label = integers(run.equity, "ts"), regimes(run.equity)
    starting = run.manifest["starting_equity"]
    equity = floats(run.equity, "equity")
    axes, domains = _axes()
    inner = RUN_HEIGHT - _LEGEND - _BOTTOM
    traces: list[Figure] = []
    for panel in ("equity", "price"):
        traces += _regime_background(ts, label, axes[panel + "_back"], legend=panel == "equity")
    before = starting + np.cumsum(ledger.gross.sum(axis=1))[:-1]
    traces.append(_line(ts, before, axes["equity"], "gross", "$muted", 1.0, ",.6~g"))
    traces.append(_line(ts, equity, axes["equity"], "net", "$ink", 1.7, ",.6~g"))
    traces.append(_flat_line(ts, starting, axes["equity"]))
    # Where there is no model the strip stays empty.
    traces += _bands(ts, gate(run), axes["gate"], GATE[:2], (GAIN, "$muted"), opacity=0.55, legend=True)
    under = -100 * metrics.drawdown(np.where(np.isfinite(equity), equity, starting), starting)
    fall = _line(ts, under, axes["drawdown"], "drawdown", LOSS, 1.2, ".2f")
    traces.append(fall | {"fill": "tozeroy", "fillcolor": "rgba(207,90,42,.18)", "showlegend": False})
    traces.append(
        _line(ts, floats(run.equity, "price"), axes["price"], "price", "$muted", 1.1, ",.8~g")
        | {"showlegend": False}
    )
    traces += _order_markers(run, axes["price"])
    traces += _stage_traces(run.decisions, axes)

    shapes: dict[str, Any] = {}
    for panel, _, _ in _PANELS:
        settings: Figure = {"domain": domains[panel], "anchor": "x", "tickmode": "auto"}
        if panel in ("equity", "price"):
            blank = {
                "domain": domains[panel],
                "anchor": "x",
                "range": [0, 1],
                "visible": False,
                "fixedrange": True,
            }
            shapes[_axis_key(axes[panel + "_back"])] = blank
            settings |= {"overlaying": axes[panel + "_back"], "tickformat": ",.6~g"}
        elif panel == "gate":
            settings |= {"range": [0, 1], "visible": False, "fixedrange": True}
        elif panel == "posterior":
            settings |= {"range": [0, 1], "tickvals": [0, 0.5, 1]}
        elif panel == "drawdown":
            settings |= {"rangemode": "tozero"}
        shapes[_axis_key(axes[panel])] = settings
    titles = [
        {
            "text": f"<b>{title}</b>",
            "x": 0,
            "y": domains[panel][1],
            "xref": "paper",
            "yref": "paper",
            "xanchor": "left",
        }
        | {"yanchor": "bottom", "showarrow": False, "font": {"size": 12, "color": "$ink"}}
        for panel, title, _ in _PANELS
    ]
    span = [run.manifest["start"] // 10**6, int(ts[-1] if len(ts) else run.manifest["end"]) // 10**6]
    xaxis = {
        "type": "date",
        "range": span,
        "anchor": axes["volatility"],
        "showspikes": True,
        "spikemode": "across",
    }
    xaxis |= {"spikethickness": 1, "spikedash": "dot", "spikecolor": "$axis", "spikesnap": "cursor"}
    return {
        "data": traces,
        "layout": layout(
            xaxis=xaxis,
            **shapes,
            annotations=titles,
            hovermode="x",
            hoversubplots="axis",
            # Above the first title; where it takes more rows, on a narrow page, the panels give way.
            legend={"orientation": "h", "x": 0, "y": 1 + _TITLE / inner, "yanchor": "bottom"},
            margin={"l": 70, "r": 16, "t": _LEGEND, "b": _BOTTOM},
            dragmode="zoom",
        ),
    }


def cost_figure(gross: float, slipped: float, fees: float, funding: float) -> Figure:
    """A waterfall from what mid prices gave to the net result."""
    names = ["gross at mid", "slippage", "gross", "fees", "funding", "net"]
    steps = [gross - slipped, slipped, gross, fees, funding, gross + fees + funding]
    kinds = ["absolute", "relative", "total", "relative", "relative", "total"]
    bars = {
        "type": "waterfall",
        "x": names,
        "y": _numbers(np.array(steps)),
        "measure": kinds,
        "text": [_short(step) for step in steps],
        "textposition": "outside",
        "textfont": {"color": "$ink"},
        "cliponaxis": False,
        "hoverinfo": "skip",
        "increasing": {"marker": {"color": GAIN}},
        "decreasing": {"marker": {"color": LOSS}},
        "totals": {"marker": {"color": "$muted"}},
        "connector": {"line": {"color": "$axis", "width": 1}},
    }
    margin = {"l": 64, "r": 12, "t": 26, "b": 40}
    yaxis = {"tickformat": ",.4~g", "zeroline": True}
    return {
        "data": [bars],
        "layout": layout(xaxis={"showgrid": False}, yaxis=yaxis, margin=margin, showlegend=False),
    }


def cumulative_figure(ts: np.ndarray, ledger: Ledger, by: str) -> Figure:
    """Cumulative net PnL of each ``by``, which is ``"strategy"`` or ``"regime"``."""
    times = np.append(ts, ts[-1:] + 1)
    traces = []
    if by == "strategy":
        parts = zip(ledger.strategies, ledger.net.T, itertools.cycle(SERIES_COLOURS), strict=False)
    else:
        earned = ledger.net.sum(axis=1)
        present = [i for i in range(len(LABELS)) if np.any(earned[ledger.regime == i])]
        parts = zip(
            [LABELS[i] for i in present],
            [np.where(ledger.regime == i, earned, 0.0) for i in present],
            [REGIME_COLOURS[LABELS[i]] for i in present],
            strict=True,
        )
    for name, earned, colour in parts:
        traces.append(_line(times, np.cumsum(earned)[: len(times)], "y", name, colour, 1.7, ",.5~g"))
    axes = {"xaxis": {"type": "date"}, "yaxis": {"tickformat": ",.4~g", "zeroline": True}}
    return {
        "data": traces,
        "layout": layout(**axes, margin={"l": 64, "r": 12, "t": 30, "b": 40}, hovermode="x unified"),
    }


def trips_figure(trips: list[RoundTrip], strategies: tuple[str, ...]) -> Figure:
    """Histogram of what round trips earned net, by strategy; one per cent at the ends is clipped."""
    net = np.array([trip.net for trip in trips])
    low, high = np.quantile(net, (0.005, 0.995)) if len(net) else (-1.0, 1.0)
    width = (high - low) / 60 or 1.0
    # A bin edge on zero, so that no bar mixes winners and losers.
    edges = np.arange(np.floor(low / width), np.ceil(high / width) + 1) * width
    traces = []
    for s, name in enumerate(strategies):
        mine = np.clip(net[[trip.strategy == s for trip in trips]], edges[0], edges[-1]) if len(net) else net
        counts, _ = np.histogram(mine, edges)
        traces.append(
            {
                "type": "bar",
                "x": _numbers((edges[:-1] + edges[1:]) / 2),
                "y": counts.tolist(),
                "name": escape(name),
                "width": width,
                "marker": {"color": SERIES_COLOURS[s % len(SERIES_COLOURS)], "opacity": 0.85},
                "hovertemplate": "%{x:,.4~g}: %{y} round trips<extra></extra>",
            }
        )
    axes = {"xaxis": {"tickformat": ",.3~g", "zeroline": True, "showgrid": False}, "yaxis": {}}
    margin = {"l": 48, "r": 12, "t": 30, "b": 40}
    return {"data": traces, "layout": layout(**axes, margin=margin, barmode="stack", showlegend=True)}


def _axes() -> tuple[dict[str, str], dict[str, list[float]]]:
    """The y axis and the domain of each panel; the backgrounds' axes lie under those of their panels."""
    inner = RUN_HEIGHT - _LEGEND - _BOTTOM
    axes, domains, top, number = {}, {}, 0, 1
    for panel, _, height in _PANELS:
        for name in (panel + "_back", panel) if panel in ("equity", "price") else (panel,):
            axes[name] = "y" if number == 1 else f"y{number}"
            number += 1
        domains[panel] = [max(0.0, 1 - (top + height) / inner), 1 - top / inner]
        top += height + _GAP
    return axes, domains


def _axis_key(axis: str) -> str:
    return "yaxis" + axis[1:]


def _line(
    ts: np.ndarray, values: np.ndarray, axis: str, name: str, colour: str, width: float, form: str
) -> Figure:
    at = extremes(values)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _moments(ts[at]),
        "y": _numbers(values[at]),
        "yaxis": axis,
        "name": escape(name),
        "line": {"color": colour, "width": width},
        "hovertemplate": f"%{{y:{form}}}",
    }


def _flat_line(ts: np.ndarray, value: float, axis: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _moments(ts[[0, -1]] if len(ts) else ts),
        "y": [value, value],
        "yaxis": axis,
        "name": "starting equity",
        "hoverinfo": "skip",
        "showlegend": False,
        "line": {"color": "$axis", "width": 1, "dash": "dot"},
    }


def _regime_background(ts: np.ndarray, label: np.ndarray, axis: str, legend: bool) -> list[Figure]:
    colours = tuple(REGIME_COLOURS[name] for name in LABELS)
    return _bands(ts, label, axis, LABELS, colours, opacity=0.24, legend=legend)


def _bands(
    ts: np.ndarray,
    codes: np.ndarray,
    axis: str,
    names: tuple[str, ...],
    colours: tuple[str, ...],
    opacity: float,
    legend: bool,
) -> list[Figure]:
    """One filled trace a code: rectangles over its runs (quicker than shapes, and the legend hides it)."""
    first, end, code = runs(codes)
    limit = np.append(ts, ts[-1:] + (ts[-1:] - ts[-2:-1] if len(ts) > 1 else 0))
    traces = []
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        x: list[int | None] = []
        for a, b in zip(_moments(ts[first[code == i]]), _moments(limit[end[code == i]]), strict=True):
            x += [a, a, b, b, None]
        if x:
            y = [0, 1, 1, 0, None] * (len(x) // 5)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": x,
                    "y": y,
                    "yaxis": axis,
                    "fill": "toself",
                    "fillcolor": colour,
                    "opacity": opacity,
                    "line": {"width": 0, "color": colour},
                    "name": name,
                    "legendgroup": name,
                    "showlegend": legend,
                    "hoverinfo": "skip",
                }
            )
    return traces


def _order_markers(run: Run, axis: str) -> list[Figure]:
    """Filled orders at their average price, a trace by strategy: triangles up bought, down sold."""
    fills = run.fills
    if not len(fills):
        return []
    ids = np.array([name or f"#{i}" for i, name in enumerate(fills["client_order_id"].to_pylist())])
    _, first, order = np.unique(ids, return_index=True, return_inverse=True)
    qty = np.bincount(order, weights=floats(fills, "qty"))
    price = np.bincount(order, weights=floats(fills, "qty") * floats(fills, "price")) / qty
    ts, side = integers(fills, "ts")[first], integers(fills, "side")[first]
    strategy = np.array(fills["strategy"].to_pylist())[first]
    drawn = np.zeros(len(qty), bool)
    drawn[np.argsort(-qty, kind="stable")[:MARKERS]] = True
    traces = []
    for s, name in enumerate(run.strategies):
        at = np.flatnonzero(drawn & (strategy == name))
        at = at[np.argsort(ts[at], kind="stable")]
        if not len(at):
            continue
        bought = (side[at] > 0).tolist()
        outline = "-open" if s % 2 else ""
        marker = {
            "symbol": [("triangle-up" if up else "triangle-down") + outline for up in bought],
            "color": [GAIN if up else LOSS for up in bought],
            "size": 9 if drawn.sum() < 400 else 6.5,
        }
        said = [
            f"{escape(name)} {'buys' if up else 'sells'} {q:.6g}"
            for up, q in zip(bought, qty[at], strict=True)
        ]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": _moments(ts[at]),
                "y": _numbers(price[at]),
                "yaxis": axis,
                "name": escape(f"{name} orders"),
                "text": said,
                "hovertemplate": "%{text} at %{y:,.8~g}<extra></extra>",
                "marker": marker,
            }
        )
    return traces


def _stage_traces(decisions: pa.Table, axes: dict[str, str]) -> list[Figure]:
    """Posterior and volatility, which every strategy's decision of a bar repeats."""
    ts = integers(decisions, "ts")
    once = np.flatnonzero(np.concatenate(([True], ts[1:] != ts[:-1]))) if len(ts) else ts
    posterior = np.column_stack([floats(decisions, f"p_{name}")[once] for name in REGIMES])
    at, mean = means(posterior)
    traces: list[Figure] = []
    for i, name in enumerate(REGIMES):
        colour = REGIME_COLOURS[name]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": _moments(ts[once][at]),
                "y": _numbers(mean[:, i], 4),
                "yaxis": axes["posterior"],
                "stackgroup": "posterior",
                "name": name,
                "legendgroup": name,
                "showlegend": False,
                "line": {"width": 0, "color": colour},
                "fillcolor": colour,
                "hovertemplate": f"{name} %{{y:.0%}}<extra></extra>",
            }
        )
    volatility = 100 * floats(decisions, "volatility")[once]
    traces.append(_line(ts[once], volatility, axes["volatility"], "volatility", "#7c5fd3", 1.2, ".3f"))
    traces[-1]["showlegend"] = False
    off = np.where(flags(decisions, "risk_on")[once], np.nan, volatility)
    shaded = _line(ts[once], off, axes["volatility"], "volatility while risk-off", LOSS, 2.0, ".3f")
    return [
        *traces,
        shaded | {"hoverinfo": "skip", "hovertemplate": None, "connectgaps": False, "showlegend": False},
    ]


def _moments(ts: np.ndarray) -> list[int]:
    return (ts // 10**6).tolist()


def _numbers(values: np.ndarray, digits: int = 8) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]


def _short(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"
