"""What it costs to trade, seen from prices and trades alone: effective spread and price impact."""

from math import sqrt

from features.registry import feature
from features.statistics import Stat

_BUY, _SELL, _VALUE, _RETURN = int(Stat.BUY_VOLUME), int(Stat.SELL_VOLUME), int(Stat.VALUE), int(Stat.RETURN)


@feature(
    "roll_spread_{w}",
    unit="fraction of price",
    needs="price",
    definition="2 sqrt(-c), c the first-order autocovariance of one-bar log returns over the last w bars"
    " (mean taken as zero); 0 where c is not negative",
    source="Roll (1984)",
    least=3,
)
def roll_spread(h, o, t, w):  # type: ignore[no-untyped-def]
    products = 0.0
    for i in range(t - w + 2, t + 1):
        products += h[i, _RETURN] * h[i - 1, _RETURN]
    if products >= 0.0:
        return 0.0
    return 2.0 * sqrt(-products / (w - 1))


@feature(
    "amihud_{w}",
    unit="log return per million of quote currency",
    needs=("trades", "price"),
    definition="mean over the bars with trades, of the last w, of |one-bar log return| / value traded;"
    " 0 without trades",
    source="Amihud (2002)",
)
def amihud(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    traded = 0.0
    for i in range(t - w + 1, t + 1):
        if h[i, _VALUE] > 0.0:
            total += abs(h[i, _RETURN]) / h[i, _VALUE]
            traded += 1.0
    if traded == 0.0:
        return 0.0
    return 1e6 * total / traded


@feature(
    "kyle_lambda_{w}",
    unit="log return per unit of base currency",
    needs=("trades", "price"),
    definition="slope of one-bar log returns on signed volume over the last w bars, through the origin;"
    " 0 without trades",
    source="Kyle (1985); Hasbrouck (2009)",
    least=2,
)
def kyle_lambda(h, o, t, w):  # type: ignore[no-untyped-def]
    products = 0.0
    squares = 0.0
    for i in range(t - w + 1, t + 1):
        signed = h[i, _BUY] - h[i, _SELL]
        products += h[i, _RETURN] * signed
        squares += signed * signed
    if squares == 0.0:
        return 0.0
    return products / squares
