"""Making long series small: means, last and least values of stretches of them."""

import numpy as np

POINTS = 40_000
"""Most points of a line that is not stored at every bar."""


def means(values: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """First rows and means of stretches of ``values``, shape (n, columns); NaN is passed over."""
    n = len(values)
    size = max(1, -(-n // points))
    start = np.arange(0, n, size)
    if size == 1:
        return start, values
    known = np.isfinite(values)
    total = np.add.reduceat(np.where(known, values, 0.0), start, axis=0)
    count = np.add.reduceat(known.astype(float), start, axis=0)
    return start, np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def lasts(n: int, points: int = POINTS) -> np.ndarray:
    """The last index of each of at most ``points`` equal stretches of ``n`` rows; the very last is kept."""
    size = max(1, -(-n // points))
    return np.minimum(np.arange(size - 1, n + size - 1, size), n - 1) if n else np.empty(0, np.int64)


def least(values: np.ndarray, points: int = POINTS) -> np.ndarray:
    """The index of the least value of each of at most ``points`` equal stretches; NaN is passed over."""
    n = len(values)
    size = max(1, -(-n // points))
    padded = np.full(-(-n // size) * size, np.inf)
    padded[:n] = np.where(np.isfinite(values), values, np.inf)
    return np.arange(0, n, size) + padded.reshape(-1, size).argmin(axis=1)
