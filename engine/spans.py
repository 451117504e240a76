"""What a config asks for against what was recorded: spans are compared with the catalog before any work."""

from catalogs.layout import DataType
from catalogs.reader import Catalog
from core.errors import BeaufortError
from core.settings import format_duration, format_time
from engine.config import RunConfig

_DAY = 86_400 * 10**9
_MINUTE = 60 * 10**9


def recorded(config: RunConfig, catalog: Catalog) -> list[tuple[str, int, int]]:
    """What moves the traded instrument's price, with its first and last moment (ns) in the catalog.

    Raises
    ------
    BeaufortError
        If the catalog lacks one of these feeds.
    """
    stream = config.data.streams[config.data.trade]
    feeds: list[tuple[DataType, str]] = []
    if stream.book != "none":
        feeds.append((stream.book, stream.instrument))
    if stream.trades:
        feeds.append(("trades", stream.instrument))
    if stream.bars is not None:
        feeds.append(("bars", stream.bars))
    try:
        return [(name, *catalog.coverage(identifier, name)[:2]) for name, identifier in feeds]
    except (KeyError, ValueError) as error:
        raise BeaufortError(str(error.args[0])) from None


def slack(config: RunConfig) -> int:
    """How far (ns) a span may reach beyond the recording: a day, or a hundred bars where those are longer.

    What reaches farther is a mistake in the span, and costs a bar of nothing for every interval.
    """
    return max(_DAY, 100 * getattr(config.bars, "interval", 0))


def require_data(config: RunConfig, catalog: Catalog, key: str, start: int, end: int) -> None:
    """Raise where a span has no data in it, or reaches far beyond it; ``key`` names its table in the config.

    Raises
    ------
    BeaufortError
        Naming both spans, and what to write.
    """
    instrument = config.data.streams[config.data.trade].instrument
    spans = recorded(config, catalog)
    asked = f"{key}.start .. {key}.end, {format_time(start)} .. {format_time(end)}"
    first, last = min((s[1] for s in spans), default=0), max((s[2] for s in spans), default=-1)
    known = f"{format_time(first)} .. {format_time(last)}" if first <= last else "no time at all"
    if not any(a < end and start <= b for _, a, b in spans):
        raise BeaufortError(
            f"{asked}: nothing recorded of {instrument} in it; {catalog.path} has it in {known}"
        )
    for name, moment, overhang in (("start", start, first - start), ("end", end, end - last)):
        if overhang > slack(config):
            bound = first if name == "start" else last
            raise BeaufortError(
                f"{key}.{name} = {format_time(moment)} is {_about(overhang)} "
                f"{'before' if name == 'start' else 'after'} the data: {catalog.path} has {instrument} in "
                f"{known}; write {key}.{name} = {format_time(bound)}"
            )


def overhang(config: RunConfig, catalog: Catalog, key: str, start: int, end: int) -> list[str]:
    """Warnings where a span reaches beyond what was recorded by more than a bar and a minute."""
    instrument = config.data.streams[config.data.trade].instrument
    spare = max(getattr(config.bars, "interval", 0), _MINUTE)
    return [
        f"{key} is {format_time(start)} .. {format_time(end)}, but {name} of {instrument} were recorded "
        f"{format_time(first)} .. {format_time(last)} only: the rest of it stands on stale prices"
        for name, first, last in recorded(config, catalog)
        if first > start + spare or last < end - spare
    ]


def _about(ns: int) -> str:
    """A length of time in whole days, or hours where it is shorter than two."""
    return format_duration(ns - ns % (_DAY if ns >= 2 * _DAY else _DAY // 24))
