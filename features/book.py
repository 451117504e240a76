"""An order book side as a sorted array with its best level last, so that changes near the top move little.

A side is ``keys`` (int64) and ``sizes`` (float64) with ``n`` levels in use. Keys ascend: bids are stored by their tick,
asks by their negated tick, so the best level of either is the last and one code serves both. When a side is full the
level farthest from the top makes room: with thousands of levels it is never seen again by any feature.
"""

from numba import njit


@njit(cache=True)
def set_level(keys, sizes, n, key, size):  # type: ignore[no-untyped-def]
    """Give the level ``key`` the size ``size`` (0 removes it); returns the new number of levels."""
    lo = n
    steps = 0
    while lo > 0 and keys[lo - 1] >= key and steps < 16:  # most changes are near the top
        lo -= 1
        steps += 1
    if lo > 0 and keys[lo - 1] >= key:
        hi = lo
        lo = 0
        while lo < hi:
            middle = (lo + hi) // 2
            if keys[middle] < key:
                lo = middle + 1
            else:
                hi = middle
    if lo < n and keys[lo] == key:
        if size > 0.0:
            sizes[lo] = size
            return n
        for i in range(lo, n - 1):
            keys[i] = keys[i + 1]
            sizes[i] = sizes[i + 1]
        return n - 1
    if size <= 0.0:
        return n
    if n == len(keys):
        if lo == 0:
            return n  # farther than everything kept
        for i in range(lo - 1):
            keys[i] = keys[i + 1]
            sizes[i] = sizes[i + 1]
        keys[lo - 1] = key
        sizes[lo - 1] = size
        return n
    for i in range(n, lo, -1):
        keys[i] = keys[i - 1]
        sizes[i] = sizes[i - 1]
    keys[lo] = key
    sizes[lo] = size
    return n + 1


@njit(cache=True)
def depth(sizes, n, levels):  # type: ignore[no-untyped-def]
    """Total size of the best ``levels`` levels."""
    total = 0.0
    for i in range(max(0, n - levels), n):
        total += sizes[i]
    return total
