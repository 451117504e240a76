"""Returns, volatility and the shape of the price path."""

from math import isnan, log, pi, sqrt

import numpy as np

from features.registry import feature
from features.statistics import Stat

_PRICE, _HIGH, _LOW, _MID_VARIANCE = int(Stat.PRICE), int(Stat.HIGH), int(Stat.LOW), int(Stat.MID_VARIANCE)
_CLOCK, _RETURN = int(Stat.CLOCK), int(Stat.RETURN)
_INF = np.inf


@feature(
    "log_return_{w}", unit="log return", needs="price", definition="ln(P_t / P_{t-w}), P the reference price"
)
def log_return(h, o, t, w):  # type: ignore[no-untyped-def]
    return log(h[t, _PRICE] / h[t - w, _PRICE])


@feature(
    "realized_volatility_{w}",
    unit="log return per bar",
    needs="price",
    definition="sqrt(mean of squared one-bar log returns over the last w bars)",
    source="Andersen, Bollerslev, Diebold and Labys (2003)",
)
def realized_volatility(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _RETURN] * h[i, _RETURN]
    return sqrt(total / w)


@feature(
    "log_volatility_{w}",
    unit="log of log return per bar",
    needs="price",
    definition="ln(realized_volatility_w), floored at ln(1e-8): near normal, as Gaussian models want it",
    source="Andersen, Bollerslev, Diebold and Labys (2003)",
)
def log_volatility(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _RETURN] * h[i, _RETURN]
    if isnan(total):
        return total
    return log(max(sqrt(total / w), 1e-8))


@feature(
    "intrabar_volatility_{w}",
    unit="log return per bar",
    needs="book",
    definition="sqrt(mean over w bars of the sum of squared log changes of the mid within the bar)",
    source="Barndorff-Nielsen and Shephard (2002)",
)
def intrabar_volatility(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _MID_VARIANCE]
    return sqrt(total / w)


@feature(
    "absolute_return_{w}",
    unit="log return per bar",
    needs="price",
    definition="mean absolute one-bar log return over the last w bars",
)
def absolute_return(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += abs(h[i, _RETURN])
    return total / w


@feature(
    "efficiency_{w}",
    unit="ratio 0..1",
    needs="price",
    definition="|P_t - P_{t-w}| / sum of |one-bar changes|: 1 a straight line, near 0 a random walk;"
    " 0 if nothing moved",
    source="Kaufman (1995), efficiency ratio",
)
def efficiency(h, o, t, w):  # type: ignore[no-untyped-def]
    path = 0.0
    for i in range(t - w + 1, t + 1):
        path += abs(h[i, _PRICE] - h[i - 1, _PRICE])
    if path == 0.0:
        return 0.0
    return abs(h[t, _PRICE] - h[t - w, _PRICE]) / path


@feature(
    "drift_ratio_{w}",
    unit="standard deviations",
    needs="price",
    definition="log_return_w / (realized_volatility_w * sqrt(w)): the w-bar move in units of its own noise;"
    " 0 if nothing moved",
    source="t-statistic of the mean return",
)
def drift_ratio(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _RETURN] * h[i, _RETURN]
    if total == 0.0:
        return 0.0
    return log(h[t, _PRICE] / h[t - w, _PRICE]) / sqrt(total)


@feature(
    "autocorrelation_{w}",
    unit="correlation",
    needs="price",
    definition="first-order autocorrelation of one-bar log returns over the last w bars (mean taken as zero);"
    " 0 if nothing moved",
    least=3,
)
def autocorrelation(h, o, t, w):  # type: ignore[no-untyped-def]
    previous = h[t - w + 1, _RETURN]
    squares = previous * previous
    products = 0.0
    for i in range(t - w + 2, t + 1):
        r = h[i, _RETURN]
        squares += r * r
        products += r * previous
        previous = r
    if squares == 0.0:
        return 0.0
    return products / squares


@feature(
    "high_low_{w}",
    unit="log return",
    needs="ohlcv",
    definition="ln(highest / lowest trade price of the last w bars); 0 without trades",
    source="Parkinson (1980), unscaled",
)
def high_low(h, o, t, w):  # type: ignore[no-untyped-def]
    high, low = -_INF, _INF
    for i in range(t - w + 1, t + 1):
        if h[i, _HIGH] > high:
            high = h[i, _HIGH]
        if h[i, _LOW] < low:
            low = h[i, _LOW]
    if high < low:
        return 0.0
    return log(high / low)


@feature(
    "parkinson_volatility_{w}",
    unit="log return per bar",
    needs="ohlcv",
    definition="sqrt(mean of ln(high/low)^2 over the w bars' trades / (4 ln 2));"
    " bars without trades count as 0",
    source="Parkinson (1980)",
)
def parkinson_volatility(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        if h[i, _HIGH] > 0.0:
            r = log(h[i, _HIGH] / h[i, _LOW])
            total += r * r
    return sqrt(total / w / (4.0 * log(2.0)))


@feature(
    "moving_average_gap_{w}",
    unit="log price",
    needs="price",
    definition="ln(P_t / mean of P over the last w bars)",
)
def moving_average_gap(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _PRICE]
    return log(h[t, _PRICE] * w / total)


@feature(
    "time_of_day_sin", unit="-1..1", needs="clock", definition="sin(2 pi * time of day at close / 24 h), UTC"
)
def time_of_day_sin(h, o, t, w):  # type: ignore[no-untyped-def]
    return np.sin(2.0 * pi * h[t, _CLOCK] / 86_400.0)


@feature(
    "time_of_day_cos", unit="-1..1", needs="clock", definition="cos(2 pi * time of day at close / 24 h), UTC"
)
def time_of_day_cos(h, o, t, w):  # type: ignore[no-untyped-def]
    return np.cos(2.0 * pi * h[t, _CLOCK] / 86_400.0)
