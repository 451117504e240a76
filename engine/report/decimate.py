"""Making long series small: means and last values of stretches of them."""

import numpy as np

POINTS = 60_000
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
