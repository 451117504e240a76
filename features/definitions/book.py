"""The order book at the close of a bar: spread, microprice, imbalance, order flow."""

from math import log

from features.registry import feature
from features.statistics import Stat

_PRICE, _BID, _ASK = int(Stat.PRICE), int(Stat.BID), int(Stat.ASK)
_BID_SIZE, _ASK_SIZE = int(Stat.BID_SIZE), int(Stat.ASK_SIZE)
_BID_DEPTH_5, _ASK_DEPTH_5 = int(Stat.BID_DEPTH_5), int(Stat.ASK_DEPTH_5)
_BID_DEPTH_10, _ASK_DEPTH_10 = int(Stat.BID_DEPTH_10), int(Stat.ASK_DEPTH_10)
_ORDER_FLOW, _UPDATES = int(Stat.ORDER_FLOW), int(Stat.UPDATES)
_SPREAD_TIME, _QUOTED_TIME = int(Stat.SPREAD_TIME), int(Stat.QUOTED_TIME)

_IMBALANCE = "(bid size - ask size) / (bid size + ask size) of the best {} at close"
_CONT = "Cont, Kukanov and Stoikov (2014)"


@feature(
    "spread",
    unit="fraction of mid",
    needs="book",
    definition="(ask - bid) / mid at close; 0 locked, negative crossed",
)
def spread(h, o, t, w):  # type: ignore[no-untyped-def]
    return (h[t, _ASK] - h[t, _BID]) / h[t, _PRICE]


@feature(
    "average_spread_{w}",
    unit="fraction of mid",
    needs="book",
    definition="time-weighted spread over the last w bars / mid at close",
)
def average_spread(h, o, t, w):  # type: ignore[no-untyped-def]
    area = 0.0
    seconds = 0.0
    for i in range(t - w + 1, t + 1):
        area += h[i, _SPREAD_TIME]
        seconds += h[i, _QUOTED_TIME]
    return area / seconds / h[t, _PRICE]


@feature(
    "log_spread_{w}",
    unit="log fraction of mid",
    needs="book",
    definition="ln(average_spread_w), floored at ln(1e-7)",
)
def log_spread(h, o, t, w):  # type: ignore[no-untyped-def]
    area = 0.0
    seconds = 0.0
    for i in range(t - w + 1, t + 1):
        area += h[i, _SPREAD_TIME]
        seconds += h[i, _QUOTED_TIME]
    ratio = area / seconds / h[t, _PRICE]
    if ratio < 1e-7:  # also negative, where books are crossed
        ratio = 1e-7
    return log(ratio)


@feature(
    "microprice_deviation",
    unit="fraction of mid",
    needs="book",
    definition="(microprice - mid) / mid,"
    " microprice = (bid * ask size + ask * bid size) / (bid size + ask size)",
    source="Gatheral and Oomen (2010); first-order form of Stoikov (2018)",
)
def microprice_deviation(h, o, t, w):  # type: ignore[no-untyped-def]
    total = h[t, _BID_SIZE] + h[t, _ASK_SIZE]
    micro = (h[t, _BID] * h[t, _ASK_SIZE] + h[t, _ASK] * h[t, _BID_SIZE]) / total
    return (micro - h[t, _PRICE]) / h[t, _PRICE]


@feature("book_imbalance_1", unit="-1..1", needs="book", definition=_IMBALANCE.format("level"), source=_CONT)
def book_imbalance_1(h, o, t, w):  # type: ignore[no-untyped-def]
    return (h[t, _BID_SIZE] - h[t, _ASK_SIZE]) / (h[t, _BID_SIZE] + h[t, _ASK_SIZE])


@feature(
    "book_imbalance_5", unit="-1..1", needs="depth", definition=_IMBALANCE.format("5 levels"), source=_CONT
)
def book_imbalance_5(h, o, t, w):  # type: ignore[no-untyped-def]
    return (h[t, _BID_DEPTH_5] - h[t, _ASK_DEPTH_5]) / (h[t, _BID_DEPTH_5] + h[t, _ASK_DEPTH_5])


@feature(
    "book_imbalance_10", unit="-1..1", needs="depth", definition=_IMBALANCE.format("10 levels"), source=_CONT
)
def book_imbalance_10(h, o, t, w):  # type: ignore[no-untyped-def]
    return (h[t, _BID_DEPTH_10] - h[t, _ASK_DEPTH_10]) / (h[t, _BID_DEPTH_10] + h[t, _ASK_DEPTH_10])


@feature(
    "log_depth_{w}",
    unit="log base currency",
    needs="depth",
    definition="ln(mean over w bars of the volume of the best 10 levels of both sides at close)",
)
def log_depth(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _BID_DEPTH_10] + h[i, _ASK_DEPTH_10]
    return log(total / w)


@feature(
    "order_flow_imbalance_{w}",
    unit="best-level sizes",
    needs="book",
    definition="sum of order flow at the best levels over w bars / mean best-level size over them",
    source=_CONT + ", equation 4",
)
def order_flow_imbalance(h, o, t, w):  # type: ignore[no-untyped-def]
    flow = 0.0
    size = 0.0
    for i in range(t - w + 1, t + 1):
        flow += h[i, _ORDER_FLOW]
        size += 0.5 * (h[i, _BID_SIZE] + h[i, _ASK_SIZE])
    return flow * w / size


@feature(
    "book_updates_{w}",
    unit="updates per bar",
    needs="book",
    definition="mean number per bar, over w bars, of atomic updates that changed the book: one that repeats"
    " what stands, or takes a level away that is not there, is none",
)
def book_updates(h, o, t, w):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(t - w + 1, t + 1):
        total += h[i, _UPDATES]
    return total / w
