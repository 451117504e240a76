"""The feature kernel: one compiled loop from merged events to features, the same for a bar and for a year.

It keeps each stream's order book and bar statistics, and at every ``CLOSE`` record computes the chosen features from the
last bars' statistics. All it remembers is in its state, so the events may be cut anywhere: inside a bar, inside a book
update. A feature is a function of a window of finished bars and nothing else, which makes causality plain to see.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba.typed import List

from features.book import depth, set_level
from features.causal import State
from features.events import LAST, EventKind
from features.registry import FUNCTION, Chosen, Need, choose, schema_hash
from features.statistics import STATS, Stat
from features.table import FeatureTable

LEVELS = 8_192
"""Book levels kept a side; beyond it the farthest are forgotten."""

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
_PRICE, _SECONDS, _CLOCK = int(Stat.PRICE), int(Stat.SECONDS), int(Stat.CLOCK)

# What is remembered of each stream between events, besides its book and the open bar.
_BEST_BID, _BEST_BID_SIZE, _BEST_ASK, _BEST_ASK_SIZE, _MID, _SIGN, _TICK_PRICE, _MEMORY = range(8)


@dataclasses.dataclass(frozen=True)
class StreamSpec:
    """One instrument the kernel reads.

    Parameters
    ----------
    alias : str
        Its name in features (``log_return_10@alias``).
    price_increment : float
        Its tick; book prices are kept as whole ticks.
    feeds : frozenset of Need
        The data there is: ``trades`` and ``ohlcv`` with trades, ``book`` with best levels, ``depth`` with an L2 book,
        ``ohlcv`` alone with external bars, ``mark``, ``index``, ``funding``.
    """

    alias: str
    price_increment: float
    feeds: frozenset[Need]


class FeatureKernel:
    """The chosen features over the given streams; immutable, with its memory in an explicit state.

    Parameters
    ----------
    names : sequence of str
        Features as a config names them.
    streams : sequence of StreamSpec
        In the order of stream indices of the events; the first is the traded one.
    series : sequence of str
        Aliases of external series, in the order of their indices.
    bars : dict, optional
        What identifies the bars, for the schema's hash.

    Raises
    ------
    ValueError
        For an unknown feature or alias, or a feature whose data a stream does not have.
    """

    def __init__(
        self,
        names: Sequence[str],
        streams: Sequence[StreamSpec],
        series: Sequence[str] = (),
        bars: dict[str, Any] | None = None,
    ) -> None:
        if len(set(names)) != len(names):
            raise ValueError(f"features are named twice: {sorted({n for n in names if list(names).count(n) > 1})}")
        self.names = tuple(names)
        self.streams = tuple(streams)
        self.series = tuple(series)
        self._chosen = [choose(name) for name in names]
        aliases = [s.alias for s in streams] + list(series)
        self._own = np.array([self._index(c, aliases) for c in self._chosen], np.int64)
        self._number = np.array([c.number for c in self._chosen], np.int64)
        self._lookback = np.array([c.lookback for c in self._chosen], np.int64)
        self._functions = List.empty_list(FUNCTION)
        for c in self._chosen:
            self._functions.append(c.feature.function)
        self._ticks = np.array([s.price_increment for s in streams])
        self.window = int(self._lookback.max(initial=0)) + 1
        self.schema_hash = schema_hash(self._chosen, bars or {})

    def _index(self, chosen: Chosen, aliases: list[str]) -> int:
        alias = chosen.alias or aliases[0]
        if alias not in aliases:
            raise ValueError(f"feature {chosen.name!r}: no stream or series {alias!r}; there are {', '.join(aliases)}")
        index = aliases.index(alias)
        feeds = self.streams[index].feeds if index < len(self.streams) else frozenset[Need](("series",))
        for need in chosen.feature.needs:
            if need == "clock" or (need == "price" and feeds & {"book", "trades", "ohlcv", "series"}):
                continue
            if need not in feeds:
                raise ValueError(
                    f"feature {chosen.name!r} needs {need!r} of {alias!r}, which has only: {', '.join(sorted(feeds)) or '-'}"
                )
        return index

    @property
    def needs(self) -> dict[str, set[Need]]:
        """For each stream, the data some chosen feature reads; ``price`` of the traded stream always."""
        aliases = [s.alias for s in self.streams] + list(self.series)
        found: dict[str, set[Need]] = {s.alias: set() for s in self.streams}
        found[aliases[0]].add("price")
        for chosen, own in zip(self._chosen, self._own, strict=True):
            found.setdefault(aliases[own], set()).update(chosen.feature.needs)
        return found

    @property
    def schema(self) -> list[dict[str, Any]]:
        """One description a feature: name, unit, window, definition, source, needs."""
        return [c.describe() for c in self._chosen]

    def initial_state(self) -> State:
        """The kernel before its first event."""
        n, all_streams = len(self.streams), len(self.streams) + len(self.series)
        capacity = 2 * self.window + 64
        rows = np.full((all_streams, STATS), np.nan)
        rows[:, _BUY_VOLUME : _VALUE + 1] = 0.0
        rows[:, _UPDATES : _MID_VARIANCE + 1] = 0.0
        memory = np.full((n, _MEMORY), np.nan)
        memory[:, _SIGN] = 1.0
        return {
            "keys": np.zeros((n, 2, LEVELS), np.int64),
            "sizes": np.zeros((n, 2, LEVELS)),
            "levels": np.zeros((n, 2), np.int64),
            "rows": rows,
            "memory": memory,
            "times": np.full(n + 1, -1, np.int64),  # start of the open bar, then when each spread was last accrued
            "history": np.full((all_streams, capacity, STATS), np.nan),
            "filled": np.zeros(1, np.int64),
        }

    def run(self, events: np.ndarray, state: State | None = None) -> tuple[FeatureTable, np.ndarray]:
        """Features of every bar that closes in ``events`` (canonical order).

        Returns
        -------
        table : FeatureTable
            One row a bar, NaN where a feature is not yet known.
        quotes : float64 array, shape (bars, 3)
            Reference price of the traded stream at each close (mid, else last trade; NaN if never known), best bid and
            best ask (NaN without a book).
        """
        state = self.initial_state() if state is None else state
        ts = events["ts"][events["kind"] == _CLOSE]
        values = np.empty((len(ts), len(self.names)))
        quotes = np.empty((len(ts), 3))
        self._advance(events, state, values, quotes)
        return FeatureTable(np.ascontiguousarray(ts), self.names, values), quotes

    def step(self, state: State, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One bar: ``events`` end with its ``CLOSE``. Returns features, shape (len(names),), and quote, shape (3,)."""
        values = np.empty((1, len(self.names)))
        quotes = np.empty((1, 3))
        self._advance(events, state, values, quotes)
        return values[0], quotes[0]

    def _advance(self, events: np.ndarray, s: State, values: np.ndarray, quotes: np.ndarray) -> None:
        _advance(
            events, s["keys"], s["sizes"], s["levels"], s["rows"], s["memory"], s["times"], s["history"], s["filled"],
            self._ticks, self.window, self._functions, self._own, self._number, self._lookback, values, quotes,
        )  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def _advance(
    events, keys, sizes, levels, rows, memory, times, history, filled,
    ticks, window, functions, own, number, lookback, values, quotes,
):  # type: ignore[no-untyped-def]  # fmt: skip
    streams = len(ticks)
    bar = 0
    for i in range(len(events)):
        event = events[i]
        kind, s, ts = event.kind, event.stream, event.ts
        if kind >= _TRADE_BUY:
            _trade(kind, event.price, event.size, rows[s], memory[s])
        elif kind >= _CLEAR:
            book, amounts, n = keys[s], sizes[s], levels[s]
            if kind == _BID or kind == _QUOTE_BID:
                if kind == _QUOTE_BID:
                    n[0] = 0
                n[0] = set_level(book[0], amounts[0], n[0], np.int64(np.rint(event.price / ticks[s])), event.size)
            elif kind == _ASK or kind == _QUOTE_ASK:
                if kind == _QUOTE_ASK:
                    n[1] = 0
                n[1] = set_level(book[1], amounts[1], n[1], -np.int64(np.rint(event.price / ticks[s])), event.size)
            else:
                n[0] = 0
                n[1] = 0
            if event.flags & _LAST:
                _accrue_spread(ts, s, rows[s], memory[s], times)
                _book_changed(book, amounts, n, ticks[s], rows[s], memory[s])
        elif kind == _CLOSE:
            at = filled[0]
            if at == history.shape[1]:  # make room: the last window of bars moves to the front
                kept = window
                for j in range(history.shape[0]):
                    history[j, :kept] = history[j, at - kept :].copy()
                at = kept
            for j in range(history.shape[0]):
                if j < streams:
                    _accrue_spread(ts, j, rows[j], memory[j], times)
                    _at_close(keys[j], sizes[j], levels[j], ticks[j], rows[j], memory[j])
                rows[j, _SECONDS] = (ts - times[0]) * 1e-9 if times[0] >= 0 else np.nan
                rows[j, _CLOCK] = (ts % 86_400_000_000_000) * 1e-9
                history[j, at] = rows[j]
                _new_bar(rows[j])
            times[0] = ts
            filled[0] = at + 1
            for f in range(len(functions)):
                if at < lookback[f]:
                    values[bar, f] = np.nan
                else:
                    values[bar, f] = functions[f](history[own[f]], history[0], at, number[f])
            quotes[bar, 0] = history[0, at, _PRICE]
            quotes[bar, 1] = history[0, at, _BID_STAT]
            quotes[bar, 2] = history[0, at, _ASK_STAT]
            bar += 1
        elif kind == _SERIES:
            rows[streams + s, _PRICE] = event.price
        elif kind == _FUNDING:
            rows[s, _FUNDING_STAT] = event.price
        elif kind == _INDEX:
            rows[s, _INDEX_STAT] = event.price
        elif kind == _MARK:
            rows[s, _MARK_STAT] = event.price


@numba.njit(cache=True, error_model="numpy")
def _trade(kind, price, size, row, memory):  # type: ignore[no-untyped-def]
    if kind == _TRADE_BUY:
        sign = 1.0
    elif kind == _TRADE_SELL:
        sign = -1.0
    else:
        # Lee and Ready (1991): by the mid of the prevailing quote; at the mid, or without one, by the last price change.
        mid = memory[_MID]
        if price > mid:
            sign = 1.0
        elif price < mid:
            sign = -1.0
        elif price > memory[_TICK_PRICE]:
            sign = 1.0
        elif price < memory[_TICK_PRICE]:
            sign = -1.0
        else:
            sign = memory[_SIGN]
    memory[_SIGN] = sign
    memory[_TICK_PRICE] = price
    if math.isnan(row[_OPEN]):
        row[_OPEN] = price
        row[_HIGH] = price
        row[_LOW] = price
    elif price > row[_HIGH]:
        row[_HIGH] = price
    elif price < row[_LOW]:
        row[_LOW] = price
    row[_LAST_PRICE] = price
    row[_VALUE] += price * size
    if sign > 0:
        row[_BUY_VOLUME] += size
        row[_BUYS] += 1.0
    else:
        row[_SELL_VOLUME] += size
        row[_SELLS] += 1.0


@numba.njit(cache=True, error_model="numpy")
def _accrue_spread(ts, s, row, memory, times):  # type: ignore[no-untyped-def]
    """Integrate the spread that stood since it was last accrued."""
    since = times[1 + s]
    if since >= 0 and not math.isnan(memory[_MID]):
        seconds = (ts - since) * 1e-9
        row[_SPREAD_TIME] += seconds * (memory[_BEST_ASK] - memory[_BEST_BID])
        row[_QUOTED_TIME] += seconds
    times[1 + s] = ts


@numba.njit(cache=True, error_model="numpy")
def _book_changed(book, amounts, n, tick, row, memory):  # type: ignore[no-untyped-def]
    """After an atomic update: order flow of the best levels, and the move of the mid."""
    row[_UPDATES] += 1.0
    if n[0] == 0 or n[1] == 0:
        memory[_BEST_BID] = np.nan
        memory[_BEST_ASK] = np.nan
        memory[_MID] = np.nan
        return
    bid, bid_size = book[0, n[0] - 1] * tick, amounts[0, n[0] - 1]
    ask, ask_size = -book[1, n[1] - 1] * tick, amounts[1, n[1] - 1]
    old_bid, old_ask, old_mid = memory[_BEST_BID], memory[_BEST_ASK], memory[_MID]
    mid = 0.5 * (bid + ask)
    if not math.isnan(old_mid):
        # Cont, Kukanov and Stoikov (2014), equation 4.
        flow = 0.0
        if bid >= old_bid:
            flow += bid_size
        if bid <= old_bid:
            flow -= memory[_BEST_BID_SIZE]
        if ask <= old_ask:
            flow -= ask_size
        if ask >= old_ask:
            flow += memory[_BEST_ASK_SIZE]
        row[_ORDER_FLOW] += flow
        if mid != old_mid:
            change = math.log(mid / old_mid)
            row[_MID_VARIANCE] += change * change
    memory[_BEST_BID] = bid
    memory[_BEST_BID_SIZE] = bid_size
    memory[_BEST_ASK] = ask
    memory[_BEST_ASK_SIZE] = ask_size
    memory[_MID] = mid


@numba.njit(cache=True, error_model="numpy")
def _at_close(book, amounts, n, tick, row, memory):  # type: ignore[no-untyped-def]
    """The book's columns and the reference price of a closing bar, as of the last whole book update."""
    mid = memory[_MID]
    if math.isnan(mid):
        for j in range(_BID_STAT, _ASK_DEPTH_10 + 1):
            row[j] = np.nan
        row[_PRICE] = row[_LAST_PRICE]
        return
    row[_BID_STAT] = memory[_BEST_BID]
    row[_ASK_STAT] = memory[_BEST_ASK]
    row[_BID_SIZE] = memory[_BEST_BID_SIZE]
    row[_ASK_SIZE] = memory[_BEST_ASK_SIZE]
    row[_BID_DEPTH_5] = depth(amounts[0], n[0], 5)
    row[_ASK_DEPTH_5] = depth(amounts[1], n[1], 5)
    row[_BID_DEPTH_10] = depth(amounts[0], n[0], 10)
    row[_ASK_DEPTH_10] = depth(amounts[1], n[1], 10)
    row[_PRICE] = mid


@numba.njit(cache=True)
def _new_bar(row):  # type: ignore[no-untyped-def]
    """Sums and counts start anew; what holds at a close carries over."""
    row[_OPEN] = np.nan
    row[_HIGH] = np.nan
    row[_LOW] = np.nan
    for j in range(_BUY_VOLUME, _VALUE + 1):
        row[j] = 0.0
    for j in range(_UPDATES, _MID_VARIANCE + 1):
        row[j] = 0.0


def kernel_fingerprint(kernel: FeatureKernel) -> str:
    """A short name for a kernel's outputs, for stores of computed features."""
    streams = repr([(s.alias, s.price_increment, sorted(s.feeds)) for s in kernel.streams]) + repr(kernel.series)
    return hashlib.sha256((kernel.schema_hash + streams).encode()).hexdigest()[:16]
