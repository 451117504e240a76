"""The order book of a synthetic market: makers who quote around a price, and the deltas that tell of it."""

from typing import NamedTuple

import numpy as np
from numba import njit

from catalogs.layout import F_LAST, F_SNAPSHOT

DELTA = np.dtype(
    [
        ("ts", "i8"),
        ("price", "i8"),  # ticks
        ("size", "i8"),  # lots
        ("sequence", "i8"),
        ("action", "i1"),
        ("side", "i1"),
        ("flags", "u1"),
    ]
)
BID, ASK = 0, 1

_ADD, _UPDATE, _DELETE, _CLEAR = 1, 2, 3, 4
_SLACK = 5  # levels a side may hold above the fewest before the farthest is withdrawn
_ROOM = 16  # levels the arrays can hold above the fewest
_HOLE = 4.0  # a gap between levels this many mean gaps wide is filled
_LEVEL_SPREAD = 0.6  # standard deviation of log size
_TOP, _DEEPER = 0.7, 0.1  # median size of the best level, and how much larger each further one is
_WIDENING = 0.06  # how much wider each further gap is
_CHURN_REACH = 6.0  # mean rank of the levels that churn
_RESIZED, _ADDED = 0.6, 0.2  # shares of churn; the rest is withdrawn


class Book(NamedTuple):
    """Row 0 is bids, row 1 asks, best level first, ``counts`` levels in use.

    ``keys`` are prices in ticks, negated for asks, so that on both sides a better price is a larger key.
    ``sizes`` are lots, ``sequence`` (shape (1,)) is the number of the last batch.
    """

    keys: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    sequence: np.ndarray


class Tape(NamedTuple):
    """Deltas written so far: the first ``used[0]`` rows."""

    deltas: np.ndarray
    used: np.ndarray


class Quoting(NamedTuple):
    """What makers want now.

    ``price`` the fair price and ``half`` half the spread, in ticks; ``gap`` the mean distance of levels near
    the best, in ticks; ``depth`` the median lots of a level; ``skew`` the log size of bids less half of bids
    over asks; ``levels`` the fewest on a side.
    """

    price: float
    half: float
    gap: float
    depth: float
    skew: float
    levels: int


def empty_book(levels: int) -> Book:
    """A book without a level, with room for ``levels`` and some more on each side."""
    shape = (2, levels + _ROOM)
    keys, sizes = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    return Book(keys, sizes, np.zeros(2, np.int64), np.zeros(1, np.int64))


@njit(cache=True)
def with_room(tape: Tape, rows: int) -> Tape:
    """``tape``, or a longer copy of it, that takes ``rows`` more."""
    if len(tape.deltas) - tape.used[0] >= rows:
        return tape
    longer = np.empty(2 * len(tape.deltas) + rows, DELTA)
    for i in range(tape.used[0]):  # row by row: slices cost seconds to compile
        longer[i] = tape.deltas[i]
    return Tape(longer, tape.used)


@njit(cache=True)
def close_batch(book: Book, tape: Tape, first: int, ts: int) -> bool:
    """Stamp the rows from ``first`` as one atomic update; False where there are none."""
    deltas, end = tape.deltas, tape.used[0]
    if first == end:
        return False
    book.sequence[0] += 1
    for i in range(first, end):
        deltas[i].ts, deltas[i].sequence, deltas[i].flags = ts, book.sequence[0], 0
    deltas[end - 1].flags = F_LAST
    return True


@njit(cache=True)
def snapshot(book: Book, tape: Tape, rng: np.random.Generator, quoting: Quoting, ts: int) -> None:
    """The first book: cleared, then every level added, in one batch."""
    first = tape.used[0]
    _emit(tape, _CLEAR, BID, 0, 0)
    tape.deltas[first].side = 0
    requote(book, tape, rng, quoting)
    close_batch(book, tape, first, ts)
    for i in range(first, tape.used[0]):
        tape.deltas[i].flags |= F_SNAPSHOT


@njit(cache=True)
def requote(book: Book, tape: Tape, rng: np.random.Generator, quoting: Quoting) -> None:
    """Makers withdraw what stands too near to (or beyond) the fair price and quote anew near it.

    Bids end at or below ``price - half / 2`` and asks at or above ``price + half / 2``: the book never
    crosses.
    """
    keys, counts = book.keys, book.counts
    for side in range(2):
        fair = quoting.price if side == BID else -quoting.price
        while counts[side] > 0 and keys[side, 0] > fair - 0.5 * quoting.half:
            _remove(book, tape, side, 0)
    for side in range(2):
        fair = quoting.price if side == BID else -quoting.price
        bare = counts[side] == 0 or keys[side, 0] < fair - 1.5 * quoting.half
        best = int(np.floor(fair - quoting.half))
        if bare and (counts[side] == 0 or keys[side, 0] < best):
            _insert(book, tape, rng, quoting, side, 0, best)
            _fill_holes(book, tape, rng, quoting, side)
        extend(book, tape, rng, quoting, side)


@njit(cache=True)
def _fill_holes(book: Book, tape: Tape, rng: np.random.Generator, quoting: Quoting, side: int) -> None:
    keys, counts = book.keys, book.counts
    hole = _HOLE * quoting.gap
    rank = 0
    while rank + 1 < counts[side] and rank < quoting.levels:
        if keys[side, rank] - keys[side, rank + 1] > hole:
            if counts[side] == keys.shape[1]:
                _remove(book, tape, side, counts[side] - 1)
            key = keys[side, rank] - min(_gap(rng, quoting, rank), int(hole))
            _insert(book, tape, rng, quoting, side, rank + 1, key)
        rank += 1


@njit(cache=True)
def extend(book: Book, tape: Tape, rng: np.random.Generator, quoting: Quoting, side: int) -> None:
    """Bring the number of levels of a side back between the fewest and the most, at the far end."""
    counts = book.counts
    while counts[side] < quoting.levels:
        rank = counts[side]
        _insert(book, tape, rng, quoting, side, rank, book.keys[side, rank - 1] - _gap(rng, quoting, rank))
    while counts[side] > quoting.levels + _SLACK:
        _remove(book, tape, side, counts[side] - 1)


@njit(cache=True)
def churn(book: Book, tape: Tape, rng: np.random.Generator, quoting: Quoting) -> None:
    """One level is resized, added between two others, or withdrawn."""
    keys, counts = book.keys, book.counts
    side = BID if rng.random() < 0.5 else ASK
    rank = min(int(rng.standard_exponential() * _CHURN_REACH), counts[side] - 1)
    u = rng.random()
    if u < _RESIZED:
        book.sizes[side, rank] = _size(rng, quoting, side, rank)
        _emit(tape, _UPDATE, side, keys[side, rank], book.sizes[side, rank])
    elif u < _RESIZED + _ADDED:
        room = keys[side, rank] - keys[side, rank + 1] - 1 if rank + 1 < counts[side] else 0
        if room > 0 and counts[side] < keys.shape[1]:
            _insert(book, tape, rng, quoting, side, rank + 1, keys[side, rank] - 1 - int(rng.random() * room))
    elif counts[side] > quoting.levels:
        _remove(book, tape, side, rank)


@njit(cache=True)
def take_best(book: Book, tape: Tape, side: int, lots: int) -> tuple[int, int]:
    """Fill up to ``lots`` at the best level; the price in ticks and the lots filled."""
    key = book.keys[side, 0]
    filled = min(lots, book.sizes[side, 0])
    if filled == book.sizes[side, 0]:
        _remove(book, tape, side, 0)
    else:
        book.sizes[side, 0] -= filled
        _emit(tape, _UPDATE, side, key, book.sizes[side, 0])
    return (key if side == BID else -key), filled


@njit(cache=True)
def _size(rng: np.random.Generator, quoting: Quoting, side: int, rank: int) -> int:
    """Lots of a new level: more of them away from the best price and on the side that is leant to."""
    tilt = quoting.skew if side == BID else -quoting.skew
    noise = _LEVEL_SPREAD * rng.standard_normal()
    return max(1, int(quoting.depth * (_TOP + _DEEPER * rank) * np.exp(tilt + noise)))


@njit(cache=True)
def _gap(rng: np.random.Generator, quoting: Quoting, rank: int) -> int:
    """Ticks to the next level."""
    return 1 + int(rng.standard_exponential() * quoting.gap * (1.0 + _WIDENING * rank))


@njit(cache=True)
def _insert(
    book: Book, tape: Tape, rng: np.random.Generator, quoting: Quoting, side: int, rank: int, key: int
) -> None:
    size = _size(rng, quoting, side, rank)
    for j in range(book.counts[side], rank, -1):
        book.keys[side, j], book.sizes[side, j] = book.keys[side, j - 1], book.sizes[side, j - 1]
    book.keys[side, rank], book.sizes[side, rank] = key, size
    book.counts[side] += 1
    _emit(tape, _ADD, side, key, size)


@njit(cache=True)
def _remove(book: Book, tape: Tape, side: int, rank: int) -> None:
    _emit(tape, _DELETE, side, book.keys[side, rank], 0)
    book.counts[side] -= 1
    for j in range(rank, book.counts[side]):
        book.keys[side, j], book.sizes[side, j] = book.keys[side, j + 1], book.sizes[side, j + 1]


@njit(cache=True)
def _emit(tape: Tape, action: int, side: int, key: int, size: int) -> None:
    row = tape.deltas[tape.used[0]]
    row.action, row.size = action, size
    row.side, row.price = (1, key) if side == BID else (-1, -key)
    tape.used[0] += 1
