"""The base of every typed setting: frozen, closed to unknown keys, readable from TOML; and how kinds of
settings are found."""

import importlib
import pkgutil
import re
import typing
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Union

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


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that the classes in it are known."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def union_of_kinds(base: type[Settings], *verbs: str) -> Any:
    """The union of all settings derived from ``base``, for a field discriminated by ``kind``.

    A class without a ``kind`` from which others derive is their base, and no kind of its own.

    Raises
    ------
    ValueError
        If a class has no ``kind``, or another's, or lacks one of ``verbs``; it is named with its module.
    """
    owners: dict[str, str] = {}
    found = []
    for cls in sorted(dict.fromkeys(_derived(base)), key=lambda c: c.__name__):
        where = f"{cls.__module__}.{cls.__qualname__}"
        field = cls.model_fields.get("kind")
        annotation = field.annotation if field is not None else None
        tags = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
        if not tags:
            if cls.__subclasses__():
                continue
            raise ValueError(
                f'{where}: has no kind of its own; give it one, as kind: Literal["name"] = "name"'
            )
        for tag in tags:
            if tag in owners:
                raise ValueError(f"{where}: kind {tag!r} is that of {owners[tag]}; give it another")
            owners[tag] = where
        for verb in verbs:
            if getattr(cls, verb) is getattr(base, verb):
                raise ValueError(f"{where}: has no {verb!r}; write it as {base.__name__}.{verb} says")
        found.append(cls)
    return Union[tuple(found)]  # noqa: UP007


def _derived(base: type[Settings]) -> Iterator[type[Settings]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _derived(cls)


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
