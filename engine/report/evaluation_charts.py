"""Figures of the evaluation page, as plotly dicts."""

import math

import numpy as np

from engine.report.decimate import extremes, means, runs
from engine.report.page import LOSS, REGIME_COLOURS, SERIES_COLOURS, Figure, escape, layout
from engine.report.results import ConfidenceDecile, ReliabilityBin, SeedAccuracy, Timeline, VolatilitySeries
from features.messages import REGIMES


def timeline_figure(t: Timeline) -> Figure:
    """The price over the label as background, and the truth as a strip below."""
    ts, price = np.asarray(t["ts"], np.int64), np.asarray(t["price"], float)
    traces = _strips(ts, np.asarray(t["label"], int), "y", 0.28, legend=True)
    if "truth" in t:
        traces += _strips(ts, np.asarray(t["truth"], int), "y3", 0.95, legend=False)
    at = extremes(price)
    line: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": (ts[at] // 10**6).tolist(),
        "y": _numbers(price[at]),
    }
    line |= {"yaxis": "y2", "name": "price", "line": {"color": "$ink", "width": 1.2}, "showlegend": False}
    traces.append(line)
    blank = {"range": [0, 1], "visible": False, "fixedrange": True}
    upper = [0.1, 1.0] if "truth" in t else [0.0, 1.0]
    return {
        "data": traces,
        "layout": layout(
            xaxis={"type": "date", "anchor": "y3" if "truth" in t else "y", "showgrid": False},
            yaxis={**blank, "domain": upper},
            yaxis2={"overlaying": "y", "tickmode": "auto", "tickformat": ",.6~g"},
            yaxis3={**blank, "domain": [0, 0.065], "anchor": "x"},
            margin={"l": 70, "r": 12, "t": 30, "b": 40},
        ),
    }


def _strips(ts: np.ndarray, codes: np.ndarray, axis: str, opacity: float, legend: bool) -> list[Figure]:
    first, end, code = runs(np.where(codes < 0, len(REGIMES), codes))
    moments = (np.append(ts, ts[-1:]) // 10**6).tolist()
    traces: list[Figure] = []
    for i, name in enumerate(REGIMES):
        x: list[int | None] = []
        for a, b in zip(first[code == i].tolist(), end[code == i].tolist(), strict=True):
            x += [moments[a], moments[a], moments[b], moments[b], None]
        colour = REGIME_COLOURS[name]
        strip: Figure = {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": [0, 1, 1, 0, None] * (len(x) // 5),
            "yaxis": axis,
        }
        strip |= {
            "fill": "toself",
            "fillcolor": colour,
            "opacity": opacity,
            "line": {"width": 0, "color": colour},
        }
        traces.append(strip | {"name": name, "showlegend": legend, "legendgroup": name, "hoverinfo": "skip"})
    return traces


def seeds_figure(seeds: list[SeedAccuracy]) -> Figure:
    """Accuracy of fitted and of true parameters, a pair of dots a seed."""
    x = [str(s["seed"]) for s in seeds]
    dots: list[Figure] = []
    for key, name, colour in (
        ("reference", "true parameters", "$muted"),
        ("accuracy", "fitted", SERIES_COLOURS[0]),
    ):
        y = [s[key] for s in seeds]  # type: ignore[literal-required]
        marker = {"size": 10, "color": colour}
        dots.append({"type": "scatter", "mode": "markers", "x": x, "y": y, "name": name, "marker": marker})
    line: Figure = {"type": "scatter", "mode": "lines", "x": x, "y": [0.95 * s["reference"] for s in seeds]}
    line |= {"name": "0.95 of it", "line": {"color": LOSS, "width": 1.5, "dash": "dot", "shape": "hvh"}}
    axes = {"xaxis": {"type": "category", "title": {"text": "seed"}}, "yaxis": {"tickformat": ".0%"}}
    return {"data": [*dots, line], "layout": layout(**axes, margin={"l": 52, "r": 12, "t": 30, "b": 44})}


def lags_figure(lags: np.ndarray) -> Figure:
    """Histogram of bars from a true switch to its label."""
    top = max(float(np.quantile(lags, 0.98, method="higher")), 1.0)
    # Lags are whole bars: a bin holds as many of them, and lies about them.
    width = math.ceil((top + 1) / 40)
    counts, edges = np.histogram(np.minimum(lags, top), bins=np.arange(-0.5, top + width, width))
    bars: Figure = {"type": "bar", "x": _numbers((edges[:-1] + edges[1:]) / 2), "y": counts.tolist()}
    bars |= {"marker": {"color": SERIES_COLOURS[0]}, "hovertemplate": "%{y} switches<extra></extra>"}
    axes = {"xaxis": {"title": {"text": "bars"}, "showgrid": False}, "yaxis": {"title": {"text": "switches"}}}
    return {
        "data": [bars],
        "layout": layout(**axes, margin={"l": 52, "r": 12, "t": 12, "b": 44}, bargap=0.08),
    }


def model_colours(models: list[str]) -> dict[str, str]:
    """A colour for each model, in their order."""
    return {model: SERIES_COLOURS[i % len(SERIES_COLOURS)] for i, model in enumerate(models)}


def calibration_figure(series: VolatilitySeries, colours: dict[str, str]) -> Figure:
    """Mean realized volatility by twentieths of each forecast."""
    realized = 100 * np.asarray(series["realized"], float)
    traces: list[Figure] = []
    reach: list[float] = []
    for model, values in series["forecasts"].items():
        forecast = 100 * np.asarray(values, float)
        known = np.isfinite(forecast) & np.isfinite(realized)
        order = np.argsort(forecast[known], kind="stable")
        groups = [g for g in np.array_split(order, 20) if len(g)]
        # Volatilities average as variances.
        x = np.array([math.sqrt(np.mean(forecast[known][g] ** 2)) for g in groups])
        y = np.array([math.sqrt(np.mean(realized[known][g] ** 2)) for g in groups])
        reach += [*x, *y]
        style = {"color": colours.get(model, "$muted"), "width": 1.4}
        trace: Figure = {
            "type": "scatter",
            "mode": "lines+markers",
            "x": _numbers(x),
            "y": _numbers(y),
            "line": style,
        }
        traces.append(trace | {"name": escape(model), "marker": {"size": 5}})
    if reach:
        ends = [min(reach), max(reach)]
        diagonal: Figure = {
            "type": "scatter",
            "mode": "lines",
            "x": _numbers(np.array(ends)),
            "y": _numbers(np.array(ends)),
        }
        style = {"color": "$axis", "dash": "dot", "width": 1.2}
        traces.append(diagonal | {"line": style, "showlegend": False, "hoverinfo": "skip"})
    log = {"type": "log", "tickformat": ".2~g", "dtick": "D2"}
    axes = {
        "xaxis": {**log, "title": {"text": "forecast, %"}},
        "yaxis": {**log, "title": {"text": "realized, %"}},
    }
    return {"data": traces, "layout": layout(**axes, margin={"l": 60, "r": 12, "t": 30, "b": 44})}


def series_figure(series: VolatilitySeries, colours: dict[str, str]) -> Figure:
    """Realized and forecast volatility over time."""
    ts = np.asarray(series["ts"], np.int64)
    drawn = {"realized": ("$axis", 1.0, series["realized"])}
    drawn |= {
        model: (colours.get(model, "$muted"), 1.4, values) for model, values in series["forecasts"].items()
    }
    traces: list[Figure] = []
    for name, (colour, width, values) in drawn.items():
        # Means of variances by stretch: the extremes of a realized measure are its noise.
        at, mean = means(np.asarray(values, float)[:, None] ** 2, points=1_000)
        y = 100 * np.sqrt(mean[:, 0])
        trace: Figure = {
            "type": "scatter",
            "mode": "lines",
            "x": (ts[at] // 10**6).tolist(),
            "y": _numbers(y),
        }
        traces.append(trace | {"name": escape(name), "line": {"color": colour, "width": width}})
    axes = {"xaxis": {"type": "date"}, "yaxis": {"type": "log", "tickformat": ".2~g", "dtick": "D2"}}
    margin = {"l": 60, "r": 12, "t": 30, "b": 40}
    return {"data": traces, "layout": layout(**axes, margin=margin, hovermode="x unified")}


def reliability_figure(reliability: dict[str, list[ReliabilityBin]]) -> Figure:
    """Forecast probability against the share that came true."""
    reach = max(
        (max(b["forecast"], b["observed"]) for bins in reliability.values() for b in bins), default=1.0
    )
    traces: list[Figure] = [
        {"type": "scatter", "mode": "lines", "x": [0, reach], "y": [0, reach], "showlegend": False}
        | {"line": {"color": "$axis", "dash": "dot", "width": 1.2}, "hoverinfo": "skip"}
    ]
    for i, (side, bins) in enumerate(reliability.items()):
        most = max((b["count"] for b in bins), default=1)
        sizes = [5 + 13 * math.sqrt(b["count"] / most) for b in bins]
        x, y = [b["forecast"] for b in bins], [b["observed"] for b in bins]
        trace: Figure = {"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "name": escape(side)}
        style = {
            "marker": {"size": sizes, "opacity": 0.85},
            "line": {"color": SERIES_COLOURS[i], "width": 1.5},
        }
        hover: Figure = {
            "text": [f"{b['count']:,}" for b in bins],
            "hovertemplate": "said %{x:.3f}, came %{y:.3f}, n = %{text}",
        }
        traces.append(trace | style | hover)
    axes = {
        "xaxis": {"title": {"text": "forecast probability"}},
        "yaxis": {"title": {"text": "share that came true"}},
    }
    return {"data": traces, "layout": layout(**axes, margin={"l": 60, "r": 12, "t": 30, "b": 44})}


def deciles_figure(deciles: list[ConfidenceDecile], cost: float) -> Figure:
    """Net return and hit rate by tenth of confidence."""
    x = [f"{d['confidence']:.3f}" for d in deciles]
    net = [d["net_bps"] for d in deciles]
    colours = [SERIES_COLOURS[0] if value > 0 else LOSS for value in net]
    bars = {
        "type": "bar",
        "x": list(range(1, len(x) + 1)),
        "y": net,
        "name": "net, bps",
        "marker": {"color": colours},
    }
    bars |= {
        "text": x,
        "textposition": "none",
        "hovertemplate": "confidence %{text}: %{y:.2f} bps<extra></extra>",
    }
    hits: Figure = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": bars["x"],
        "y": [d["hit_rate"] for d in deciles],
    }
    hits |= {
        "name": "hit rate (right)",
        "yaxis": "y2",
        "line": {"color": "$ink", "width": 1.5},
        "marker": {"size": 6},
    }
    return {
        "data": [bars, hits],
        "layout": layout(
            xaxis={"title": {"text": "tenth by confidence (10 = most sure)"}, "dtick": 1, "showgrid": False},
            yaxis={"title": {"text": f"net, costs of {cost:g} bps included"}, "zeroline": True},
            yaxis2={
                "overlaying": "y",
                "side": "right",
                "tickformat": ".0%",
                "showgrid": False,
                "tickmode": "auto",
            },
            margin={"l": 60, "r": 52, "t": 30, "b": 44},
        ),
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]
