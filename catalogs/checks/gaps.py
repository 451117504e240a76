"""Rows that are missing: silences of irregular feeds, holes of regular ones, settlements of funding."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numba import njit

from catalogs.checks.detectors import Check
from catalogs.checks.findings import Finding, length_text, time_text
from catalogs.layout import times

_MINUTE = 60 * 10**9  # ns
_REGIME = 3  # equal steps from which on they are how a venue settles, not an accident


class TickGaps(Check):
    """Silences of irregular feeds: longer than twenty times the feed's own recent mean interval, and than a
    second.
    """

    def __init__(self) -> None:
        self._memory = np.zeros(3)  # time of the last event, recent mean interval, intervals seen
        self._origin = 0
        self._gaps: list[np.ndarray] = []
        self._span = (0, 0)

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        self._origin = self._origin or int(ts[0])
        self._span = (self._origin, int(ts[-1]))
        # Relative to the first event, so that floats are exact.
        self._gaps.append(_long_intervals((ts - self._origin).astype(np.float64), self._memory))

    def findings(self, rows: int) -> Iterator[Finding]:
        gaps = np.concatenate(self._gaps)
        if len(gaps):
            lengths, share = gaps[:, 1], gaps[:, 1].sum() / max(self._span[1] - self._span[0], 1)
            longest = int(np.argmax(lengths))
            detail = (
                f"{len(gaps):,} silences of more than 20 times the usual interval, the longest "
                f"{length_text(int(lengths[longest]))} at {time_text(self._origin + int(gaps[longest, 0]))}, "
                f"together {share:.1%} of the time"
            )
            yield Finding("gap", len(gaps), self._origin + int(gaps[0, 0]), detail)


@njit(cache=True)
def _long_intervals(ts: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Start and length of each interval above twenty recent means (an average over some 500 intervals)."""
    out = np.empty((len(ts), 2))
    n = 0
    for t in ts:
        interval = t - memory[0]
        memory[0] = t
        if interval <= 0.0:
            continue
        limit = max(20.0 * memory[1], 1e9)
        if memory[2] >= 50 and interval > limit:
            out[n, 0], out[n, 1] = t - interval, interval
            n += 1
            interval = limit  # one silence must not hide the next
        memory[2] += 1.0
        memory[1] += (interval - memory[1]) / min(memory[2], 500.0)
    return out[:n]


class RegularGaps(Check):
    """Missing rows of feeds with a fixed step: ``step`` ns, or the usual one where the feed does not say.

    Where it does say, rows that come at another step are found too.
    """

    def __init__(self, step: int | None = None) -> None:
        self._step = step
        self._times: list[np.ndarray] = []

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        self._times.append(ts)

    def findings(self, rows: int) -> Iterator[Finding]:
        ts = np.concatenate(self._times)
        steps = np.diff(ts)
        steps, starts = steps[steps > 0], ts[:-1][steps > 0]
        if len(steps) < 3:
            return
        step = float(np.median(steps))
        alike = float(np.mean(np.abs(steps - step) <= 0.1 * step))
        if self._step is not None:
            parts = steps / self._step
            wrong = (np.abs(parts - np.rint(parts)) > 0.1) | (parts < 0.5)
            if alike >= 0.9 and step > 1.1 * self._step:
                wrong[:] = True
            if wrong.any():
                usual = length_text(int(np.median(steps[wrong])))
                detail = (
                    f"{int(wrong.sum()):,} rows of {length_text(self._step)} each come at other steps, most "
                    f"often {usual}"
                )
                yield Finding("other length", int(wrong.sum()), int(starts[np.argmax(wrong)]), detail)
            step = np.inf if wrong.all() else float(self._step)
        elif alike < 0.5:
            return  # no fixed step: values come when something happens, such as liquidations
        yield from _holes(starts, steps, np.where(steps > 1.5 * step, step, np.inf), int(ts[-1] - ts[0]))


class FundingGaps(Check):
    """Missing settlements, by the interval between settlements that the series itself has there.

    Venues change the interval (8 h, 4 h, 1 h), and a change is no gap: a step is one where it is neither the
    step that is usual before it nor that which is usual after it.
    """

    def __init__(self) -> None:
        self._settlements: list[np.ndarray] = []

    def add(self, table: pa.Table, ts: np.ndarray) -> None:
        following = times(table["next_funding_ns"])
        self._settlements.append(np.unique(np.where(following == 0, ts, following)))

    def findings(self, rows: int) -> Iterator[Finding]:
        ts = np.unique(np.concatenate(self._settlements))
        ts = ts[np.concatenate(([True], np.diff(ts) > _MINUTE // 2))]  # a settlement stamped twice, by jitter
        steps = np.diff(ts)
        if len(steps) < _REGIME:
            return
        base = _settlement_steps(steps)
        yield from _holes(ts[:-1], steps, base, int(ts[-1] - ts[0]))


def _settlement_steps(steps: np.ndarray) -> np.ndarray:
    """The interval that each too long step should have had; infinite for those that are as they should be."""
    minutes = np.rint(steps / _MINUTE)
    edges = np.concatenate(([0], np.flatnonzero(np.diff(minutes)) + 1, [len(minutes)]))
    lengths = np.diff(edges)
    usual = np.repeat(np.where(lengths >= _REGIME, minutes[edges[:-1]], np.nan), lengths)
    rows = np.arange(len(usual))
    known = ~np.isnan(usual)
    base = np.full(len(usual), np.inf)
    if not known.any():
        return base
    left = np.maximum.accumulate(np.where(known, rows, -1))
    right = np.minimum.accumulate(np.where(known, rows, len(rows))[::-1])[::-1]
    before = np.where(left >= 0, usual[np.maximum(left, 0)], np.nan)
    after = np.where(right < len(rows), usual[np.minimum(right, len(rows) - 1)], np.nan)
    fits = (np.abs(minutes / before - 1) <= 0.1) | (np.abs(minutes / after - 1) <= 0.1)
    shorter = np.fmax(np.where(before < minutes, before, np.nan), np.where(after < minutes, after, np.nan))
    gap = ~known & ~fits & (minutes > 1.5 * shorter)
    base[gap] = shorter[gap] * _MINUTE
    return base


def _holes(starts: np.ndarray, steps: np.ndarray, base: np.ndarray, span: int) -> Iterator[Finding]:
    """What to say of the steps whose ``base`` is finite: that is the step they should have had."""
    long = np.isfinite(base)
    if not long.any():
        return
    lengths, base = steps[long], base[long]
    missing, longest = np.rint(lengths / base - 1), int(np.argmax(lengths))
    each = "" if base.min() < base.max() else f", one each {length_text(int(base[0]))}"
    detail = (
        f"{len(lengths):,} holes ({int(missing.sum()):,} rows missing{each}), the longest "
        f"{length_text(int(lengths[longest]))} at {time_text(int(starts[long][longest]))}, "
        f"together {(lengths - base).sum() / max(span, 1):.1%} of the time"
    )
    yield Finding("gap", len(lengths), int(starts[long][0]), detail)
