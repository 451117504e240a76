"""An order book side as a sorted array with its best level last, so that changes near the top move little.

Both sides of every stream stand in one ``keys`` (int64) and one ``sizes`` (float64), shape ``(streams, 2, levels)``, with
``counts``, shape ``(streams, 2)``, levels in use. Keys ascend: bids are stored by their tick, asks by their negated tick,
so the best level of either is the last and one code serves both. When a side is full the level farthest from the top
makes room: with thousands of levels it is never seen again by any feature.
"""

import numba

_NEAR = 16  # levels looked through one by one before the rest is searched by halving


@numba.njit(cache=True)
def set_level(keys, sizes, counts, s, side, key, size):  # type: ignore[no-untyped-def]
    """Give the level ``key`` of one side of stream ``s`` the size ``size`` (0 removes it)."""
    # Whole arrays and indices rather than rows: a view made here would cost more than the update itself.
    n = counts[s, side]
    at = n
    nearest = max(0, n - _NEAR)
    while at > nearest and keys[s, side, at - 1] >= key:
        at -= 1
    if at > 0 and keys[s, side, at - 1] >= key:
        end = at
        at = 0
        while at < end:
            middle = (at + end) >> 1
            if keys[s, side, middle] < key:
                at = middle + 1
            else:
                end = middle
    if at < n and keys[s, side, at] == key:
        if size > 0.0:
            sizes[s, side, at] = size
            return
        for i in range(at, n - 1):
            keys[s, side, i] = keys[s, side, i + 1]
            sizes[s, side, i] = sizes[s, side, i + 1]
        counts[s, side] = n - 1
        return
    if size <= 0.0:
        return
    if n == keys.shape[2]:
        if at == 0:
            return  # farther than everything kept
        at -= 1
        for i in range(at):
            keys[s, side, i] = keys[s, side, i + 1]
            sizes[s, side, i] = sizes[s, side, i + 1]
    else:
        for i in range(n, at, -1):
            keys[s, side, i] = keys[s, side, i - 1]
            sizes[s, side, i] = sizes[s, side, i - 1]
        counts[s, side] = n + 1
    keys[s, side, at] = key
    sizes[s, side, at] = size


@numba.njit(cache=True)
def depth(sizes, counts, s, side, levels):  # type: ignore[no-untyped-def]
    """Total size of the best ``levels`` levels of one side."""
    n = counts[s, side]
    total = 0.0
    for i in range(max(0, n - levels), n):
        total += sizes[s, side, i]
    return total
