"""Order books as compiled arrays: deltas between snapshots, diffs on top of a snapshot, replay for checking.

Prices are whole ticks and sizes whole lots (int64). The levels of a side are kept sorted with the best level
last, so that the frequent changes near the top move few entries.
"""

import numpy as np
from numba import njit

ADD, UPDATE, DELETE, CLEAR = 1, 2, 3, 4
_GROWTH = 65_536


class LevelBook:
    """One book's levels: ``prices[0], sizes[0]`` bids ascending, ``prices[1], sizes[1]`` asks descending."""

    def __init__(self) -> None:
        self.prices = np.zeros((2, _GROWTH), dtype=np.int64)
        self.sizes = np.zeros((2, _GROWTH), dtype=np.int64)
        self.count = np.zeros(2, dtype=np.int64)

    def reserve(self, rows: int) -> None:
        """Make room for ``rows`` more levels a side."""
        if self.count.max() + rows > self.prices.shape[1]:
            spare = np.zeros((2, rows + _GROWTH), dtype=np.int64)
            self.prices = np.concatenate((self.prices, spare), axis=1)
            self.sizes = np.concatenate((self.sizes, spare), axis=1)

    def clear(self) -> None:
        """Empty it."""
        self.count[:] = 0

    def best(self) -> tuple[int, int, int, int] | None:
        """Bid price, bid size, ask price, ask size; None while a side is empty."""
        bids, asks = self.count
        if bids == 0 or asks == 0:
            return None
        return (
            int(self.prices[0, bids - 1]),
            int(self.sizes[0, bids - 1]),
            int(self.prices[1, asks - 1]),
            int(self.sizes[1, asks - 1]),
        )


@njit(cache=True)
def set_level(
    prices: np.ndarray, sizes: np.ndarray, count: np.ndarray, side: int, price: int, size: int
) -> int:
    """Give a level its size (0: gone).

    ``side`` is +1 bid, -1 ask. Returns the action taken, 0 where none was needed.
    """
    k = 0 if side > 0 else 1
    n = count[k]
    lo, hi = 0, n
    while lo < hi:  # first place whose price is not worse than this one
        mid = (lo + hi) // 2
        if (prices[k, mid] < price) if k == 0 else (prices[k, mid] > price):
            lo = mid + 1
        else:
            hi = mid
    here = lo < n and prices[k, lo] == price
    if size == 0:
        if not here:
            return 0
        for i in range(lo, n - 1):
            prices[k, i] = prices[k, i + 1]
            sizes[k, i] = sizes[k, i + 1]
        count[k] = n - 1
        return DELETE
    if here:
        if sizes[k, lo] == size:
            return 0
        sizes[k, lo] = size
        return UPDATE
    for i in range(n, lo, -1):
        prices[k, i] = prices[k, i - 1]
        sizes[k, i] = sizes[k, i - 1]
    prices[k, lo] = price
    sizes[k, lo] = size
    count[k] = n + 1
    return ADD


@njit(cache=True)
def touch(prices: np.ndarray, count: np.ndarray) -> int:
    """0 where best bid < best ask or a side is empty, 1 where they are equal (locked), 2 where bid > ask
    (crossed).
    """
    if count[0] == 0 or count[1] == 0:
        return 0
    bid, ask = prices[0, count[0] - 1], prices[1, count[1] - 1]
    return 0 if bid < ask else (1 if bid == ask else 2)


@njit(cache=True)
def apply_updates(
    prices: np.ndarray,
    sizes: np.ndarray,
    count: np.ndarray,
    starts: np.ndarray,
    side: np.ndarray,
    price: np.ndarray,
    size: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Apply updates to a book; update ``g`` is the rows ``starts[g]:starts[g + 1]``.

    Within an update levels that go come first, so that a book which is not crossed after an update is not
    crossed inside it.

    Returns
    -------
    row : int64 array
        The input row of each delta, in the order to apply them. Rows that change nothing are left out.
    action : int8 array
        ``ADD``, ``UPDATE`` or ``DELETE`` of each delta.
    update : int64 array
        The update each delta belongs to.
    state : int64 array, shape (3,)
        Number of updates after which the book was sound, locked, crossed.
    """
    total = starts[-1]
    row = np.empty(total, dtype=np.int64)
    action = np.empty(total, dtype=np.int8)
    update = np.empty(total, dtype=np.int64)
    state = np.zeros(3, dtype=np.int64)
    n = 0
    for g in range(len(starts) - 1):
        for gone in (True, False):
            for i in range(starts[g], starts[g + 1]):
                if (size[i] == 0) == gone:
                    what = set_level(prices, sizes, count, side[i], price[i], size[i])
                    if what:
                        row[n], action[n], update[n] = i, what, g
                        n += 1
        state[touch(prices, count)] += 1
    return row[:n], action[:n], update[:n], state


@njit(cache=True)
def snapshot_updates(
    prices: np.ndarray,
    sizes: np.ndarray,
    count: np.ndarray,
    starts: np.ndarray,
    side: np.ndarray,
    price: np.ndarray,
    size: np.ndarray,
    fresh: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Deltas that turn each snapshot into the next; snapshot ``g`` is the rows ``starts[g]:starts[g + 1]``.

    The book holds the snapshot before the first. Where ``fresh[g]``, the book is cleared and written anew.
    Levels that go come first. The rows of a snapshot are its bids from the best, then its asks from the best.

    Returns
    -------
    action, side : int8 arrays
    price, size : int64 arrays
    update : int64 array
        The snapshot each delta belongs to.
    state : int64 array, shape (4,)
        Number of snapshots that were sound, locked, crossed; and the first row out of order, or -1.
    """
    total = 2 * starts[-1] + count[0] + count[1] + len(starts)
    out_action = np.empty(total, dtype=np.int8)
    out_side = np.empty(total, dtype=np.int8)
    out_price = np.empty(total, dtype=np.int64)
    out_size = np.empty(total, dtype=np.int64)
    update = np.empty(total, dtype=np.int64)
    state = np.zeros(4, dtype=np.int64)
    state[3] = -1
    n = 0
    for g in range(len(starts) - 1):
        lo, hi = starts[g], starts[g + 1]
        asks = lo
        while asks < hi and side[asks] > 0:
            asks += 1
        for i in range(lo + 1, hi):
            if i != asks and (side[i] != side[i - 1] or (price[i] - price[i - 1]) * side[i] >= 0):
                state[3] = i
                return out_action[:n], out_side[:n], out_price[:n], out_size[:n], update[:n], state
        if fresh[g]:
            count[:] = 0
            out_action[n], out_side[n], out_price[n], out_size[n], update[n] = CLEAR, 0, 0, 0, g
            n += 1
        for k in range(2):
            # Both lists run from the best level: the book's from its end, the snapshot's from its start.
            i, stop = (lo, asks) if k == 0 else (asks, hi)
            sign = 1 if k == 0 else -1
            for old in range(count[k] - 1, -1, -1):
                while i < stop and (price[i] - prices[k, old]) * sign > 0:
                    i += 1
                if i == stop or price[i] != prices[k, old]:
                    out_action[n], out_side[n], out_price[n], out_size[n] = DELETE, sign, prices[k, old], 0
                    update[n] = g
                    n += 1
        for k in range(2):
            first, stop = (lo, asks) if k == 0 else (asks, hi)
            sign = 1 if k == 0 else -1
            old = count[k] - 1
            for i in range(first, stop):
                while old >= 0 and (prices[k, old] - price[i]) * sign > 0:
                    old -= 1
                here = old >= 0 and prices[k, old] == price[i]
                if here and sizes[k, old] == size[i]:
                    continue
                out_action[n] = UPDATE if here else ADD
                out_side[n], out_price[n], out_size[n], update[n] = sign, price[i], size[i], g
                n += 1
        for k in range(2):
            first, stop = (lo, asks) if k == 0 else (asks, hi)
            count[k] = stop - first
            for i in range(first, stop):
                prices[k, stop - 1 - i] = price[i]
                sizes[k, stop - 1 - i] = size[i]
        state[touch(prices, count)] += 1
    return out_action[:n], out_side[:n], out_price[:n], out_size[:n], update[:n], state


@njit(cache=True)
def replay(
    prices: np.ndarray,
    sizes: np.ndarray,
    count: np.ndarray,
    kind: np.ndarray,
    price: np.ndarray,
    size: np.ndarray,
    last: np.ndarray,
) -> np.ndarray:
    """Apply deltas to a book and judge it after each that completes an update.

    ``kind`` is +1 for a bid level, -1 for an ask level, 0 to clear. Returns int8 by delta: -1 where the
    update goes on, else what ``touch`` says.
    """
    out = np.full(len(kind), -1, dtype=np.int8)
    for i in range(len(kind)):
        if kind[i] == 0:
            count[:] = 0
        else:
            set_level(prices, sizes, count, kind[i], price[i], size[i])
        if last[i]:
            out[i] = touch(prices, count)
    return out
