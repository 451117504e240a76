"""The look-ahead audit: cut the data, run again, and see that nothing before the cut has changed.

Research code leaks the future in many ways: a centred window, a scaler fitted on everything, a smoothed posterior, a
label joined one bar early. All of them show when the same computation is repeated on data that ends sooner: whatever
was said before the cut must be the same, bit for bit.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.pipeline import BarSeries, Market, run_stages
from features.table import FeatureTable

Compute = Callable[[int], FeatureTable]
"""The whole computation on data that ends before a moment (ns): one column per thing that could leak."""


@dataclasses.dataclass(frozen=True)
class Leak:
    """A column whose past changed: first at bar ``ts``, when the data was cut at ``cut`` (both ns)."""

    column: str
    cut: int
    ts: int
    with_future: float
    without_future: float


@dataclasses.dataclass(frozen=True)
class AuditResult:
    """What was compared, and every column that leaked (one entry a column and cut)."""

    cuts: tuple[int, ...]
    columns: tuple[str, ...]
    bars_compared: int
    leaks: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        return not self.leaks


def audit(compute: Compute, start: int, end: int, cuts: int, seed: int) -> AuditResult:
    """Compare ``compute(end)`` with ``compute(cut)`` at ``cuts`` random moments of the later three quarters of the span."""
    whole = compute(end)
    rng = np.random.default_rng(seed)
    moments = np.sort(rng.integers(start + (end - start) // 4, end, size=cuts))
    leaks: list[Leak] = []
    compared = 0
    for cut in (int(m) for m in moments):
        part = compute(cut)
        leaks += compare(whole, part, cut)
        compared += int(np.searchsorted(part.ts, cut, side="right"))
    return AuditResult(tuple(int(m) for m in moments), whole.names, compared, tuple(leaks))


def compare(whole: FeatureTable, part: FeatureTable, cut: int) -> list[Leak]:
    """Columns of ``part`` that differ from ``whole`` at a bar closed by ``cut``; NaN equals NaN."""
    n = int(np.searchsorted(whole.ts, cut, side="right"))
    m = int(np.searchsorted(part.ts, cut, side="right"))
    if n != m or not np.array_equal(whole.ts[:n], part.ts[:n]):
        k = min(n, m)
        differs = np.flatnonzero(whole.ts[:k] != part.ts[:k])
        at = int(differs[0]) if len(differs) else k - 1
        return [Leak("bar times", cut, int(whole.ts[max(at, 0)]), float(n), float(m))]
    leaks = []
    for j, name in enumerate(whole.names):
        a, b = whole.values[:n, j], part.values[:n, j]
        differs = np.flatnonzero((a != b) & ~(np.isnan(a) & np.isnan(b)))
        if len(differs):
            i = int(differs[0])
            leaks.append(Leak(name, cut, int(whole.ts[i]), float(a[i]), float(b[i])))
    return leaks
