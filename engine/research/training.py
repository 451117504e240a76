"""Fitting what a config names, on its training span only, into bundles: one, or one a walk-forward window."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.errors import BeaufortError
from core.settings import format_duration, format_time
from engine.bundles import bundle_name, load_bundle, write_bundle
from engine.config import RunConfig, output_folder
from engine.identity import Window, code, identity, windows
from engine.pipeline import BarSeries, Market, training_fingerprints, training_market, training_start
from engine.research.fits import fit
from engine.spans import overhang

__all__ = ["fit", "train", "windows"]

Say = Callable[[str], None]


def train(config: RunConfig, say: Say = lambda text: None) -> list[Path]:
    """Fit every window and write its bundle.

    A bundle already written by the same config, data and code is kept, so an interrupted training goes on
    where it stopped. Features are computed once, in one pass over all windows that are still to be fitted.

    Returns the bundles' folders, in order of time.
    """
    root = output_folder("train.bundles", config.train.bundles)
    market, plan = training_market(config), windows(config)
    asked, written_by = identity(config), code(config)
    for window in plan:
        market.require_data("train", window.start, window.end)
    prints = training_fingerprints(market, [window.end for window in plan])
    folders = [root / bundle_name(window.end, asked, data) for window, data in zip(plan, prints, strict=True)]
    work: dict[Window, tuple[Path, dict[str, Any]]] = {}
    for window, folder, data in zip(plan, folders, prints, strict=True):
        told: dict[str, Any] = {
            "window": window,
            "config": asked,
            "code": written_by,
            "data_fingerprint": data,
        }
        if _is_current(folder, market, told):
            say(f"{folder}: up to date")
        else:
            work[window] = folder, told
    began = time.monotonic()
    for done, (window, series) in enumerate(_spans(market, list(work))):
        folder, told = work[window]
        left = _time_left(time.monotonic() - began, done, len(work))
        say(f"{folder}: fitting on {format_time(window.start)} .. {format_time(window.end)}{left}")
        beyond = overhang(config, market.catalog, "the training span", window.start, window.end)
        for warning in beyond:
            say(f"  warning: {warning}")
        fitted = fit(config, series, say)
        write_bundle(
            folder,
            fitted.stages,
            schema=market.kernel.schema,
            metrics=fitted.metrics,
            warnings=[*beyond, *fitted.warnings],
            **told,
        )
    return folders


def _spans(market: Market, plan: list[Window]) -> Iterator[tuple[Window, BarSeries]]:
    """Each window with the features of its bars, from one pass that always begins with the first window.

    Held in memory are the bars of the window at hand and of later ones that began already.
    """
    if not plan:
        return
    held: list[BarSeries] = []
    waiting = list(plan)
    for until, piece in market.pieces(training_start(market), plan[-1].end):
        held.append(piece)
        while waiting and waiting[0].end <= until:
            window = waiting.pop(0)
            held = [BarSeries.join(held)]
            yield window, held[0].between(window.start + 1, window.end + 1)
        needed = min((window.start for window in waiting), default=until)
        # Only the oldest can be out of need: to look at all of them for each new piece took hours a year.
        while held and (not len(held[0].table) or held[0].table.ts[-1] < needed):
            del held[0]
        if held and held[0].table.ts[0] < needed:
            held[0] = held[0].between(needed, until + 1)


def _time_left(spent: float, done: int, fits: int) -> str:
    """How far the training is, and how long it will take by what it took so far; nothing of a single fit."""
    if fits == 1:
        return ""
    guess = round(spent / done * (fits - done)) if done else 0
    guess -= guess % 60 if guess > 120 else 0
    left = f", about {format_duration(guess * 10**9)} left" if guess else ""
    return f" ({done + 1} of {fits}{left})"


def _is_current(folder: Path, market: Market, told: dict[str, Any]) -> bool:
    try:
        manifest = load_bundle(folder).manifest
    except BeaufortError:
        return False
    window = told["window"]
    return (
        all(manifest[key] == told[key] for key in ("config", "code", "data_fingerprint"))
        and all(feature in market.kernel.schema for feature in manifest["features"])
        and manifest["trained"] == {"from": format_time(window.start), "to": format_time(window.end)}
        and manifest["valid"] == {"from": format_time(window.end), "to": format_time(window.valid_to)}
    )
