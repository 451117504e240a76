"""Making a million bars drawable: extremes kept, regimes as runs."""

import numpy as np

POINTS = 4_000
"""Most points of a line on a page."""

RUNS = 1_500
"""Most coloured runs of a strip."""


def extremes(values: np.ndarray, points: int = POINTS) -> np.ndarray:
    """Ascending indices of at most ``points`` values that keep the line's shape: each bucket's least and
    greatest.

    The first and the last are kept, so is every value when there are few enough; NaN is passed over.
    """
    n = len(values)
    if n <= points:
        return np.arange(n)
    size = -(-n // (points // 2 - 1))
    padded = np.full(-(-n // size) * size, np.nan)
    padded[:n] = values
    buckets = padded.reshape(-1, size)
    known = np.isfinite(buckets)
    start = np.arange(len(buckets)) * size
    low = start + np.argmin(np.where(known, buckets, np.inf), axis=1)
    high = start + np.argmax(np.where(known, buckets, -np.inf), axis=1)
    return np.unique(np.concatenate(([0], low, high, [n - 1])))


def means(values: np.ndarray, points: int = POINTS // 2) -> tuple[np.ndarray, np.ndarray]:
    """First rows and means of buckets of ``values``, shape (n, columns); NaN is passed over."""
    n = len(values)
    size = max(1, -(-n // points))
    start = np.arange(0, n, size)
    if size == 1:
        return start, values
    known = np.isfinite(values)
    total = np.add.reduceat(np.where(known, values, 0.0), start, axis=0)
    count = np.add.reduceat(known.astype(float), start, axis=0)
    return start, np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def runs(codes: np.ndarray, limit: int = RUNS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First index, end index (exclusive) and code of each run of equal ``codes``.

    With more than ``limit`` runs, each of ``limit`` equal stretches first takes the code it held longest.
    """
    n = len(codes)
    if not n:
        return np.empty(0, int), np.empty(0, int), np.empty(0, int)
    start = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    if len(start) > limit:
        size = -(-n // limit)
        stretch = np.arange(n) // size
        kinds = int(codes.max()) + 1
        held = (
            np.bincount(stretch * kinds + codes, minlength=(stretch[-1] + 1) * kinds)
            .reshape(-1, kinds)
            .argmax(axis=1)
        )
        first = np.flatnonzero(np.concatenate(([True], held[1:] != held[:-1])))
        return first * size, np.append(first[1:] * size, n), held[first]
    return start, np.append(start[1:], n), codes[start]
