"""The page of ``beaufort evaluate``: how good the models are, apart from money."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.messages import REGIMES
from engine.reports import evaluation_charts as charts
from engine.reports.page import (
    REGIME_COLOURS,
    Cell,
    Page,
    card,
    escape,
    swatch,
    table,
    tile,
    tinted,
)
from engine.reports.results import (
    Floats,
    ForecasterResults,
    RegimeResults,
    Results,
    SeedAccuracy,
    VolatilityResults,
    VolatilityScore,
)
from engine.reports.tables import length, show


def write_evaluation(results: Results, path: Path) -> Path:
    """Write the page, one file that opens without a network, and return ``path``."""
    page = Page()
    chips = [
        results["instrument"],
        results["bars"],
        f"trained {results['trained']}",
        f"judged {results['judged']}",
    ]
    chip_row = "".join(f"<span class='chip'>{escape(text)}</span>" for text in chips)
    body = [
        "<header><div class='head'><div class='brand'>Evaluation out of sample</div>"
        f"<h1>{escape(results['name'])}</h1>"
        f"<div class='chips'>{chip_row}</div></div></header>"
    ]
    body += [f"<div class='banner'>{escape(note)}</div>" for note in results.get("notes", [])]
    if "regimes" in results:
        body += _regimes(results["regimes"], page)
    if "volatility" in results:
        body += _volatility(results["volatility"], page)
    if "forecaster" in results:
        body += _forecaster(results["forecaster"], page)
    if len(body) == 1:
        body.append("<div class='banner'>Nothing was evaluated.</div>")
    return page.write(path, f"{results['name']} · evaluation · Beaufort", "".join(body))


def print_evaluation(results: Results, console: Console | None = None) -> None:
    """Print the numbers of ``results`` as tables."""
    console = console or Console()
    console.print(
        Text(f"{results['name']}: judged {results['judged']}, trained {results['trained']}", style="bold")
    )
    for note in results.get("notes", []):
        console.print(Text(note))
    if "regimes" in results:
        r = results["regimes"]
        rows = []
        for name, score, lag in (
            ("", "accuracy", "lags"),
            (" of the true-parameter filter", "reference", "reference_lags"),
        ):
            lags = np.asarray(r.get(lag, ()), float)
            rows.append((f"accuracy{name}", show(r.get(score), ".4f")))  # type: ignore[arg-type]
            rows.append(
                (f"median lag{name}", f"{_median_lag(lags)}; {_missed(lags)}" if len(lags) else "n/a")
            )
        switches = r["switches_per_day"]
        every = f"; one every {length(86_400 / switches)}" if switches else ""
        rows.append(("switches a day", show(switches, ".2f") + every))
        _print_table(console, "regimes", ("", ""), rows)
        moments = r["moments"]
        names = dict.fromkeys(name for values in moments.values() for name in values)
        by_name = [(_titled(name), *(show(v.get(name), ",.4g") for v in moments.values())) for name in names]
        _print_table(console, "moments of the next bar's log return by regime", ("", *moments), by_name)
        if "seeds" in r:
            markets = [
                (str(s["seed"]), *(f"{v:.4f}" for v in (s["accuracy"], s["reference"], _ratio(s))))
                for s in r["seeds"]
            ]
            title = f"other synthetic markets, the least ratio {min(map(_ratio, r['seeds'])):.3f}"
            _print_table(console, title, ("seed", "accuracy", "true parameters", "ratio"), markets)
    if "volatility" in results:
        v = results["volatility"]
        scores = [(s["model"], f"{s['qlike']:.4f}", f"{s['log_error']:.4f}") for s in v["scores"]]
        title = f"volatility of the next {v['horizon']}, {v['observations']:,} forecasts"
        _print_table(console, title, ("model", "QLIKE", "log error"), scores)
    if "forecaster" in results:
        f = results["forecaster"]
        columns = [f["auc"], f["brier"], f["brier_base"], f["ece"]]
        sides = [(side, *(f"{column[side]:.4f}" for column in columns)) for side in f["auc"]]
        _print_table(
            console, "forecaster", ("side", "AUC", "Brier", "of base rate", "calibration error"), sides
        )
        tenths = [
            (
                str(i),
                f"{d['confidence']:.3f}",
                f"{d['hit_rate']:.1%}",
                f"{d['net_bps']:+.2f}",
                f"{d['count']:,}",
            )
            for i, d in enumerate(f["deciles"], 1)
        ]
        _print_table(
            console, "by confidence", ("tenth", "confidence", "hit rate", "net, bps", "count"), tenths
        )


def _print_table(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(Text(f"\n{title}", style="italic"))  # a Table's own title wraps at the table's width
    grid = Table(show_header=any(header))
    for i, name in enumerate(header):
        grid.add_column(Text(name), justify="right" if i else "left")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    console.print(grid)


def _ratio(seed: SeedAccuracy) -> float:
    return seed["accuracy"] / seed["reference"]


def _regimes(r: RegimeResults, page: Page) -> list[str]:
    accuracy, reference = r.get("accuracy"), r.get("reference")
    lags, best = (np.asarray(r.get(key, ()), float) for key in ("lags", "reference_lags"))
    ratio = accuracy / reference if accuracy is not None and reference else None
    lag = _median_lag(lags) if len(lags) else "n/a"
    late = f"median, {_missed(lags)}" if len(lags) else "median"
    late += f"; the true-parameter filter: {_median_lag(best)}, {_missed(best)}" if len(best) else ""
    reached = "" if ratio is None else ("ok" if ratio >= 0.95 else "watch")
    tiles = [
        tile(
            "Regime accuracy",
            show(accuracy, ".1%"),
            "share of bars named as the truth; chance is about a third",
        ),
        tile("True-parameter filter", show(reference, ".1%"), "the best that can be known at the time"),
        tile("Of the attainable", show(ratio, ".3f"), "0.95 or more", reached),
        tile("Lag of a switch", lag, late),
        tile("Switches a day", show(r["switches_per_day"], ".1f"), _between(r["switches_per_day"])),
    ]
    parts = [f"<div class='tiles'>{''.join(tiles)}</div>"]
    if "timeline" in r:
        drawn = page.chart("regime-timeline", charts.timeline_figure(page, r["timeline"]))
        parts.append(card("Regimes over time", drawn, _TIMELINE_NOTE))
    if "confusion" in r:
        parts.append(card("Label against truth", _confusion(r["confusion"]), _CONFUSION_NOTE, wide=False))
    parts.append(card("Moments by regime", _moments(r["moments"]), _MOMENTS_NOTE, wide="confusion" not in r))
    if "seeds" in r:
        drawn = page.chart("regime-seeds", charts.seeds_figure(r["seeds"]))
        note = "Each pair of dots is one synthetic market; the line is 0.95 of the attainable."
        parts.append(card("Accuracy by seed", drawn, note, wide=not np.isfinite(lags).any()))
    if np.isfinite(lags).any():
        drawn = page.chart("regime-lags", charts.lags_figure(lags[np.isfinite(lags)]))
        note = f"Bars from a true switch until the label follows; {_missed(lags)} before the next one."
        parts.append(card("Lag", drawn, note, wide="seeds" not in r))
    return parts


def _median_lag(lags: np.ndarray) -> str:
    """The median over all switches, also those never seen."""
    median = float(np.median(lags))
    return f"{median:.0f} bar{'s' if median != 1 else ''}" if math.isfinite(median) else "never"


def _between(switches: float) -> str:
    """What so many switches a day mean for whoever trades them."""
    if not switches:
        return "the label never changed"
    return (
        f"the label holds for {length(86_400 / switches)} on average: what is traded on it must pay by then"
    )


def _missed(lags: np.ndarray) -> str:
    return f"{np.isinf(lags).sum()} of {len(lags)} never seen"


_TIMELINE_NOTE = (
    "Behind the price and beneath it: the label, as known at each bar, and the truth where it is known. "
    "Where many bars share a pixel, it shows each one's share."
)
_CONFUSION_NOTE = "Share of each true regime's bars that got each label; counts in small."
_MOMENTS_NOTE = "Measured on the bars that carried the label; they should read as the names say."


def _confusion(counts: Sequence[Floats]) -> str:
    matrix = np.asarray(counts, float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1.0)
    rows: list[list[Cell | str]] = []
    for i, truth in enumerate(REGIMES):
        row: list[Cell | str] = [Cell(swatch(f"truth: {truth}", REGIME_COLOURS[truth]))]
        for j in range(len(REGIMES)):
            cell = tinted("", share[i, j] if i == j else -share[i, j], 1.0)
            small = f"<span style='color:var(--muted);font-size:11px'> {matrix[i, j]:,.0f}</span>"
            row.append(Cell(f"{share[i, j]:.1%}{small}", background=cell.background))
        rows.append(row)
    return table(["", *(f"labelled {name}" for name in REGIMES)], rows)


def _moments(moments: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in moments.values() for name in values))
    rows = [
        [
            Cell(swatch(label, REGIME_COLOURS.get(label, "var(--axis)"))),
            *(show(values.get(n), ",.4g") for n in names),
        ]
        for label, values in moments.items()
    ]
    return table(["regime", *map(_titled, names)], rows)


def _titled(moment: str) -> str:
    """``mean_bps`` as ``mean, bps``."""
    return moment.replace("_", ", ")


def _volatility(v: VolatilityResults, page: Page) -> list[str]:
    title = f"Volatility: the next {v['horizon']}"
    note = (
        f"{v['observations']:,} forecasts. QLIKE is the mean of rv/f - log(rv/f) - 1 over variances, "
        "robust to the noise of the realized measure; log error is the root mean square of log(f/rv). "
        "Lower is better in both; the best is in colour."
    )
    parts = [card(title, _score_table(v["scores"]), note, wide="series" not in v)]
    if "series" in v:
        colours = charts.model_colours([s["model"] for s in v["scores"]])
        drawn = page.chart("volatility-calibration", charts.calibration_figure(v["series"], colours))
        small = "Mean realized volatility of each twentieth of the forecasts; on the diagonal they are right."
        parts.append(card("Forecast against realized", drawn, small, wide=False))
        over_time = page.chart("volatility-series", charts.series_figure(page, v["series"], colours))
        parts.append(card("Forecast and realized volatility over time", over_time, "In per cent, log scale."))
    return parts


def _score_table(scores: list[VolatilityScore]) -> str:
    colours = charts.model_colours([s["model"] for s in scores])
    best = {key: min((s[key] for s in scores), default=math.nan) for key in ("qlike", "log_error")}  # type: ignore[literal-required]
    rows: list[list[Cell | str]] = []
    for s in scores:
        over = s["qlike"] / best["qlike"] - 1 if best["qlike"] > 0 else None
        rows.append(
            [
                Cell(swatch(s["model"], colours[s["model"]])),
                Cell(f"{s['qlike']:.4f}", "best" if s["qlike"] == best["qlike"] else ""),
                Cell(show(over, "+.1%") if over else "", "dim"),
                Cell(f"{s['log_error']:.4f}", "best" if s["log_error"] == best["log_error"] else ""),
                Cell(show(s.get("bias"), "+.3f"), "dim"),
            ]
        )
    return table(["model", "QLIKE", "over the best", "log error", "log bias"], rows)


def _forecaster(f: ForecasterResults, page: Page) -> list[str]:
    tiles = []
    for side in f["auc"]:
        skill = 1 - f["brier"][side] / f["brier_base"][side] if f["brier_base"][side] else None
        against = f"Brier {f['brier'][side]:.4f} against {f['brier_base'][side]:.4f} of the base rate"
        auc, ece = f["auc"][side], f["ece"][side]
        tiles += [
            tile(
                f"AUC, {side}",
                show(auc, ".3f"),
                "above 0.52; above 0.65 look for a leak",
                _range(auc, 0.52, 0.65),
            ),
            tile(f"Brier skill, {side}", show(skill, "+.2%"), f"above 0; {against}", _range(skill, 0, None)),
            tile(f"Calibration error, {side}", show(ece, ".3f"), "under 0.02", _range(ece, None, 0.02)),
        ]
    reliable = page.chart("reliability", charts.reliability_figure(f["reliability"]))
    worth = page.chart("deciles", charts.deciles_figure(f["deciles"], f["cost_bps"]))
    what = (
        f"{f['observations']:,} forecasts of a move beyond {f['threshold_bps']:g} bps within {f['horizon']}. "
        "On the dotted line, what is said happens as often as it is said."
    )
    paid = (
        "Mean return in the favoured direction by tenth of confidence, "
        f"costs of {f['cost_bps']:g} bps included."
    )
    return [
        f"<div class='tiles'>{''.join(tiles)}</div>",
        card("Reliability", reliable, what, wide=False),
        card("What confidence is worth", worth, paid, wide=False),
    ]


def _range(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return "ok" if (low is None or value > low) and (high is None or value < high) else "watch"
