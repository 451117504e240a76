"""The base of every typed setting: frozen, closed to unknown keys, readable from TOML."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNITS = {"ns": 1, "us": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}


class Settings(BaseModel):
    """A frozen model that rejects unknown keys; subclasses document each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def parse_duration(value: object) -> int:
    """Nanoseconds in a duration such as ``"100ms"``, ``"1s"``, ``"15m"``, ``"8h"``, ``"2d"`` (an int is nanoseconds)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h|d)\s*", str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit of {', '.join(_UNITS)}, such as '15m'")
    return round(float(match[1]) * _UNITS[match[2]])


Duration = Annotated[int, BeforeValidator(parse_duration)]
"""A length of time in nanoseconds, written in configs as ``"100ms"``, ``"1s"``, ``"8h"`` …"""
