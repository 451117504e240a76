"""The base of every typed setting: frozen, closed to unknown keys, readable from TOML."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}


class Settings(BaseModel):
    """A frozen model that rejects unknown keys and infinite numbers; subclasses document each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def parse_duration(value: object) -> int:
    """Nanoseconds in a duration such as ``"100ms"``, ``"15m"``, ``"8h"``, ``"2d"`` (an int is ns)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h|d)\s*", str(value))
    if match is None:
        units = ", ".join(_UNITS)
        raise ValueError(f"{value!r} is not a duration; write a number and a unit of {units}, such as '15m'")
    return round(float(match[1]) * _UNITS[match[2]])


def format_duration(ns: int) -> str:
    """The shortest exact way to write a duration: ``900_000_000_000`` is ``"15m"``."""
    unit = max((u for u, n in _UNITS.items() if ns % n == 0), key=lambda u: _UNITS[u]) if ns else "s"
    return f"{ns // _UNITS[unit]}{unit}"


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["100ms", "15m", "8h"]}),
]
"""A length of time in nanoseconds, written in configs as ``"100ms"``, ``"1s"``, ``"8h"`` …"""


def parse_time(value: object) -> int:
    """Nanoseconds since the epoch of an ISO date or time or a TOML one, in UTC unless it names its offset."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day)
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise ValueError(
                f"{value!r} is not a time; write an ISO date or time such as '2026-01-05T12:00:00Z'"
            ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def format_time(ns: int) -> str:
    """The ISO form of a moment in ns since the epoch, UTC."""
    return (_EPOCH + timedelta(microseconds=ns // 1_000)).isoformat().replace("+00:00", "Z")


Time = Annotated[
    int,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment in ns since the epoch, written in configs as an ISO date or time."""
