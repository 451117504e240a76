"""The numbers behind a page's charts, packed so that years of bars fit into a file one can mail.

A column is stored as whole multiples of a quantum: its least decimal step, where every value is one (prices,
positions), else a fraction of its range that no screen resolves. Consecutive differences of them are small,
so gzip leaves about a byte a bar. ``page.js`` unpacks them; ``unpack`` does the same for tests and tools.
"""

import base64
import gzip
import json
from typing import Any

import numpy as np

FEW = 20_000
"""Columns up to this length are stored to ``2**-26`` of their range, longer ones to ``2**-16`` or so."""


class Columns:
    """Gathers columns by name, then packs them together with what describes them."""

    def __init__(self) -> None:
        self._described: dict[str, dict[str, Any]] = {}
        self._blobs: list[bytes] = []

    def add(self, name: str, values: np.ndarray, bits: int = 16) -> str:
        """Take ``values``, shape (n,), under ``name``, which is returned. NaN stands for unknown.

        Where there are more than ``FEW``, they are stored to ``2**-bits`` of their range.
        """
        values = np.asarray(values)
        if name in self._described:
            raise ValueError(f"column {name!r} is there already")
        known = np.isfinite(values)
        scale, over, whole = _whole(values, known, bits)
        steps = np.diff(whole, prepend=0)
        width = next(w for w in (1, 2, 4, 8) if np.all(np.abs(steps[1:]) < 1 << (8 * w - 1)))
        first, steps[:1] = int(whole[0]) if len(whole) else 0, 0
        # The low bytes of all values first, then the next: like lies by like, and gzip finds it.
        planes = steps.astype(f"<i{width}").view(np.uint8).reshape(-1, width).T
        edges = np.flatnonzero(np.diff(known.astype(np.int8), prepend=1, append=1))
        self._described[name] = {
            "length": len(values),
            "width": width,
            "first": first,
            "scale": scale,  # a value is its whole number times scale over over
            "over": over,
            "unknown": edges.tolist(),  # where stretches without a value begin and end, in turn
        }
        self._blobs.append(planes.tobytes())
        return name

    def pack(self, about: Any = None) -> str:
        """Everything as base64 of gzip: the length of a JSON header (4 bytes, little-endian), the header, the
        columns.

        ``about`` is any JSON that goes with them.
        """
        header = json.dumps({"about": about, "columns": self._described}, allow_nan=False).encode()
        raw = b"".join([len(header).to_bytes(4, "little"), header, *self._blobs])
        return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode()


def unpack(packed: str) -> tuple[Any, dict[str, np.ndarray]]:
    """What ``Columns.pack`` was given: ``about``, and each column as float64."""
    raw = gzip.decompress(base64.b64decode(packed))
    start = 4 + int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4:start])
    columns = {}
    for name, column in header["columns"].items():
        n, width = column["length"], column["width"]
        planes = np.frombuffer(raw, np.uint8, n * width, start).reshape(width, n)
        start += n * width
        steps = np.ascontiguousarray(planes.T).view(f"<i{width}").ravel().astype(np.int64)
        values = (column["first"] + np.cumsum(steps)) * column["scale"] / column["over"]
        for a, b in zip(column["unknown"][::2], column["unknown"][1::2], strict=True):
            values[a:b] = np.nan
        columns[name] = values
    return header["about"], columns


def _whole(values: np.ndarray, known: np.ndarray, bits: int) -> tuple[float, float, np.ndarray]:
    """A quantum as a fraction, and the values as multiples of it; an unknown one repeats the one before."""
    if values.dtype.kind in "iub":
        return 1.0, 1.0, values.astype(np.int64)
    if not known.any():
        return 1.0, 1.0, np.zeros(len(values), np.int64)
    # Before the first known value, the first.
    at = np.maximum.accumulate(np.where(known, np.arange(len(values)), np.argmax(known)))
    filled = values[at]
    reach = float(np.ptp(filled)) or abs(float(filled[0])) or 1.0
    largest = float(np.max(np.abs(filled)))
    for digits in range(10):
        whole = np.rint(filled * 10.0**digits)
        if largest * 10.0**digits > 2**50 or reach * 10.0**digits > 2**26:
            break
        off = np.abs(whole / 10.0**digits - filled)
        if np.all(off <= np.minimum(1e-12 * np.abs(filled), reach * 2.0**-27)):
            step = int(np.gcd.reduce(whole.astype(np.int64))) or 1
            return float(step), 10.0**digits, whole.astype(np.int64) // step
    # Never finer than a float is, nor than the least float.
    quantum = max(reach * 2.0 ** -(26 if len(values) <= FEW else bits), largest * 2.0**-50, 1e-300)
    return quantum, 1.0, np.rint(filled / quantum).astype(np.int64)
