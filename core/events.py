"""The numeric language of raw market data: one record an event, the same from a catalog and from callbacks.

A run reads several *streams* (instruments). Their trades, book updates and slow values are merged into one
array of ``EVENT`` records ordered by ``ts`` (nanoseconds, ``ts_init``: when we could know). A bar closes
where a ``CLOSE`` record stands, so an event array is all the feature kernel needs, and it may be cut
anywhere.
"""

from enum import IntEnum

import numba
import numpy as np

EVENT = np.dtype(
    [("ts", "i8"), ("kind", "i2"), ("stream", "i2"), ("flags", "i4"), ("price", "f8"), ("size", "f8")],
)
"""``ts`` ns of ``ts_init``; ``kind`` an ``EventKind``; ``stream`` index of the instrument (or external
series); ``flags`` bit ``LAST``; ``price`` and ``size`` as floats, turned into whole ticks and lots by the
kernel."""

LAST = 1
"""Flag on the final record of one atomic book update: the book is consistent after it."""


class EventKind(IntEnum):
    """What a record says. Its value is also its rank among records of one ``ts``: a bar closes before
    anything else, slow values and prices come before the book, the book before trades."""

    CLOSE = 0  # a bar ends here: it holds the events with ts < this ts
    SERIES = 1  # an external series (open interest, sentiment …): price = value, stream = series index
    FUNDING = 2  # price = funding rate per interval
    INDEX = 3  # price = index price
    MARK = 4  # price = mark price
    CLEAR = 5  # the book is emptied (a snapshot follows)
    BID = 6  # bid level price has size (0 = level gone)
    ASK = 7
    QUOTE_BID = 8  # the bid side is this one level (best bid/ask feeds)
    QUOTE_ASK = 9
    TRADE_BUY = 10  # aggressor bought
    TRADE_SELL = 11
    TRADE = 12  # aggressor unknown: the kernel infers it


def sort_events(events: np.ndarray) -> np.ndarray:
    """Events in canonical order: by ``ts``, then rank of kind group, then stream; arrival order in a feed.

    A *feed* is one stream's book, quotes, trades or one slow value; book updates of one ``ts`` keep their
    order, and so do trades. Callbacks and catalogs that hold the same feeds therefore give the same array.
    """
    if _in_order(events):
        return events
    return events[np.lexsort((events["stream"], _GROUP[events["kind"]], events["ts"]))]


# CLEAR, BID and ASK are one feed (their mutual order matters), so are QUOTE_*, so are TRADE*.
_GROUP = np.array([0, 1, 2, 3, 4, 5, 5, 5, 6, 6, 7, 7, 7], dtype=np.int64)


@numba.njit(cache=True)
def _in_order(events):
    """Whether ``events`` are in canonical order already, as they nearly always are."""
    for i in range(1, len(events)):
        before, after = events[i - 1], events[i]
        if after.ts > before.ts:
            continue
        group, next_group = _GROUP[before.kind], _GROUP[after.kind]
        if after.ts < before.ts or next_group < group:
            return False
        if next_group == group and after.stream < before.stream:
            return False
    return True


@numba.njit(cache=True)
def split_at(events, start, end):
    """How many leading events are before ``end`` (ns), if they are in canonical order and all others are not;
    and how many of them are before ``start``.

    -1 where they have to be sorted out first, as when a live queue handed some over late.
    """
    n = late = 0
    while n < len(events) and events[n].ts < end:
        late += events[n].ts < start
        n += 1
    for i in range(n, len(events)):
        if events[i].ts < end:
            return -1, 0
    return (n, late) if _in_order(events[:n]) else (-1, 0)
