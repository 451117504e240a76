"""What parameters of a filter must be, whoever wrote their file: a sentence instead of nonsense."""

import math
from typing import Any

import numpy as np

LONGEST = 1_000_000
"""Bars that no horizon, window or span of an average goes beyond."""


def number(
    what: str, value: Any, least: float = -math.inf, most: float = math.inf, *, infinite: bool = False
) -> None:
    """Raise ValueError unless ``value`` is a number in ``[least, most]``, finite unless ``infinite``."""
    plain = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    if not plain or math.isnan(value) or not (infinite or math.isfinite(value)):
        raise ValueError(f"{what} is {value!r}, not a finite number")
    if isinstance(value, int) and abs(value) > 2**53:  # no float, and compiled code takes it for none
        raise ValueError(f"{what} is {value!r}, too large for a number of this kind")
    if not least <= value <= most:
        raise ValueError(f"{what} is {value!r}, not within {least:g} .. {most:g}")


def whole(what: str, value: Any, least: int = 1, most: int = LONGEST) -> None:
    """Raise ValueError unless ``value`` is an integer in ``[least, most]``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{what} is {value!r}, not a whole number")
    number(what, value, least, most)


def numbers(
    what: str, values: Any, shape: tuple[int, ...], least: float = -math.inf, most: float = math.inf
) -> None:
    """Raise ValueError unless ``values`` are finite floats in ``[least, most]`` of this shape."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{what} are not all numbers") from None
    if array.shape != shape:
        raise ValueError(f"{what} have the shape {array.shape}, not {shape}")
    if not np.isfinite(array).all() or (array < least).any() or (array > most).any():
        raise ValueError(f"{what} are not all finite and within {least:g} .. {most:g}")


def names(what: str, values: Any) -> None:
    """Raise ValueError unless ``values`` are distinct names, at least one."""
    if not values or not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"{what} are {values!r}, not names")
    if len(set(values)) != len(values):
        raise ValueError(f"{what} name one thing twice: {values!r}")
