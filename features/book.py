"""An order book side as a sorted array with its best level last, so that changes near the top move little.

Both sides of every stream stand in one ``keys`` (int64) and one ``sizes`` (float64), shape ``(streams, 2,
levels)``, with ``counts``, shape ``(streams, 2)``, levels in use. Keys ascend: bids are stored by their tick,
asks by their negated tick, so the best level of either is the last and one code serves both. When a side is
full the level farthest from the top makes room: with thousands of levels it is never seen again by any
feature.
"""

import numba
import numpy as np

_NEAR = 16  # levels looked through one by one before the rest is searched by halving
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@numba.njit(cache=True, forceinline=True)
def set_level(keys, sizes, counts, s, side, key, size):
    """Give a level of one side of stream ``s`` a size (0 removes it); whether that changed anything."""
    # Whole arrays and indices, for a view made here would cost more than the update itself; indices without a
    # sign, for numba asks of every other whether it counts from the end.
    end = np.uint64(counts[s, side])
    at = end
    nearest = end - np.uint64(_NEAR) if end > _NEAR else _ZERO
    while at > nearest and keys[s, side, at - _ONE] >= key:
        at -= _ONE
    if at > _ZERO and keys[s, side, at - _ONE] >= key:
        high = at
        at = _ZERO
        while at < high:
            middle = (at + high) >> _ONE
            if keys[s, side, middle] < key:
                at = middle + _ONE
            else:
                high = middle
    if at < end and keys[s, side, at] == key:
        if size > 0.0:
            changed = sizes[s, side, at] != size
            sizes[s, side, at] = size
            return changed
        end -= _ONE
        while at < end:
            keys[s, side, at] = keys[s, side, at + _ONE]
            sizes[s, side, at] = sizes[s, side, at + _ONE]
            at += _ONE
        counts[s, side] = end
        return True
    if size <= 0.0:
        return False
    if end == keys.shape[2]:
        if at == _ZERO:
            return False  # farther than everything kept
        at -= _ONE
        i = _ZERO
        while i < at:
            keys[s, side, i] = keys[s, side, i + _ONE]
            sizes[s, side, i] = sizes[s, side, i + _ONE]
            i += _ONE
    else:
        i = end
        while i > at:
            keys[s, side, i] = keys[s, side, i - _ONE]
            sizes[s, side, i] = sizes[s, side, i - _ONE]
            i -= _ONE
        counts[s, side] = end + _ONE
    keys[s, side, at] = key
    sizes[s, side, at] = size
    return True


@numba.njit(cache=True, forceinline=True)
def set_only(keys, sizes, counts, s, side, key, size):
    """Make ``key`` the one level of a side (none where ``size`` is 0); whether that changed anything."""
    before = counts[s, side]
    count = 1 if size > 0.0 else 0
    changed = before != count or (count == 1 and (keys[s, side, 0] != key or sizes[s, side, 0] != size))
    keys[s, side, 0] = key
    sizes[s, side, 0] = size
    counts[s, side] = count
    return changed


@numba.njit(cache=True)
def depth(sizes, counts, s, side, levels):
    """Total size of the best ``levels`` levels of one side."""
    n = counts[s, side]
    total = 0.0
    for i in range(max(0, n - levels), n):
        total += sizes[s, side, i]
    return total
