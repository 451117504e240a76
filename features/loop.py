"""The compiled loop of the feature kernel: from events to books and bar statistics, from those to features.

Everything is passed as whole arrays and indices, never as rows of arrays: a view costs more to make and to
let go than an event costs to apply. Memory is laid out by ``initial_state`` of ``features/kernel.py``.
"""

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from core.contract import value, volume
from core.events import LAST, EventKind
from features.book import depth, set_level, set_only
from features.registry import SIGNATURE
from features.statistics import Stat

_CLOSE, _SERIES, _FUNDING = int(EventKind.CLOSE), int(EventKind.SERIES), int(EventKind.FUNDING)
_INDEX, _MARK, _CLEAR = int(EventKind.INDEX), int(EventKind.MARK), int(EventKind.CLEAR)
_BID, _ASK = int(EventKind.BID), int(EventKind.ASK)
_QUOTE_BID, _QUOTE_ASK = int(EventKind.QUOTE_BID), int(EventKind.QUOTE_ASK)
_TRADE_BUY, _TRADE_SELL = int(EventKind.TRADE_BUY), int(EventKind.TRADE_SELL)
_LAST = LAST

_OPEN, _HIGH, _LOW, _LAST_PRICE = int(Stat.OPEN), int(Stat.HIGH), int(Stat.LOW), int(Stat.LAST)
_BUY_VOLUME, _SELL_VOLUME = int(Stat.BUY_VOLUME), int(Stat.SELL_VOLUME)
_BUYS, _SELLS, _VALUE = int(Stat.BUYS), int(Stat.SELLS), int(Stat.VALUE)
_BID_STAT, _ASK_STAT = int(Stat.BID), int(Stat.ASK)
_BID_SIZE, _ASK_SIZE = int(Stat.BID_SIZE), int(Stat.ASK_SIZE)
_BID_DEPTH_5, _ASK_DEPTH_5 = int(Stat.BID_DEPTH_5), int(Stat.ASK_DEPTH_5)
_BID_DEPTH_10, _ASK_DEPTH_10 = int(Stat.BID_DEPTH_10), int(Stat.ASK_DEPTH_10)
_UPDATES, _ORDER_FLOW = int(Stat.UPDATES), int(Stat.ORDER_FLOW)
_SPREAD_TIME, _QUOTED_TIME = int(Stat.SPREAD_TIME), int(Stat.QUOTED_TIME)
_MID_VARIANCE = int(Stat.MID_VARIANCE)
_MARK_STAT, _INDEX_STAT, _FUNDING_STAT = int(Stat.MARK), int(Stat.INDEX), int(Stat.FUNDING)
_PRICE, _RETURN = int(Stat.PRICE), int(Stat.RETURN)
_SECONDS, _CLOCK = int(Stat.SECONDS), int(Stat.CLOCK)
_VOLUME, _SIGNED_VOLUME, _TRADES = int(Stat.VOLUME), int(Stat.SIGNED_VOLUME), int(Stat.TRADES)
_RANGE, _BEST_SIZE, _DEPTH_10 = int(Stat.RANGE), int(Stat.BEST_SIZE), int(Stat.DEPTH_10)

# What is remembered of each stream between events, besides its book and the open bar: best levels as whole
# ticks, so that they compare exactly, the trade before, for inferring aggressors, and whether the update that
# is being read changed anything so far.
_BEST_BID, _BEST_BID_SIZE, _BEST_ASK, _BEST_ASK_SIZE, _MID, SIGN, _TRADED, CHANGED, MEMORY = range(9)

_ON_MID = 1e-6  # ticks: a trade this close to the mid is at the mid

# What a position in the traded stream could have been marked at within the open bar: the range of its trades
# and that of its mark prices, each with the moments of its extremes (and of the last mark price).
TRADES, MARKS = range(2)
_FIRST, _LOWEST, _HIGHEST = range(3)
_LOW_AT, _HIGH_AT, _LAST_AT = range(3)
_FRESH = 60_000_000_000  # ns a mark price counts, or a bar's length where that is longer


@intrinsic
def _call(typing, address, own, traded, bar, number):
    """The feature whose machine code is at ``address``: one compiled loop serves any choice of features."""

    def generate(context, builder, signature, args):
        values = [context.get_value_type(argument) for argument in SIGNATURE.args]
        function = ir.FunctionType(context.get_value_type(SIGNATURE.return_type), values)
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])

    return SIGNATURE.return_type(types.int64, *SIGNATURE.args), generate


@numba.njit(cache=True, error_model="numpy")
def advance(
    events, keys, sizes, counts, rows, memory, times, history, filled, past, ranges, moments,
    scale, quoted, multiplier, inverse, window, addresses, own, reads, keeps, number, lookback,
    values, quotes,
):  # fmt: skip
    """Apply ``events``; at each ``CLOSE`` write a row of features to ``values`` and of prices to ``quotes``.

    ``scale`` is each stream's ticks per unit of price, ``quoted`` whether it has a book, ``multiplier`` and
    ``inverse`` its contract; ``addresses`` the features' machine code, each called with the history of stream
    ``own``, or with the ``past`` of what it is a transform of (row ``reads``, else -1), and its ``number``,
    once there are more than ``lookback`` bars. What transforms are of is kept in ``past`` (row ``keeps``, or
    -1).
    Returns the number of bars closed, or -1 where ``values`` has no row for one more.
    """
    streams = len(scale)
    bar = 0
    for i in range(len(events)):
        event = events[i]
        kind, s, ts = event.kind, np.int64(event.stream), event.ts
        if kind >= _TRADE_BUY:
            _trade(kind, event.price, event.size, s, scale, multiplier, inverse, rows, memory)
            if s == 0:
                _widen(TRADES, event.price, ts, ranges, moments)
        elif kind >= _CLEAR:
            # Each side written out: with a constant side an update costs half of one that computes it.
            tick = np.int64(np.rint(event.price * scale[s]))
            if kind == _BID:
                changed = set_level(keys, sizes, counts, s, 0, tick, event.size)
            elif kind == _ASK:
                changed = set_level(keys, sizes, counts, s, 1, -tick, event.size)
            elif kind == _QUOTE_BID:
                changed = set_only(keys, sizes, counts, s, 0, tick, event.size)
            elif kind == _QUOTE_ASK:
                changed = set_only(keys, sizes, counts, s, 1, -tick, event.size)
            else:
                changed = counts[s, 0] + counts[s, 1] > 0
                counts[s, 0] = 0
                counts[s, 1] = 0
            if changed:
                memory[s, CHANGED] = 1.0
            if event.flags & _LAST:
                _book_changed(ts, s, keys, sizes, counts, scale, rows, memory, times)
        elif kind == _CLOSE:
            if bar == len(values):
                return -1
            at = filled[0]
            if at == history.shape[1]:  # make room: the last window of bars moves to the front
                for j in range(history.shape[0]):
                    for kept in range(window):  # element by element: slices cost seconds to compile
                        for c in range(history.shape[2]):
                            history[j, kept, c] = history[j, at - window + kept, c]
                for j in range(past.shape[0]):
                    for kept in range(window):
                        past[j, kept, 0] = past[j, at - window + kept, 0]
                at = window
            for j in range(history.shape[0]):
                if j < streams:
                    _accrue_spread(ts, j, scale, rows, memory, times)
                    _at_close(j, sizes, counts, scale, quoted, multiplier, inverse, rows, memory)
                rows[j, _RETURN] = (
                    math.log(rows[j, _PRICE] / history[j, at - 1, _PRICE]) if at > 0 else np.nan
                )
                rows[j, _SECONDS] = (ts - times[0]) * 1e-9 if times[0] >= 0 else np.nan
                rows[j, _CLOCK] = (ts % 86_400_000_000_000) * 1e-9
                for c in range(rows.shape[1]):
                    history[j, at, c] = rows[j, c]
                _new_bar(j, rows)
            begun = times[0] if times[0] >= 0 else ts
            times[0] = ts
            filled[0] = at + 1
            for f in range(len(addresses)):
                if at < lookback[f]:
                    values[bar, f] = np.nan
                else:
                    read = history[own[f]] if reads[f] < 0 else past[reads[f]]
                    values[bar, f] = _call(addresses[f], read, history[0], at, number[f])  # type: ignore[call-arg]
                if keeps[f] >= 0:
                    past[keeps[f], at, 0] = values[bar, f]
            quotes[bar, 0] = history[0, at, _PRICE]
            quotes[bar, 1] = history[0, at, _BID_STAT]
            quotes[bar, 2] = history[0, at, _ASK_STAT]
            last, mark = history[0, at, _LAST_PRICE], history[0, at, _MARK_STAT]
            _marks(bar, ts, ts - begun, last, mark, ranges, moments, quotes)
            bar += 1
        elif kind == _SERIES:
            rows[streams + s, _PRICE] = event.price
        elif kind == _FUNDING:
            rows[s, _FUNDING_STAT] = event.price
        elif kind == _INDEX:
            rows[s, _INDEX_STAT] = event.price
        elif kind == _MARK:
            rows[s, _MARK_STAT] = event.price
            if s == 0:
                _widen(MARKS, event.price, ts, ranges, moments)
                moments[MARKS, _LAST_AT] = ts
    return bar


@numba.njit(cache=True, error_model="numpy", forceinline=True)
def _widen(of, price, ts, ranges, moments):
    """Take a price of the open bar into its range; an extreme's moment is the first at which it was met."""
    if math.isnan(ranges[of, _FIRST]):
        ranges[of, _FIRST] = price
        ranges[of, _LOWEST] = price
        ranges[of, _HIGHEST] = price
        moments[of, _LOW_AT] = ts
        moments[of, _HIGH_AT] = ts
    elif price < ranges[of, _LOWEST]:
        ranges[of, _LOWEST] = price
        moments[of, _LOW_AT] = ts
    elif price > ranges[of, _HIGHEST]:
        ranges[of, _HIGHEST] = price
        moments[of, _HIGH_AT] = ts


@numba.njit(cache=True, error_model="numpy")
def _marks(bar, ts, length, last, mark, ranges, moments, quotes):
    """What the closing bar could be marked at, by mark prices where there is a fresh one, else by trades."""
    fresh = not math.isnan(mark) and ts - moments[MARKS, _LAST_AT] <= max(_FRESH, length)
    of = MARKS if fresh else TRADES
    close = mark if fresh else quotes[bar, 0]
    if math.isnan(close) and not math.isnan(ranges[TRADES, _FIRST]):
        close = last  # no book to show a price, but others go on dealing
    _widen(of, close, ts, ranges, moments)
    quotes[bar, 3] = close
    quotes[bar, 4] = ranges[of, _FIRST]
    quotes[bar, 5] = ranges[of, _LOWEST]
    quotes[bar, 6] = ranges[of, _HIGHEST]
    quotes[bar, 7] = ts - moments[of, _LOW_AT]
    quotes[bar, 8] = ts - moments[of, _HIGH_AT]
    for of in range(ranges.shape[0]):
        for c in range(ranges.shape[1]):
            ranges[of, c] = np.nan


@numba.njit(cache=True, error_model="numpy", forceinline=True)
def _trade(kind, price, size, s, scale, multiplier, inverse, rows, memory):
    if kind == _TRADE_BUY:
        sign = 1.0
    elif kind == _TRADE_SELL:
        sign = -1.0
    else:
        # Lee and Ready (1991): by the mid of the prevailing quote; at the mid, or without one, by the last
        # change of price.
        above = price * scale[s] - memory[s, _MID]
        if above > _ON_MID:
            sign = 1.0
        elif above < -_ON_MID:
            sign = -1.0
        elif price > memory[s, _TRADED]:
            sign = 1.0
        elif price < memory[s, _TRADED]:
            sign = -1.0
        else:
            sign = memory[s, SIGN]
    memory[s, SIGN] = sign
    memory[s, _TRADED] = price
    if math.isnan(rows[s, _OPEN]):
        rows[s, _OPEN] = price
        rows[s, _HIGH] = price
        rows[s, _LOW] = price
    elif price > rows[s, _HIGH]:
        rows[s, _HIGH] = price
    elif price < rows[s, _LOW]:
        rows[s, _LOW] = price
    rows[s, _LAST_PRICE] = price
    rows[s, _VALUE] += value(price, size, multiplier[s], inverse[s])
    traded = volume(price, size, multiplier[s], inverse[s])
    if sign > 0:
        rows[s, _BUY_VOLUME] += traded
        rows[s, _BUYS] += 1.0
    else:
        rows[s, _SELL_VOLUME] += traded
        rows[s, _SELLS] += 1.0


@numba.njit(cache=True, error_model="numpy", forceinline=True)
def _accrue_spread(ts, s, scale, rows, memory, times):
    """Integrate the spread that stood since it was last accrued."""
    since = times[1 + s]
    if since >= 0 and not math.isnan(memory[s, _MID]):
        seconds = (ts - since) * 1e-9
        rows[s, _SPREAD_TIME] += seconds * ((memory[s, _BEST_ASK] - memory[s, _BEST_BID]) / scale[s])
        rows[s, _QUOTED_TIME] += seconds
    times[1 + s] = ts


@numba.njit(cache=True, error_model="numpy", forceinline=True)
def _book_changed(ts, s, keys, sizes, counts, scale, rows, memory, times):
    """After an atomic update: order flow of the best levels, and the move of the mid."""
    if memory[s, CHANGED] == 0.0:
        return
    memory[s, CHANGED] = 0.0
    rows[s, _UPDATES] += 1.0
    bids, asks = counts[s, 0], counts[s, 1]
    if bids == 0 or asks == 0:
        _accrue_spread(ts, s, scale, rows, memory, times)
        memory[s, _BEST_BID] = np.nan
        memory[s, _BEST_ASK] = np.nan
        memory[s, _MID] = np.nan
        return
    bid, bid_size = np.float64(keys[s, 0, bids - 1]), sizes[s, 0, bids - 1]
    ask, ask_size = np.float64(-keys[s, 1, asks - 1]), sizes[s, 1, asks - 1]
    old_bid, old_ask, old_mid = memory[s, _BEST_BID], memory[s, _BEST_ASK], memory[s, _MID]
    mid = 0.5 * (bid + ask)
    if bid != old_bid or ask != old_ask:  # true also where nothing stood before
        _accrue_spread(ts, s, scale, rows, memory, times)
    if not math.isnan(old_mid):
        # Cont, Kukanov and Stoikov (2014), equation 4.
        flow = 0.0
        if bid >= old_bid:
            flow += bid_size
        if bid <= old_bid:
            flow -= memory[s, _BEST_BID_SIZE]
        if ask <= old_ask:
            flow -= ask_size
        if ask >= old_ask:
            flow += memory[s, _BEST_ASK_SIZE]
        rows[s, _ORDER_FLOW] += flow
        if mid != old_mid:
            change = math.log(mid / old_mid)
            rows[s, _MID_VARIANCE] += change * change
    memory[s, _BEST_BID] = bid
    memory[s, _BEST_BID_SIZE] = bid_size
    memory[s, _BEST_ASK] = ask
    memory[s, _BEST_ASK_SIZE] = ask_size
    memory[s, _MID] = mid


@numba.njit(cache=True, error_model="numpy")
def _at_close(s, sizes, counts, scale, quoted, multiplier, inverse, rows, memory):
    """The book's columns, the price of a closing bar, and what is made of others: best levels as of the last
    whole update.

    While a stream that has a book has none to show (a side is empty, a lost update ended it), there is no
    price: the last trade says what was paid, not what one could deal at.
    """
    rows[s, _VOLUME] = rows[s, _BUY_VOLUME] + rows[s, _SELL_VOLUME]
    rows[s, _SIGNED_VOLUME] = rows[s, _BUY_VOLUME] - rows[s, _SELL_VOLUME]
    rows[s, _TRADES] = rows[s, _BUYS] + rows[s, _SELLS]
    rows[s, _RANGE] = math.log(rows[s, _HIGH] / rows[s, _LOW]) if rows[s, _HIGH] > 0.0 else 0.0
    if math.isnan(memory[s, _MID]):
        for j in range(_BID_STAT, _ASK_DEPTH_10 + 1):
            rows[s, j] = np.nan
        rows[s, _BEST_SIZE] = np.nan
        rows[s, _DEPTH_10] = np.nan
        rows[s, _PRICE] = np.nan if quoted[s] else rows[s, _LAST_PRICE]
        return
    rows[s, _BID_STAT] = memory[s, _BEST_BID] / scale[s]
    rows[s, _ASK_STAT] = memory[s, _BEST_ASK] / scale[s]
    rows[s, _PRICE] = memory[s, _MID] / scale[s]
    unit = volume(rows[s, _PRICE], 1.0, multiplier[s], inverse[s])
    rows[s, _BID_SIZE] = unit * memory[s, _BEST_BID_SIZE]
    rows[s, _ASK_SIZE] = unit * memory[s, _BEST_ASK_SIZE]
    rows[s, _BID_DEPTH_5] = unit * depth(sizes, counts, s, 0, 5)
    rows[s, _ASK_DEPTH_5] = unit * depth(sizes, counts, s, 1, 5)
    rows[s, _BID_DEPTH_10] = unit * depth(sizes, counts, s, 0, 10)
    rows[s, _ASK_DEPTH_10] = unit * depth(sizes, counts, s, 1, 10)
    rows[s, _BEST_SIZE] = 0.5 * (rows[s, _BID_SIZE] + rows[s, _ASK_SIZE])
    rows[s, _DEPTH_10] = rows[s, _BID_DEPTH_10] + rows[s, _ASK_DEPTH_10]


@numba.njit(cache=True)
def _new_bar(s, rows):
    """Sums and counts start anew; what holds at a close carries over."""
    rows[s, _OPEN] = np.nan
    rows[s, _HIGH] = np.nan
    rows[s, _LOW] = np.nan
    for j in range(_BUY_VOLUME, _VALUE + 1):
        rows[s, j] = 0.0
    for j in range(_UPDATES, _MID_VARIANCE + 1):
        rows[s, j] = 0.0
