"""What perpetual futures add: funding, basis to other prices, and external series such as open interest."""

from math import log

from features.registry import feature
from features.statistics import Stat

_PRICE, _MARK, _INDEX, _FUNDING = int(Stat.PRICE), int(Stat.MARK), int(Stat.INDEX), int(Stat.FUNDING)


@feature(
    "funding_rate", unit="fraction per interval", needs="funding", definition="last published funding rate"
)
def funding_rate(h, o, t, w):  # type: ignore[no-untyped-def]
    return h[t, _FUNDING]


@feature(
    "funding_deviation_{w}",
    unit="fraction per interval",
    needs="funding",
    definition="last published funding rate minus its mean over the last w bars",
)
def funding_deviation(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _FUNDING]
    return h[t, _FUNDING] - total / w


@feature("mark_basis", unit="log price", needs=("mark", "price"), definition="ln(P / mark price) at close")
def mark_basis(h, o, t, w):  # type: ignore[no-untyped-def]
    return log(h[t, _PRICE] / h[t, _MARK])


@feature("index_basis", unit="log price", needs=("index", "price"), definition="ln(P / index price) at close")
def index_basis(h, o, t, w):  # type: ignore[no-untyped-def]
    return log(h[t, _PRICE] / h[t, _INDEX])


@feature(
    "basis",
    unit="log price",
    needs="price",
    pair=True,
    definition="ln(P of the traded stream / P of this one) at close",
)
def basis(h, o, t, w):  # type: ignore[no-untyped-def]
    return log(o[t, _PRICE] / h[t, _PRICE])


@feature(
    "basis_change_{w}",
    unit="log price",
    needs="price",
    pair=True,
    definition="change over w bars of ln(P of the traded stream / P of this one)",
)
def basis_change(h, o, t, w):  # type: ignore[no-untyped-def]
    return log(o[t, _PRICE] / h[t, _PRICE]) - log(o[t - w, _PRICE] / h[t - w, _PRICE])


@feature(
    "series_value",
    unit="as published",
    needs="series",
    definition="last published value of an external series",
)
def series_value(h, o, t, w):  # type: ignore[no-untyped-def]
    return h[t, _PRICE]


@feature(
    "series_log_change_{w}",
    unit="log ratio",
    needs="series",
    definition="ln(last published value / the one known w bars ago)",
)
def series_log_change(h, o, t, w):  # type: ignore[no-untyped-def]
    return log(h[t, _PRICE] / h[t - w, _PRICE])
