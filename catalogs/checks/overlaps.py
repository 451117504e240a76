"""Trades that stand twice in what is read: one trade id is one trade, wherever it comes again."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_MERGED = 4  # a part is joined with the one before it, unless that is more than this many times as long


class SeenIds:
    """The trade ids met so far, however they lie in files.

    Whole numbers that follow each other are kept as runs, so that the millions of a venue that counts its
    trades take no room; other ids as hashes of 64 bits, 8 bytes each (two of a hundred million would be taken
    for one with a chance of 0.03 %).
    """

    def __init__(self) -> None:
        self._runs = np.empty((0, 2), dtype=np.int64)  # first and last of each run, ascending
        self._hashes: list[np.ndarray] = []  # each sorted

    def repeated(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Where an id (integers or text, none null) was met before, in this call or an earlier one."""
        again = np.zeros(len(ids), dtype=bool)
        whole = np.ones(len(ids), dtype=bool)
        if not pa.types.is_integer(ids.type):
            whole = pc.match_substring_regex(ids, r"^(0|[1-9]\d{0,17})$").to_numpy()
        if whole.any():
            keys = pc.cast(ids.filter(pa.array(whole)), pa.int64()).to_numpy()
            again[whole] = self._numbers(keys)
        if not whole.all():
            again[~whole] = self._others(_hashed(ids.filter(pa.array(~whole)).to_numpy()))
        return again

    def _numbers(self, keys: np.ndarray) -> np.ndarray:
        again = self._in_runs(keys) | _later_ones(keys)
        if self._hashes:
            again |= self._in_hashes(_hashed(keys))
        fresh = _runs(np.unique(keys))
        if 2 * len(fresh) > len(keys):  # they do not count on
            self._keep(np.unique(_hashed(keys)))
        else:
            self._runs = _joined(self._runs, fresh)
        return again

    def _others(self, keys: np.ndarray) -> np.ndarray:
        again = self._in_hashes(keys) | _later_ones(keys)
        self._keep(np.unique(keys))
        return again

    def _in_runs(self, keys: np.ndarray) -> np.ndarray:
        if not len(self._runs):
            return np.zeros(len(keys), dtype=bool)
        at = np.searchsorted(self._runs[:, 0], keys, side="right") - 1
        return (at >= 0) & (keys <= self._runs[at, 1])

    def _in_hashes(self, keys: np.ndarray) -> np.ndarray:
        found = np.zeros(len(keys), dtype=bool)
        for part in self._hashes:
            found |= part[np.minimum(np.searchsorted(part, keys), len(part) - 1)] == keys
        return found

    def _keep(self, part: np.ndarray) -> None:
        self._hashes.append(part)
        while len(self._hashes) > 1 and len(self._hashes[-2]) <= _MERGED * len(self._hashes[-1]):
            last = self._hashes.pop()
            self._hashes[-1] = np.union1d(self._hashes[-1], last)


def _hashed(values: np.ndarray) -> np.ndarray:
    return pd.util.hash_array(values, categorize=False)


def _later_ones(keys: np.ndarray) -> np.ndarray:
    """Where a key stands above in the same array."""
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), dtype=bool)
    again[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return again


def _runs(keys: np.ndarray) -> np.ndarray:
    """First and last of each run of successive numbers among ascending ones."""
    edges = np.flatnonzero(np.diff(keys) > 1)
    return np.column_stack((keys[np.r_[0, edges + 1]], keys[np.r_[edges, len(keys) - 1]]))


def _joined(runs: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Both, ascending, with runs that touch or overlap made one."""
    both = np.concatenate((runs, fresh))
    both = both[np.argsort(both[:, 0], kind="stable")]
    reach = np.maximum.accumulate(both[:, 1])
    starts = np.flatnonzero(np.concatenate(([True], both[1:, 0] > reach[:-1] + 1)))
    return np.column_stack((both[starts, 0], np.maximum.reduceat(both[:, 1], starts)))
