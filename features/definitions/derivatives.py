"""What perpetual futures add: funding, basis to other prices, and external series such as open interest."""

from math import log

from features.registry import feature
from features.statistics import Stat
from features.window import mean


@feature(
    "funding_rate", unit="fraction per interval", needs="funding", definition="last published funding rate"
)
def funding_rate(h, o, t, w):
    return h[t, Stat.FUNDING]


@feature(
    "funding_deviation_{w}",
    unit="fraction per interval",
    needs="funding",
    definition="last published funding rate minus its mean over the last w bars",
)
def funding_deviation(h, o, t, w):
    return h[t, Stat.FUNDING] - mean(h, Stat.FUNDING, t, w)


@feature("mark_basis", unit="log price", needs=("mark", "price"), definition="ln(P / mark price) at close")
def mark_basis(h, o, t, w):
    return log(h[t, Stat.PRICE] / h[t, Stat.MARK])


@feature("index_basis", unit="log price", needs=("index", "price"), definition="ln(P / index price) at close")
def index_basis(h, o, t, w):
    return log(h[t, Stat.PRICE] / h[t, Stat.INDEX])


@feature(
    "basis",
    unit="log price",
    needs="price",
    pair=True,
    definition="ln(P of the traded stream / P of this one) at close",
)
def basis(h, o, t, w):
    return log(o[t, Stat.PRICE] / h[t, Stat.PRICE])


@feature(
    "basis_change_{w}",
    unit="log price",
    needs="price",
    pair=True,
    definition="change over w bars of ln(P of the traded stream / P of this one)",
)
def basis_change(h, o, t, w):
    return log(o[t, Stat.PRICE] / h[t, Stat.PRICE]) - log(o[t - w, Stat.PRICE] / h[t - w, Stat.PRICE])


@feature(
    "series_value",
    unit="as published",
    needs="series",
    definition="last published value of an external series",
)
def series_value(h, o, t, w):
    return h[t, Stat.PRICE]


@feature(
    "series_log_change_{w}",
    unit="log ratio",
    needs="series",
    definition="ln(last published value / the one known w bars ago)",
)
def series_log_change(h, o, t, w):
    return log(h[t, Stat.PRICE] / h[t - w, Stat.PRICE])
