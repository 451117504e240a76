"""Fitting what a config names, on its training span only, into bundles: one, or one a walk-forward window."""

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine.bundles import load_bundle, write_bundle
from engine.config import RunConfig, output_folder
from engine.errors import BeaufortError
from engine.pipeline import BarSeries, Market, bar_identity, model_settings
from features.causal import CausalFilter, Chain
from features.settings import Settings, format_time
from features.training import Epoch

_YEAR = 365 * 86_400 * 10**9
_FOREVER = 4_102_444_800 * 10**9  # 2100-01-01: a bundle without a schedule stays valid until replaced


@dataclasses.dataclass(frozen=True)
class Window:
    """One fit: trained on bars that close in ``[start, end]``, allowed to speak in ``[end, valid_to)``."""

    start: int
    end: int
    valid_to: int

    @property
    def name(self) -> str:
        """Folder name of its bundle."""
        return format_time(self.end).replace(":", "").replace("+0000", "Z")


def windows(config: RunConfig) -> list[Window]:
    """The fits a config asks for: its training span, then by schedule until the backtest's end."""
    train = config.train
    schedule = train.schedule
    if schedule is None:
        return [Window(train.start, train.end, train.valid_to or _FOREVER)]
    # A bar that closes at the backtest's end is still traded: if a step ends there, one more bundle speaks.
    last = train.valid_to or config.backtest.end + 1
    found = [Window(train.start, train.end, train.end + schedule.step)]
    while found[-1].valid_to < last:
        end = found[-1].valid_to
        found.append(Window(end - schedule.window, end, end + schedule.step))
    if train.valid_to is not None:
        found[-1] = dataclasses.replace(found[-1], valid_to=min(found[-1].valid_to, train.valid_to))
    return found


def train(config: RunConfig, say: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Fit every window and write its bundle.

    A bundle already written by the same config, data and code is kept, so an interrupted training goes on
    where it stopped. Code is that of the features read, and of the modules that define the stages' settings.

    Returns the bundles' folders, in order of time.
    """
    if config.train.catalog is not None:
        data = config.data.model_copy(update={"catalog": config.train.catalog})
        config = config.model_copy(update={"data": data})
    output_folder("train.bundles", config.train.bundles)
    market = Market(config)
    fingerprint = market.fingerprint()
    identity = _identity(config)
    folders = []
    for window in windows(config):
        folder = config.train.bundles / window.name
        folders.append(folder)
        if _is_current(folder, fingerprint, identity, window, market.kernel.schema):
            say(f"{folder}: up to date")
            continue
        say(f"{folder}: fitting on {format_time(window.start)} .. {format_time(window.end)}")
        series = market.features(market.data_start(window.start), window.end).between(
            window.start, window.end + 1
        )
        stages, metrics = fit(config, series, say)
        write_bundle(
            folder,
            stages,
            schema=market.kernel.schema,
            bars=bar_identity(config),
            config=identity,
            trained=(window.start, window.end),
            valid=(window.end, window.valid_to),
            data_fingerprint=fingerprint,
            metrics=metrics,
        )
    return folders


def fit(
    config: RunConfig, series: BarSeries, say: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, CausalFilter], dict[str, Any]]:
    """All stages fitted on ``series``, and a few words on each fit for the manifest."""
    table = series.table
    ready = np.isfinite(table.values).all(axis=1)
    if not ready.any():
        never = [
            n for n, column in zip(table.names, table.values.T, strict=True) if not np.isfinite(column).any()
        ]
        raise BeaufortError(
            f"training span: none of its {len(table)} bars has every feature known; never known: "
            f"{', '.join(never) or '-'}. Train on a longer span, or one with data"
        )

    def progress(epoch: Epoch) -> None:
        best = ", the best so far" if epoch.best else ""
        say(f"    epoch {epoch.epoch} of {epoch.epochs}: validation loss {epoch.validation_loss:.5g}{best}")

    stages: dict[str, CausalFilter] = {}
    try:
        say(f"  regime: {config.regime.kind}")
        stages["regime"] = config.regime.fit(table, config.seed)
        say(f"  volatility: {config.volatility.kind}")
        forecaster = config.volatility.fit(table, config.seed, progress)
        stages["volatility"] = Chain(
            forecaster, config.gate.fit(forecaster, table, config.volatility.horizon)
        )
        if config.forecast is not None:
            say(f"  forecast: {config.forecast.kind}")
            stages["forecast"] = config.forecast.fit(table, series.price, config.seed, progress)
    except (ValueError, ImportError) as error:  # a network without torch says how to install it
        raise BeaufortError(f"training failed: {error}") from error
    span = float(table.ts[-1] - table.ts[0])
    bars_per_year = (len(table) - 1) * _YEAR / span if span else 0.0
    return stages, {"bars": len(table), "bars_ready": int(ready.sum()), "bars_per_year": bars_per_year}


def _identity(config: RunConfig) -> dict[str, Any]:
    """What of a config decides a fit; compared to know whether a bundle is up to date."""
    settings = {name: getattr(config, name) for name in ("regime", "volatility", "gate", "forecast")}
    return (
        config.model_dump(mode="json", include={"seed", "data", "bars", "features"})
        | model_settings(config)
        | {"code": {name: _code(stage) for name, stage in settings.items() if stage is not None}}
    )


def _code(settings: Settings) -> str:
    """sha256 over the modules that define ``settings``: a model's code stands beside its settings."""
    classes = [c for c in type(settings).__mro__ if issubclass(c, Settings) and c is not Settings]
    files = {Path(str(sys.modules[c.__module__].__file__)): None for c in classes}
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _is_current(
    folder: Path, fingerprint: str, identity: dict[str, Any], window: Window, schema: list[dict[str, Any]]
) -> bool:
    try:
        manifest = load_bundle(folder).manifest
    except BeaufortError:
        return False
    return (
        manifest["data_fingerprint"] == fingerprint
        and manifest["config"] == identity
        and all(feature in schema for feature in manifest["features"])
        and manifest["trained"] == {"from": format_time(window.start), "to": format_time(window.end)}
        and manifest["valid"] == {"from": format_time(window.end), "to": format_time(window.valid_to)}
    )
