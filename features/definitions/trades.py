"""Trade flow: signed volume, cumulative volume delta, counts, intensity, VWAP."""

from math import log, log1p

from features.registry import feature
from features.statistics import Stat
from features.window import deviation, mean, ratio, total


@feature(
    "signed_volume_{w}",
    unit="base currency",
    needs="trades",
    definition="bought minus sold volume (by aggressor) over w bars",
)
def signed_volume(h, o, t, w):
    return total(h, Stat.SIGNED_VOLUME, t, w)


@feature(
    "cvd_change_{w}",
    unit="-1..1",
    needs="trades",
    definition="change of cumulative volume delta over w bars / volume traded in them; 0 without trades",
)
def cvd_change(h, o, t, w):
    bought, sold = total(h, Stat.BUY_VOLUME, t, w), total(h, Stat.SELL_VOLUME, t, w)
    return ratio(bought - sold, bought + sold)


@feature("trade_count_{w}", unit="trades", needs="trades", definition="number of trades in w bars")
def trade_count(h, o, t, w):
    return total(h, Stat.TRADES, t, w)


@feature(
    "trade_imbalance_{w}",
    unit="-1..1",
    needs="trades",
    definition="(buys - sells) / (buys + sells), counts by aggressor over w bars; 0 without trades",
)
def trade_imbalance(h, o, t, w):
    buys, sells = total(h, Stat.BUYS, t, w), total(h, Stat.SELLS, t, w)
    return ratio(buys - sells, buys + sells)


@feature(
    "trade_intensity_{w}",
    unit="log trades per second",
    needs="trades",
    definition="ln(1 + trades per second over w bars)",
)
def trade_intensity(h, o, t, w):
    return log1p(total(h, Stat.TRADES, t, w) / total(h, Stat.SECONDS, t, w))


@feature(
    "log_volume_{w}",
    unit="log base currency",
    needs="ohlcv",
    definition="ln(1 + mean volume per bar over w bars)",
)
def log_volume(h, o, t, w):
    return log1p(mean(h, Stat.VOLUME, t, w))


@feature(
    "volume_zscore_{w}",
    unit="standard deviations",
    needs="ohlcv",
    definition="(volume of the bar - mean) / standard deviation of bar volume over w bars;"
    " 0 where all are equal",
    least=2,
)
def volume_zscore(h, o, t, w):
    return ratio(h[t, Stat.VOLUME] - mean(h, Stat.VOLUME, t, w), deviation(h, Stat.VOLUME, t, w))


@feature(
    "vwap_deviation_{w}",
    unit="log price",
    needs=("trades", "price"),
    definition="ln(P_t / volume-weighted average trade price of w bars); 0 without trades",
)
def vwap_deviation(h, o, t, w):
    volume = total(h, Stat.VOLUME, t, w)
    return log(h[t, Stat.PRICE] * volume / total(h, Stat.VALUE, t, w)) if volume != 0.0 else 0.0
