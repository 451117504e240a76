"""What decides a fit: its span, and the settings, features and code that take part in it; nothing else.

Two configs of one identity ask for the same models. Names, paths, strategies, venue and the span that is
traded are not in it, nor is a stream or feature that no model reads.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from catalogs.reader import Stream
from core import ROOMS
from core.messages import STAGES
from core.settings import Settings
from engine.config import RunConfig
from features.names import choose
from features.registry import Need

_FOREVER = 4_102_444_800 * 10**9  # 2100-01-01: a bundle without a schedule stays valid until replaced
_ROOMS = set(ROOMS) - {"catalogs", "actors", "engine"}  # where models and their features come from


@dataclasses.dataclass(frozen=True)
class Window:
    """One fit: trained on bars that close in ``(start, end]``, allowed to speak in ``[end, valid_to)``."""

    start: int
    end: int
    valid_to: int


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


def first_start(config: RunConfig) -> int:
    """The start of the earliest of the windows, however many of them there are."""
    train = config.train
    schedule = train.schedule
    return train.start if schedule is None else min(train.start, train.end + schedule.step - schedule.window)


def read_features(config: RunConfig) -> tuple[str, ...]:
    """The features that some model reads: all of the run's, where a forecaster names none."""
    forecast = config.forecast
    if forecast is not None and not forecast.columns:
        return config.feature_names
    return config.model_copy(update={"features": ()}).feature_names


def identity(config: RunConfig) -> dict[str, Any]:
    """What decides a config's fits, as JSON values; compared to know whose bundle a folder is."""
    names = read_features(config)
    needs: dict[str, set[Need]] = {config.data.trade: {"price"}}
    for chosen in map(choose, names):
        needs.setdefault(chosen.alias or config.data.trade, set()).update(chosen.feature.needs)
    streams = {alias: _plain(stream) for alias, stream in needed_streams(config, needs).items()}
    for alias in streams:
        if (bars := config.data.streams[alias].bars) is not None:
            streams[alias]["bars"] = bars
    spans = config.train.model_dump(mode="json", include={"start", "end", "schedule", "valid_to"})
    return {
        "seed": config.seed,
        "trade": config.data.trade,
        "streams": streams,
        "series": {alias: name for alias, name in config.data.series.items() if alias in needs},
        "bars": bar_identity(config),
        "features": list(names),
        **config.model_dump(mode="json", include={*(stage.name for stage in STAGES), "gate"}),
        "train": spans,
    }


def needed_streams(config: RunConfig, needs: Mapping[str, Set[Need]]) -> dict[str, Stream]:
    """For each alias, the feeds that some chosen feature needs, and those the reference price is made of."""
    found = {}
    for alias, wanted in needs.items():
        stream = config.data.streams.get(alias)
        if stream is None:
            continue  # an external series
        book = stream.book if wanted & {"book", "depth", "price"} else "none"
        counted = alias == config.data.trade and config.bars.kind in ("volume", "dollar")
        from_trades = bool(wanted & {"trades", "ohlcv"}) or ("price" in wanted and book == "none")
        found[alias] = Stream(
            stream.instrument,
            book=book,
            trades=stream.trades and (from_trades or counted),
            mark="mark" in wanted,
            index="index" in wanted,
            funding="funding" in wanted,
        )
    return found


def short_hash(value: Any) -> str:
    """Eight hex digits of the sha256 of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def bar_identity(config: RunConfig) -> dict[str, Any]:
    """What a model must share with the bars it was trained on."""
    return config.bars.model_dump(mode="json", exclude={"grace"})


def code(config: RunConfig) -> dict[str, str]:
    """A sha256 for each part of a fit, over the module it is written in and all that this imports of the
    rooms of models and features, of plugins, or of its own package."""
    rooms = _ROOMS | {name.partition(".")[0] for name in config.plugins}
    parts: dict[str, Settings | None] = {
        name: getattr(config, name) for name in (*(stage.name for stage in STAGES), "gate")
    }
    found = {
        name: _code(rooms, *(c.__module__ for c in type(part).__mro__ if issubclass(c, Settings)))
        for name, part in parts.items()
        if part is not None
    }
    return {
        "features": _code(rooms, "features.kernel", "features.bars"),
        "fit": _code(rooms, "engine.research.fits"),
        **found,
    }


def _code(rooms: Set[str], *modules: str) -> str:
    rooms = {*rooms, *(name.partition(".")[0] for name in modules)} - {"engine"}
    pending, seen = sorted(modules), {}
    while pending:
        name = pending.pop()
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if name in seen or file is None:
            continue
        seen[name] = Path(file).read_bytes()
        package = name if hasattr(module, "__path__") else name.rpartition(".")[0]
        pending += [m for m in _imports(seen[name], package) if m.partition(".")[0] in rooms]
    return hashlib.sha256(b"".join(hashlib.sha256(seen[name]).digest() for name in sorted(seen))).hexdigest()


def _imports(source: bytes, package: str) -> list[str]:
    """The modules that a source in ``package`` names in its imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


def _plain(value: Any) -> dict[str, Any]:
    return {name: item for name, item in dataclasses.asdict(value).items() if item is not False}
