"""Transforms: what the last bars of a feature say of its newest value, by name: ``zscore(spread, 1440)``.

A declaration is a decorated function, as that of a feature is (``features/registry.py``)::

    @transform("lag", definition="x of w bars ago", earlier=lambda w: w)
    def lag(x, o, t, w):
        return x[t - w, 0]

``x`` holds the values of the feature, shape (bars, 1), ``w`` is the number a config writes. A transform is a
function of a window and nothing else, so it is the same from wherever reading began.

What is unknown (not finite) is left out of a window: one bar without a book would else silence a day of them.
Where the newest value is unknown, or fewer than half of the window are known, so is what is made of them.
"""

import dataclasses
from collections.abc import Callable
from math import isfinite, nan, sqrt

import numba

from features.registry import Declared
from features.window import ratio


@dataclasses.dataclass(frozen=True)
class Transform(Declared):
    """One declared transform."""

    name: str
    unit: str  # empty: that of the feature
    definition: str
    source: str
    least: int  # smallest number of bars allowed
    earlier: Callable[[int], int]  # bars before the newest that it reads, of that number
    function: Callable[..., float]


TRANSFORMS: dict[str, Transform] = {}
"""Every declared transform by name."""


def transform(
    name: str,
    *,
    definition: str,
    unit: str = "",
    source: str = "",
    least: int = 1,
    earlier: Callable[[int], int] = lambda w: w - 1,
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Declare a transform; see above. ``earlier`` says how many bars before the newest it reads."""

    def declare(function: Callable[..., float]) -> Callable[..., float]:
        if name in TRANSFORMS:
            other = TRANSFORMS[name].function.__module__
            raise ValueError(
                f"{function.__module__}: transform {name!r} is that of {other}; give it another name"
            )
        TRANSFORMS[name] = Transform(name, unit, definition, source, least, earlier, function)
        return function

    return declare


@numba.njit(cache=True, error_model="numpy")
def _known(x, t, w):
    """How many values of a window are known; 0 where they are too few or the newest is not."""
    n = 0
    for i in range(t - w + 1, t + 1):
        if isfinite(x[i, 0]):
            n += 1
    return n if isfinite(x[t, 0]) and 2 * n >= w else 0


@numba.njit(cache=True, error_model="numpy")
def _offset(x, t, w, n):
    """Mean of the ``n`` known values of a window, less the newest: exactly 0 where all are equal."""
    found = 0.0
    for i in range(t - w + 1, t + 1):
        if isfinite(x[i, 0]):
            found += x[i, 0] - x[t, 0]
    return found / n


@transform("lag", definition="x of w bars ago", earlier=lambda w: w)
def lag(x, o, t, w):
    return x[t - w, 0]


@transform("difference", definition="x less x of w bars ago", earlier=lambda w: w)
def difference(x, o, t, w):
    return x[t, 0] - x[t - w, 0]


@transform("average", definition="mean of x over the last w bars", least=2)
def average(x, o, t, w):
    n = _known(x, t, w)
    return x[t, 0] + _offset(x, t, w, n) if n > 0 else nan


@transform(
    "zscore",
    unit="standard deviations",
    definition="(x - mean) / standard deviation of x over the last w bars; 0 where all are equal",
    least=2,
)
def zscore(x, o, t, w):
    n = _known(x, t, w)
    if n == 0:
        return nan
    offset = _offset(x, t, w, n)
    found = 0.0
    for i in range(t - w + 1, t + 1):
        if isfinite(x[i, 0]):
            d = x[i, 0] - x[t, 0] - offset
            found += d * d
    return ratio(-offset, sqrt(found / n))


@transform(
    "rank",
    unit="0..1",
    definition="share of the last w bars' x that are below x, those equal to it (itself too) counted half",
    least=2,
)
def rank(x, o, t, w):
    n = _known(x, t, w)
    if n == 0:
        return nan
    below = 0.0
    for i in range(t - w + 1, t + 1):
        if x[i, 0] < x[t, 0] and isfinite(x[i, 0]):
            below += 1.0
        elif x[i, 0] == x[t, 0]:
            below += 0.5
    return below / n


@transform(
    "ema",
    definition="exponential average of x with a span of w bars, of the last 4 w: weights (1 - 2/(w+1))^age,"
    " divided by their sum",
    source="the weights left out add up to e^-8",
    least=2,
    earlier=lambda w: 4 * w - 1,
)
def ema(x, o, t, w):
    if _known(x, t, 4 * w) == 0:
        return nan
    fade = 1.0 - 2.0 / (w + 1.0)
    weight = 1.0
    found = weights = 0.0
    for age in range(4 * w):
        if isfinite(x[t - age, 0]):
            found += weight * (x[t - age, 0] - x[t, 0])
            weights += weight
        weight *= fade
    return x[t, 0] + found / weights
