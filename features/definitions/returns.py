"""Returns, volatility and the shape of the price path."""

from math import cos, log, pi, sin, sqrt

from features.registry import feature
from features.statistics import Stat
from features.window import floored, highest, lagged, lowest, magnitude, mean, path, ratio, squares, total


@feature(
    "log_return_{w}", unit="log return", needs="price", definition="ln(P_t / P_{t-w}), P the reference price"
)
def log_return(h, o, t, w):
    return log(h[t, Stat.PRICE] / h[t - w, Stat.PRICE])


@feature(
    "realized_volatility_{w}",
    unit="log return per bar",
    needs="price",
    definition="sqrt(mean of squared one-bar log returns over the last w bars)",
    source="Andersen, Bollerslev, Diebold and Labys (2003)",
)
def realized_volatility(h, o, t, w):
    return sqrt(squares(h, Stat.RETURN, t, w) / w)


@feature(
    "log_volatility_{w}",
    unit="log of log return per bar",
    needs="price",
    definition="ln(realized_volatility_w), floored at ln(1e-8): near normal, as Gaussian models want it",
    source="Andersen, Bollerslev, Diebold and Labys (2003)",
)
def log_volatility(h, o, t, w):
    return log(floored(sqrt(squares(h, Stat.RETURN, t, w) / w), 1e-8))


@feature(
    "intrabar_volatility_{w}",
    unit="log return per bar",
    needs="book",
    definition="sqrt(mean over w bars of the sum of squared log changes of the mid within the bar)",
    source="Barndorff-Nielsen and Shephard (2002)",
)
def intrabar_volatility(h, o, t, w):
    return sqrt(mean(h, Stat.MID_VARIANCE, t, w))


@feature(
    "absolute_return_{w}",
    unit="log return per bar",
    needs="price",
    definition="mean absolute one-bar log return over the last w bars",
)
def absolute_return(h, o, t, w):
    return magnitude(h, Stat.RETURN, t, w) / w


@feature(
    "efficiency_{w}",
    unit="ratio 0..1",
    needs="price",
    definition="|P_t - P_{t-w}| / sum of |one-bar changes|: 1 a straight line, near 0 a random walk;"
    " 0 if nothing moved",
    source="Kaufman (1995), efficiency ratio",
)
def efficiency(h, o, t, w):
    return ratio(abs(h[t, Stat.PRICE] - h[t - w, Stat.PRICE]), path(h, Stat.PRICE, t, w))


@feature(
    "drift_ratio_{w}",
    unit="standard deviations",
    needs="price",
    definition="log_return_w / (realized_volatility_w * sqrt(w)): the w-bar move in units of its own noise;"
    " 0 if nothing moved",
    source="t-statistic of the mean return",
)
def drift_ratio(h, o, t, w):
    return ratio(log(h[t, Stat.PRICE] / h[t - w, Stat.PRICE]), sqrt(squares(h, Stat.RETURN, t, w)))


@feature(
    "autocorrelation_{w}",
    unit="correlation",
    needs="price",
    definition="first-order autocorrelation of one-bar log returns over the last w bars (mean taken as zero);"
    " 0 if nothing moved",
    least=3,
)
def autocorrelation(h, o, t, w):
    return ratio(lagged(h, Stat.RETURN, t, w), squares(h, Stat.RETURN, t, w))


@feature(
    "high_low_{w}",
    unit="log return",
    needs="ohlcv",
    definition="ln(highest / lowest trade price of the last w bars); 0 without trades",
    source="Parkinson (1980), unscaled",
)
def high_low(h, o, t, w):
    high, low = highest(h, Stat.HIGH, t, w), lowest(h, Stat.LOW, t, w)
    return log(high / low) if high >= low else 0.0


@feature(
    "parkinson_volatility_{w}",
    unit="log return per bar",
    needs="ohlcv",
    definition="sqrt(mean of ln(high/low)^2 over the w bars' trades / (4 ln 2));"
    " bars without trades count as 0",
    source="Parkinson (1980)",
)
def parkinson_volatility(h, o, t, w):
    return sqrt(squares(h, Stat.RANGE, t, w) / w / (4.0 * log(2.0)))


@feature(
    "moving_average_gap_{w}",
    unit="log price",
    needs="price",
    definition="ln(P_t / mean of P over the last w bars)",
)
def moving_average_gap(h, o, t, w):
    return log(h[t, Stat.PRICE] * w / total(h, Stat.PRICE, t, w))


@feature(
    "time_of_day_sin", unit="-1..1", needs="clock", definition="sin(2 pi * time of day at close / 24 h), UTC"
)
def time_of_day_sin(h, o, t, w):
    return sin(2.0 * pi * h[t, Stat.CLOCK] / 86_400.0)


@feature(
    "time_of_day_cos", unit="-1..1", needs="clock", definition="cos(2 pi * time of day at close / 24 h), UTC"
)
def time_of_day_cos(h, o, t, w):
    return cos(2.0 * pi * h[t, Stat.CLOCK] / 86_400.0)
