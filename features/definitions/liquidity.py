"""What it costs to trade, seen from prices and trades alone: effective spread and price impact."""

from math import sqrt

from features.registry import feature
from features.statistics import Stat
from features.window import floored, lagged, products, ratio, squares


@feature(
    "roll_spread_{w}",
    unit="fraction of price",
    needs="price",
    definition="2 sqrt(-c), c the first-order autocovariance of one-bar log returns over the last w bars"
    " (mean taken as zero); 0 where c is not negative",
    source="Roll (1984)",
    least=3,
)
def roll_spread(h, o, t, w):
    return 2.0 * sqrt(floored(-lagged(h, Stat.RETURN, t, w) / (w - 1), 0.0))


@feature(
    "amihud_{w}",
    unit="log return per million of quote currency",
    needs=("trades", "price"),
    definition="mean over the bars with trades, of the last w, of |one-bar log return| / value traded;"
    " 0 without trades",
    source="Amihud (2002)",
)
def amihud(h, o, t, w):
    impact = traded = 0.0
    for i in range(t - w + 1, t + 1):
        if h[i, Stat.VALUE] > 0.0:
            impact += abs(h[i, Stat.RETURN]) / h[i, Stat.VALUE]
            traded += 1.0
    return ratio(1e6 * impact, traded)


@feature(
    "kyle_lambda_{w}",
    unit="log return per unit of base currency",
    needs=("trades", "price"),
    definition="slope of one-bar log returns on signed volume over the last w bars, through the origin;"
    " 0 without trades",
    source="Kyle (1985); Hasbrouck (2009)",
    least=2,
)
def kyle_lambda(h, o, t, w):
    return ratio(products(h, Stat.RETURN, Stat.SIGNED_VOLUME, t, w), squares(h, Stat.SIGNED_VOLUME, t, w))
