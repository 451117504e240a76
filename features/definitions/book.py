"""The order book at the close of a bar: spread, microprice, imbalance, order flow."""

from math import log

import numba

from features.registry import feature
from features.statistics import Stat
from features.window import floored, mean, total

_IMBALANCE = "(bid size - ask size) / (bid size + ask size) of the best {} at close"
_CONT = "Cont, Kukanov and Stoikov (2014)"


@numba.njit(cache=True, error_model="numpy")
def _average_spread(h, t, w):
    return total(h, Stat.SPREAD_TIME, t, w) / total(h, Stat.QUOTED_TIME, t, w) / h[t, Stat.PRICE]


@numba.njit(cache=True, error_model="numpy")
def _imbalance(bid, ask):
    return (bid - ask) / (bid + ask)


@feature(
    "spread",
    unit="fraction of mid",
    needs="book",
    definition="(ask - bid) / mid at close; 0 locked, negative crossed",
)
def spread(h, o, t, w):
    return (h[t, Stat.ASK] - h[t, Stat.BID]) / h[t, Stat.PRICE]


@feature(
    "average_spread_{w}",
    unit="fraction of mid",
    needs="book",
    definition="time-weighted spread over the last w bars / mid at close",
)
def average_spread(h, o, t, w):
    return _average_spread(h, t, w)


@feature(
    "log_spread_{w}",
    unit="log fraction of mid",
    needs="book",
    definition="ln(average_spread_w), floored at ln(1e-7)",
)
def log_spread(h, o, t, w):
    return log(floored(_average_spread(h, t, w), 1e-7))  # less also where books are crossed


@feature(
    "microprice_deviation",
    unit="fraction of mid",
    needs="book",
    definition="(microprice - mid) / mid,"
    " microprice = (bid * ask size + ask * bid size) / (bid size + ask size)",
    source="Gatheral and Oomen (2010); first-order form of Stoikov (2018)",
)
def microprice_deviation(h, o, t, w):
    micro = h[t, Stat.BID] * h[t, Stat.ASK_SIZE] + h[t, Stat.ASK] * h[t, Stat.BID_SIZE]
    return (micro / (h[t, Stat.BID_SIZE] + h[t, Stat.ASK_SIZE]) - h[t, Stat.PRICE]) / h[t, Stat.PRICE]


@feature("book_imbalance_1", unit="-1..1", needs="book", definition=_IMBALANCE.format("level"), source=_CONT)
def book_imbalance_1(h, o, t, w):
    return _imbalance(h[t, Stat.BID_SIZE], h[t, Stat.ASK_SIZE])


@feature(
    "book_imbalance_5", unit="-1..1", needs="depth", definition=_IMBALANCE.format("5 levels"), source=_CONT
)
def book_imbalance_5(h, o, t, w):
    return _imbalance(h[t, Stat.BID_DEPTH_5], h[t, Stat.ASK_DEPTH_5])


@feature(
    "book_imbalance_10", unit="-1..1", needs="depth", definition=_IMBALANCE.format("10 levels"), source=_CONT
)
def book_imbalance_10(h, o, t, w):
    return _imbalance(h[t, Stat.BID_DEPTH_10], h[t, Stat.ASK_DEPTH_10])


@feature(
    "log_depth_{w}",
    unit="log base currency",
    needs="depth",
    definition="ln(mean over w bars of the volume of the best 10 levels of both sides at close)",
)
def log_depth(h, o, t, w):
    return log(mean(h, Stat.DEPTH_10, t, w))


@feature(
    "order_flow_imbalance_{w}",
    unit="best-level sizes",
    needs="book",
    definition="sum of order flow at the best levels over w bars / mean best-level size over them",
    source=_CONT + ", equation 4",
)
def order_flow_imbalance(h, o, t, w):
    return total(h, Stat.ORDER_FLOW, t, w) * w / total(h, Stat.BEST_SIZE, t, w)


@feature(
    "book_updates_{w}",
    unit="updates per bar",
    needs="book",
    definition="mean number per bar, over w bars, of atomic updates that changed the book: one that repeats"
    " what stands, or takes a level away that is not there, is none",
)
def book_updates(h, o, t, w):
    return mean(h, Stat.UPDATES, t, w)
