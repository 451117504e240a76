"""Window algebra: sums, extremes and moments of a column of bar statistics over the last bars, compiled.

Features are written in these. ``h`` is a stream's statistics, shape (bars, STATS), ``column`` a ``Stat``; a
window of ``w`` bars are the bars ``t - w + 1 .. t``. Each is one pass from the oldest bar to the newest, so a
value is the same to the last bit wherever it is computed.

What is unknown of one bar (NaN) is unknown of every window with it. Only ``highest`` and ``lowest`` pass
over it: a bar without trades has no high, its neighbours have.
"""

from math import isnan, sqrt

import numba
import numpy as np

_INF = np.inf


@numba.njit(cache=True, error_model="numpy")
def total(h, column, t, w):
    """Sum over a window."""
    found = 0.0
    for i in range(t - w + 1, t + 1):
        found += h[i, column]
    return found


@numba.njit(cache=True, error_model="numpy")
def mean(h, column, t, w):
    """Mean over a window."""
    return total(h, column, t, w) / w


@numba.njit(cache=True, error_model="numpy")
def magnitude(h, column, t, w):
    """Sum of absolute values over a window."""
    found = 0.0
    for i in range(t - w + 1, t + 1):
        found += abs(h[i, column])
    return found


@numba.njit(cache=True, error_model="numpy")
def path(h, column, t, w):
    """Sum of absolute changes from bar to bar over a window; reads the bar before it too."""
    found = 0.0
    for i in range(t - w + 1, t + 1):
        found += abs(h[i, column] - h[i - 1, column])
    return found


@numba.njit(cache=True, error_model="numpy")
def squares(h, column, t, w):
    """Sum of squares over a window."""
    found = 0.0
    for i in range(t - w + 1, t + 1):
        found += h[i, column] * h[i, column]
    return found


@numba.njit(cache=True, error_model="numpy")
def products(h, column, other, t, w):
    """Sum over a window of the products of two columns."""
    found = 0.0
    for i in range(t - w + 1, t + 1):
        found += h[i, column] * h[i, other]
    return found


@numba.njit(cache=True, error_model="numpy")
def lagged(h, column, t, w):
    """Sum of the ``w - 1`` products of neighbours within a window."""
    found = 0.0
    for i in range(t - w + 2, t + 1):
        found += h[i, column] * h[i - 1, column]
    return found


@numba.njit(cache=True, error_model="numpy")
def deviation(h, column, t, w):
    """Standard deviation over a window, that of a population; exactly 0 where all are equal."""
    centre = mean(h, column, t, w)
    found = 0.0
    equal = True
    for i in range(t - w + 1, t + 1):
        found += (h[i, column] - centre) * (h[i, column] - centre)
        equal = equal and h[i, column] == h[t, column]
    return 0.0 if equal else sqrt(found / w)  # a mean of equals need not be one of them, as floats


@numba.njit(cache=True, error_model="numpy")
def highest(h, column, t, w):
    """The largest known value of a window, -inf without one."""
    found = -_INF
    for i in range(t - w + 1, t + 1):
        if h[i, column] > found:
            found = h[i, column]
    return found


@numba.njit(cache=True, error_model="numpy")
def lowest(h, column, t, w):
    """The smallest known value of a window, inf without one."""
    found = _INF
    for i in range(t - w + 1, t + 1):
        if h[i, column] < found:
            found = h[i, column]
    return found


@numba.njit(cache=True, error_model="numpy")
def ratio(above, below):
    """``above / below``; 0 where ``below`` is 0, as of nothing that moved or traded."""
    if below == 0.0:
        return 0.0
    return above / below


@numba.njit(cache=True, error_model="numpy")
def floored(value, least):
    """``value``, or ``least`` where it is smaller; unknown where it is unknown."""
    if isnan(value) or value > least:
        return value
    return least
