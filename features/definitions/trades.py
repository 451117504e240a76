"""Trade flow: signed volume, cumulative volume delta, counts, intensity, VWAP."""

from math import log, log1p, sqrt

from features.registry import feature
from features.statistics import Stat

_BUY, _SELL, _BUYS, _SELLS = int(Stat.BUY_VOLUME), int(Stat.SELL_VOLUME), int(Stat.BUYS), int(Stat.SELLS)
_VALUE, _PRICE, _SECONDS = int(Stat.VALUE), int(Stat.PRICE), int(Stat.SECONDS)


@feature(
    "signed_volume_{w}",
    unit="base currency",
    needs="trades",
    definition="bought minus sold volume (by aggressor) over w bars",
)
def signed_volume(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _BUY] - h[i, _SELL]
    return total


@feature(
    "cvd_change_{w}",
    unit="-1..1",
    needs="trades",
    definition="change of cumulative volume delta over w bars / volume traded in them; 0 without trades",
)
def cvd_change(h, o, t, w):  # type: ignore[no-untyped-def]
    bought = 0.0
    sold = 0.0
    for i in range(t - w + 1, t + 1):
        bought += h[i, _BUY]
        sold += h[i, _SELL]
    if bought + sold == 0.0:
        return 0.0
    return (bought - sold) / (bought + sold)


@feature("trade_count_{w}", unit="trades", needs="trades", definition="number of trades in w bars")
def trade_count(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _BUYS] + h[i, _SELLS]
    return total


@feature(
    "trade_imbalance_{w}",
    unit="-1..1",
    needs="trades",
    definition="(buys - sells) / (buys + sells), counts by aggressor over w bars; 0 without trades",
)
def trade_imbalance(h, o, t, w):  # type: ignore[no-untyped-def]
    buys = 0.0
    sells = 0.0
    for i in range(t - w + 1, t + 1):
        buys += h[i, _BUYS]
        sells += h[i, _SELLS]
    if buys + sells == 0.0:
        return 0.0
    return (buys - sells) / (buys + sells)


@feature(
    "trade_intensity_{w}",
    unit="log trades per second",
    needs="trades",
    definition="ln(1 + trades per second over w bars)",
)
def trade_intensity(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    seconds = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _BUYS] + h[i, _SELLS]
        seconds += h[i, _SECONDS]
    return log1p(total / seconds)


@feature(
    "log_volume_{w}",
    unit="log base currency",
    needs="ohlcv",
    definition="ln(1 + mean volume per bar over w bars)",
)
def log_volume(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _BUY] + h[i, _SELL]
    return log1p(total / w)


@feature(
    "volume_zscore_{w}",
    unit="standard deviations",
    needs="ohlcv",
    definition="(volume of the bar - mean) / standard deviation of bar volume over w bars;"
    " 0 where all are equal",
    least=2,
)
def volume_zscore(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _BUY] + h[i, _SELL]
    mean = total / w
    squares = 0.0
    for i in range(t - w + 1, t + 1):
        d = h[i, _BUY] + h[i, _SELL] - mean
        squares += d * d
    if squares == 0.0:
        return 0.0
    return (h[t, _BUY] + h[t, _SELL] - mean) / sqrt(squares / w)


@feature(
    "vwap_deviation_{w}",
    unit="log price",
    needs=("trades", "price"),
    definition="ln(P_t / volume-weighted average trade price of w bars); 0 without trades",
)
def vwap_deviation(h, o, t, w):  # type: ignore[no-untyped-def]
    value = 0.0
    volume = 0.0
    for i in range(t - w + 1, t + 1):
        value += h[i, _VALUE]
        volume += h[i, _BUY] + h[i, _SELL]
    if volume == 0.0:
        return 0.0
    return log(h[t, _PRICE] * volume / value)
