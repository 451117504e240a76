"""Charts of the evaluation page, as plain dicts (see ``charts.py``)."""

import math
from collections.abc import Mapping

import numpy as np

from core.messages import REGIMES
from engine.reports.decimate import means
from engine.reports.page import LOSS, REGIME_COLOURS, SERIES_COLOURS, Figure, Page
from engine.reports.results import ConfidenceDecile, ReliabilityBin, SeedAccuracy, Timeline, VolatilitySeries

_SERIES_POINTS = 20_000


def timeline_figure(page: Page, t: Timeline) -> Figure:
    """The price over the label as background, and the label, and the truth where it is known, as strips."""
    ts = np.asarray(t["ts"], np.int64) // 10**6
    x = page.columns.add("timeline.ts", ts)
    price = page.columns.add("timeline.price", np.asarray(t["price"], float))
    names = (*REGIMES, "none")
    colours = [REGIME_COLOURS[name] for name in names]
    strips = {}
    for key in ("label", "truth"):
        if key in t:
            codes = np.asarray(t[key], np.int64)  # type: ignore[literal-required]
            column = page.columns.add(f"timeline.{key}", np.where(codes < 0, len(REGIMES), codes))
            strips[key] = {"codes": column, "names": names, "colours": colours}
    line = {"name": "price", "y": price, "colour": "$ink", "width": 1.2}
    panels: list[Figure] = [
        {"title": "Price", "height": 280, "x": x, "series": [line], "figures": 8}
        | {"back": strips["label"] | {"strength": 0.22}}
    ]
    titles = {"label": "Label", "truth": "Truth"}
    panels += [{"title": titles[key], "height": 22, "x": x, "strip": strip} for key, strip in strips.items()]
    panels[-1]["labels"] = True
    return {"x": "time", "range": [int(ts[0]), int(ts[-1])] if len(ts) else [0, 1], "panels": panels}


def seeds_figure(seeds: list[SeedAccuracy]) -> Figure:
    """Accuracy of fitted and of true parameters, a pair of dots a seed, in per cent."""
    reference = [100 * s["reference"] for s in seeds]
    series = [
        _dots("true parameters", reference, "$muted"),
        _dots("fitted", [100 * s["accuracy"] for s in seeds], SERIES_COLOURS[0]),
        {"name": "0.95 of it", "y": [0.95 * r for r in reference], "colour": LOSS, "dash": [3, 3]},
    ]
    panel = {"title": "Accuracy, %", "height": 220, "x": [s["seed"] for s in seeds], "series": series}
    return {"x": "number", "label": "seed", "panels": [panel | {"labels": True, "figures": 4}]}


def lags_figure(lags: np.ndarray) -> Figure:
    """Histogram of bars from a true switch to its label."""
    top = max(float(np.quantile(lags, 0.98, method="higher")), 1.0)
    # Lags are whole bars: a bin holds as many of them, and lies about them.
    width = math.ceil((top + 1) / 40)
    counts, edges = np.histogram(np.minimum(lags, top), bins=np.arange(-0.5, top + width, width))
    bars = {"name": "switches", "y": counts.tolist(), "colour": SERIES_COLOURS[0], "kind": "bars"}
    x = ((edges[:-1] + edges[1:]) / 2).tolist()
    panel = {"title": "Switches", "height": 220, "x": x, "series": [bars], "labels": True, "zero": True}
    return {"x": "number", "label": "bars", "pad": 0.6 / max(len(x) - 1, 1), "panels": [panel]}


def model_colours(models: list[str]) -> dict[str, str]:
    """A colour for each model, in their order."""
    return {model: SERIES_COLOURS[i % len(SERIES_COLOURS)] for i, model in enumerate(models)}


def calibration_figure(series: VolatilitySeries, colours: dict[str, str]) -> Figure:
    """Mean realized volatility by twentieths of each forecast, in per cent."""
    realized = 100 * np.asarray(series["realized"], float)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for model, values in series["forecasts"].items():
        forecast = 100 * np.asarray(values, float)
        known = np.isfinite(forecast) & np.isfinite(realized)
        order = np.argsort(forecast[known], kind="stable")
        groups = [g for g in np.array_split(order, 20) if len(g)]
        # Volatilities average as variances.
        x = [math.sqrt(np.mean(forecast[known][g] ** 2)) for g in groups]
        y = [math.sqrt(np.mean(realized[known][g] ** 2)) for g in groups]
        curves[model] = (x, y)
    x, columns = _on_one_axis(curves)
    lines = [
        {"name": model, "y": y, "colour": colours.get(model, "$muted"), "points": True, "span": True}
        for model, y in columns.items()
    ]
    lines.append({"name": "right on average", "y": list(x), "colour": "$axis", "dash": [3, 3]})
    panel = {"title": "Realized, %", "height": 290, "x": x, "series": lines, "labels": True, "log": True}
    return {"x": "log", "label": "forecast, %", "panels": [panel | {"figures": 3}]}


def series_figure(page: Page, series: VolatilitySeries, colours: dict[str, str]) -> Figure:
    """Realized and forecast volatility over time, in per cent."""
    ts = np.asarray(series["ts"], np.int64) // 10**6
    drawn = {"realized": ("$axis", 1.0, series["realized"])}
    drawn |= {
        model: (colours.get(model, "$muted"), 1.4, values) for model, values in series["forecasts"].items()
    }
    # Means of variances by stretch: the extremes of a realized measure are its noise.
    squared = np.column_stack([np.asarray(values, float) ** 2 for _, _, values in drawn.values()])
    at, mean = means(squared, _SERIES_POINTS)
    x = page.columns.add("volatility.ts", ts[at])
    lines = []
    for i, (name, (colour, width, _)) in enumerate(drawn.items()):
        # A logarithm keeps the small ones as exact as the large ones.
        log = page.columns.add(f"volatility.log{i}", np.log(100 * np.sqrt(mean[:, i])))
        page.derived[f"volatility.{i}"] = ["exponential", log]
        lines.append(
            {"name": name, "y": f"volatility.{i}", "colour": colour, "width": width, "kind": "smooth"}
        )
    panel = {"title": "", "height": 300, "x": x, "series": lines, "labels": True, "log": True}
    span = [int(ts[0]), int(ts[-1])] if len(ts) else [0, 1]
    return {"x": "time", "range": span, "panels": [panel | {"figures": 4}]}


def reliability_figure(reliability: Mapping[str, list[ReliabilityBin]]) -> Figure:
    """Forecast probability against the share that came true."""
    curves = {
        side: ([b["forecast"] for b in bins], [b["observed"] for b in bins])
        for side, bins in reliability.items()
    }
    x, columns = _on_one_axis(curves)
    lines: list[Figure] = [
        {"name": side, "y": y, "colour": SERIES_COLOURS[i], "points": True, "span": True}
        for i, (side, y) in enumerate(columns.items())
    ]
    lines.append({"name": "as often as said", "y": list(x), "colour": "$axis", "dash": [3, 3]})
    panel = {"title": "Share that came true", "height": 290, "x": x, "series": lines, "labels": True}
    return {"x": "number", "label": "forecast probability", "panels": [panel | {"figures": 3}]}


def deciles_figure(deciles: list[ConfidenceDecile], cost: float) -> Figure:
    """Net return and hit rate by tenth of confidence (10 is the most sure)."""
    x = list(range(1, len(deciles) + 1))
    gains = [d["net_bps"] if d["net_bps"] > 0 else None for d in deciles]
    losses = [d["net_bps"] if d["net_bps"] <= 0 else None for d in deciles]
    bars: list[Figure] = [
        {"name": "gain", "y": gains, "colour": SERIES_COLOURS[0], "kind": "bars"},
        {"name": "loss", "y": losses, "colour": LOSS, "kind": "bars"},
    ]
    hits = [100 * d["hit_rate"] for d in deciles]
    line = {"name": "hit rate", "y": hits, "colour": "$ink", "points": True}
    panels: list[Figure] = [
        {"title": f"Net, bps, costs of {cost:g} included", "height": 160, "x": x, "series": bars}
        | {"zero": True, "figures": 3},
        {"title": "Hit rate, %", "height": 100, "x": x, "series": [line], "labels": True, "figures": 3},
    ]
    return {"x": "number", "label": "tenth by confidence", "pad": 0.08, "panels": panels}


def _dots(name: str, y: list[float], colour: str) -> Figure:
    return {"name": name, "y": y, "colour": colour, "kind": "dots", "points": True}


def _on_one_axis(
    curves: Mapping[str, tuple[list[float], list[float]]],
) -> tuple[list[float], dict[str, list[float | None]]]:
    """Curves with an x axis each as columns over the union of them, None where a curve has no point."""
    x = sorted({value for xs, _ in curves.values() for value in xs})
    at = {value: i for i, value in enumerate(x)}
    columns = {}
    for name, (xs, ys) in curves.items():
        column: list[float | None] = [None] * len(x)
        for a, b in zip(xs, ys, strict=True):
            column[at[a]] = b
        columns[name] = column
    return x, columns
