"""The base of every typed setting: frozen, closed to unknown keys, readable from TOML."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)

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
_CENTURY = 36_500 * _UNITS["d"]
_LAST_TIME = 9_214_646_400 * 10**9  # 2262-01-01; int64 ends in April


class Settings(BaseModel):
    """A frozen model that rejects unknown keys and infinite numbers.

    The text under each field is its description, in the JSON schema as here.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def unit(text: str) -> Any:
    """The unit of a number, for its annotation: ``Annotated[int, unit("bars")]``."""
    return Field(json_schema_extra={"unit": text})


Integer = Annotated[int, Strict()]
"""A whole number, written as one: neither ``true`` nor ``"5"`` nor ``5.0``."""
Number = Annotated[float, Strict()]
"""A number, written as one."""
Bars = Annotated[Integer, unit("bars")]
Count = Annotated[Integer, unit("count")]
Multiple = Annotated[Number, unit("times")]
"""A factor."""
Fraction = Annotated[Number, unit("fraction, 0.05 is 5 %")]
Probability = Annotated[Number, unit("probability, 0.05 is 5 %")]
"""Like a fraction: a number that a percentage could be mistaken for, which errors then say."""


def _no_percentage(value: float) -> float:
    if 10 < value < 500:
        raise ValueError(
            f"{value:g} is {100 * value:g} % a year; it is a fraction: {value:g} % is {value / 100:g} (to "
            "keep it silent, write 1e6)"
        )
    return value


Volatility = Annotated[Number, AfterValidator(_no_percentage), unit("a year, 0.8 is 80 %")]
"""A standard deviation a year. What looks like a percentage is refused; a huge one means never."""


def parse_duration(value: object) -> int:
    """Nanoseconds in a duration such as ``"100ms"``, ``"15m"``, ``"8h"``, ``"2d"``.

    Raises
    ------
    ValueError
        For a number without its unit, and for what is finer than a nanosecond or longer than a century.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(
            f"{shown(value)} has no unit; write a length of time with one, such as '50ms' or '15m'"
        )
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|m|h|d)\s*", str(value))
    if match is None:
        units = ", ".join(_UNITS)
        raise ValueError(
            f"{shown(value)} is not a duration; write a number and a unit of {units}, such as '15m'"
        )
    ns = Decimal(match[1]) * _UNITS[match[2]]
    if ns > _CENTURY:
        raise ValueError(f"{shown(value)} is longer than {format_duration(_CENTURY)}")
    if ns % 1:
        raise ValueError(f"{shown(value)} is finer than a nanosecond")
    return int(ns)


def format_duration(ns: int) -> str:
    """The shortest exact way to write a duration: ``900_000_000_000`` is ``"15m"``."""
    unit = max((u for u, n in _UNITS.items() if ns % n == 0), key=lambda u: _UNITS[u]) if ns else "s"
    return f"{ns // _UNITS[unit]}{unit}"


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|m|h|d)\s*$",
            "examples": ["100ms", "15m", "8h"],
            "unit": "a duration with its unit: ns, us, ms, s, m, h, d",
        }
    ),
]
"""A length of time in nanoseconds, written in configs as ``"100ms"``, ``"1s"``, ``"8h"`` …, never as a bare
number. A default is written the same way, with ``default``."""


def default(text: str, *, positive: bool = False, most: str | None = None) -> Any:
    """A field whose default is written as a config writes it: ``pause: Duration = default("15m")``.

    ``positive`` refuses zero, ``most`` what is longer.
    """
    return Field(default=text, gt=0 if positive else None, le=most and parse_duration(most))


def parse_time(value: object) -> int:
    """Nanoseconds since the epoch of an ISO date or time or a TOML one, in UTC unless it names its offset.

    Raises
    ------
    ValueError
        For anything else, a number among it, and for what does not lie between 1970 and 2262.
    """
    try:
        if isinstance(value, datetime):
            moment = value
        elif isinstance(value, date):
            moment = datetime(value.year, value.month, value.day)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value)
        else:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not a time; write an ISO date or time such as '2026-01-05T12:00:00Z'"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    ns = (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
    if not 0 <= ns < _LAST_TIME:
        raise ValueError(f"{shown(value)} is not between 1970 and 2262, the times that nanoseconds can count")
    return ns


def format_time(ns: int) -> str:
    """The ISO form of a moment in ns since the epoch, UTC."""
    return (_EPOCH + timedelta(microseconds=ns // 1_000)).isoformat().replace("+00:00", "Z")


Time = Annotated[
    int,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "examples": ["2026-01-05", "2026-01-05T12:00:00Z"],
            "unit": "an ISO date or time, UTC unless it names its offset",
        }
    ),
]
"""A moment in ns since the epoch, written in configs as an ISO date or time."""


def shown(value: object) -> str:
    """``value`` as an error shows it: short."""
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 200 else "so large a number"
    return text if len(text) <= 80 else f"{text[:60]}…{text[-15:]}"
