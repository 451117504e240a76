"""Where a feed says no price: silences longer than its pace lets one expect, and books that stand empty."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from catalogs.layout import DataType, codes, flat, times
from catalogs.reader import Catalog

NEVER = 2**63 - 1
"""The end (ns) of a silence that nothing ends."""

_LEAST = 5 * 10**9
_PACES = 20


@dataclasses.dataclass(frozen=True)
class Silences:
    """The silences of a feed.

    Attributes
    ----------
    bound : int
        Silences longer than this (ns) count.
    spans : int64 array, shape (n, 2)
        From the last event before a silence to the first after it, in order and apart. A feed is silent from
        0 to its first event, and until ``NEVER`` after its last.
    """

    bound: int
    spans: np.ndarray


def silences(
    catalog: Catalog, identifier: str, data_type: DataType, start: int, end: int, bound: int | None = None
) -> Silences:
    """The silences that touch ``[start, end)``, by the events in it and the next one after.

    Without a ``bound`` (ns) it is twenty times the feed's usual interval (the median), at least five seconds.
    Whatever the bound, a book that was cleared and not written anew at the same moment is silent until it is.
    Raises KeyError where there is no such feed.
    """
    kept = _LEAST if bound is None else bound
    paces: list[tuple[float, int]] = []  # median interval of a batch, and how many it has
    found = []
    last, full = 0, False  # nothing stands before the first event
    for ts, standing in _moments(catalog, identifier, data_type, start, end):
        edges, stood = np.concatenate(([last], ts)), np.concatenate(([full], standing[:-1]))
        lengths = np.diff(edges)
        known = lengths[int(not last) :]
        if len(known):
            paces.append((float(np.median(known)), len(known)))
        chosen = (lengths > kept) | ~stood
        found.append(np.column_stack((edges[:-1], edges[1:], stood))[chosen])
        last, full = int(ts[-1]), bool(standing[-1])
    if last < end:
        found.append(np.array([[last, NEVER, False]], dtype=np.int64))
    if bound is None:
        bound = max(_LEAST, round(_PACES * _usual(paces)))
    spans: list[list[int]] = []
    for begun, over, stood in np.concatenate(found).tolist() if found else ():
        if stood and over - begun <= bound:
            continue
        if spans and spans[-1][1] == begun and not stood:
            spans[-1][1] = over  # the book is still empty
        else:
            spans.append([begun, over])
    return Silences(bound, np.array(spans, dtype=np.int64).reshape(-1, 2))


def _usual(paces: list[tuple[float, int]]) -> float:
    """The weighted median: that of all intervals, near enough, without holding them all."""
    half, seen = sum(number for _, number in paces) / 2, 0
    for pace, number in sorted(paces):
        seen += number
        if seen >= half:
            return pace
    return 0.0


def _moments(
    catalog: Catalog, identifier: str, data_type: DataType, start: int, end: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The times of the events in ``[start, end)`` and of the next one, each time once, and whether a price
    stands from then on."""
    book = data_type == "deltas"
    columns = ["ts_init", *(["action"] if book else [])]
    held: tuple[np.ndarray, np.ndarray] | None = None  # the last time so far: more rows of it may come
    for table in catalog.batches(identifier, data_type, start, NEVER, columns):
        ts = times(table["ts_init"])
        standing = np.ones(len(ts), dtype=bool)
        if book:
            standing = codes(flat(table["action"]), {"CLEAR": 1}) != 1
        lo, hi = np.searchsorted(ts, start), np.searchsorted(ts, end)
        after = hi < len(ts)
        if after:
            hi = np.searchsorted(ts, ts[hi], side="right")
        ts, standing = ts[lo:hi], standing[lo:hi]
        if held is not None:
            ts, standing = np.concatenate((held[0], ts)), np.concatenate((held[1], standing))
        if not len(ts):
            continue
        final = np.append(ts[1:] != ts[:-1], True)
        ts, standing = ts[final], standing[final]
        if after:
            held = None
            yield ts, standing
            break
        held = ts[-1:], standing[-1:]
        if len(ts) > 1:
            yield ts[:-1], standing[:-1]
    if held is not None:
        yield held
