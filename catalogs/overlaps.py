"""Trades that two files of a source both hold."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclasses.dataclass(frozen=True)
class _Part:
    path: Path
    newest: int  # ts_event
    latest: int  # ts_init
    ids: pa.ChunkedArray


class SeenIds:
    """The trade ids of the files read before.

    Ids are kept for ``reach`` ns of ``ts_init``, the most a row may be late: no older trade can come again.
    """

    def __init__(self, reach: int) -> None:
        self._reach = reach
        self._parts: list[_Part] = []

    def repeated(
        self, path: Path, ts_event: np.ndarray, ts_init: np.ndarray, ids: pa.ChunkedArray
    ) -> np.ndarray:
        """Where a row of ``path`` has an id that an earlier file has, at a time that file covers.

        ``ts_init`` ascends from call to call; ``ids`` is text.
        """
        again = np.zeros(len(ids), dtype=bool)
        earlier = [part for part in self._parts if part.path != path]
        if len(ids) == 0:
            return again
        inside = ts_event <= max((part.newest for part in earlier), default=-1)
        if inside.any():
            known = pa.chunked_array([chunk for part in earlier for chunk in part.ids.chunks])
            again[inside] = pc.is_in(ids.filter(pa.array(inside)), value_set=known).to_numpy()
        self._parts.append(_Part(path, int(ts_event.max()), int(ts_init[-1]), ids))
        self._parts = [part for part in self._parts if part.latest >= ts_init[-1] - self._reach]
        return again
