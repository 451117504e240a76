"""A table of per-bar values: what the kernel writes, what filters read, what research keeps as Parquet."""

import dataclasses
import os
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Named float columns, one row a bar.

    Parameters
    ----------
    ts : int64 array, shape (n,)
        Bar close, nanoseconds since the epoch, ascending.
    names : tuple of str
        Column names.
    values : float64 array, shape (n, len(names))
        NaN where not yet known.
    """

    ts: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.ts), len(self.names)):
            expected = (len(self.ts), len(self.names))
            raise ValueError(f"table: values are {self.values.shape}, ts and names ask for {expected}")

    def __len__(self) -> int:
        return len(self.ts)

    def columns(self, names: tuple[str, ...] | list[str]) -> np.ndarray:
        """The named columns, shape (n, len(names)), C-contiguous. Raises KeyError naming what is absent."""
        absent = [name for name in names if name not in self.names]
        if absent:
            raise KeyError(f"no column {', '.join(absent)}; the table has {', '.join(self.names)}")
        return np.ascontiguousarray(self.values[:, [self.names.index(name) for name in names]])

    def column(self, name: str) -> np.ndarray:
        """One column, shape (n,)."""
        return self.columns((name,))[:, 0]

    def between(self, start: int, end: int) -> Self:
        """The bars with ``start <= ts < end``."""
        lo, hi = np.searchsorted(self.ts, (start, end), side="left")
        return dataclasses.replace(self, ts=self.ts[lo:hi], values=self.values[lo:hi])

    def join(self, other: "FeatureTable") -> Self:
        """Both tables' columns; the ``ts`` must be equal."""
        if not np.array_equal(self.ts, other.ts):
            raise ValueError("join: the two tables have different bars")
        return dataclasses.replace(
            self, names=self.names + other.names, values=np.concatenate((self.values, other.values), axis=1)
        )

    def save(self, path: Path, metadata: dict[str, str] | None = None) -> None:
        """Write as Parquet, whole or not at all."""
        arrays = [
            pa.array(self.ts, pa.timestamp("ns", tz="UTC")),
            *(pa.array(column) for column in self.values.T),
        ]
        table = pa.table(arrays, names=["ts", *self.names]).replace_schema_metadata(metadata)
        partial = path.with_name(path.name + ".partial")
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        table = pq.read_table(path)
        names = tuple(name for name in table.column_names if name != "ts")
        values = (
            np.column_stack([table[name].to_numpy() for name in names])
            if names
            else np.empty((len(table), 0))
        )
        return cls(
            table["ts"].cast(pa.int64()).to_numpy(), names, np.ascontiguousarray(values, dtype=np.float64)
        )
