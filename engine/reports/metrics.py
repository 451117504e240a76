"""Figures of a run: risk-adjusted return, drawdown, round trips, and the fingerprint of what it did."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.records import Decision, Fill, RoundTrip, schema
from engine.reports.run_folder import LABELS

HOUR = 3_600 * 10**9
DAY = 24 * HOUR
YEAR = 365 * DAY
"""Crypto markets never close."""

_FINGERPRINTED = (
    ("decisions", schema(Decision)),
    # The order's id says whose it is.
    ("fills", pa.schema([field for field in schema(Fill) if field.name != "instrument"])),
)


def sampling_period(span: int) -> int | None:
    """The period at which returns are taken, in ns: a day from 60 days on, an hour from 20 hours on, else
    None.

    Below twenty returns a ratio of their mean and deviation says nothing. Sampling by the clock gives clock,
    volume and dollar bars comparable ratios, and keeps the noise of the mark within a position out of the
    deviation.
    """
    if span >= 60 * DAY:
        return DAY
    return HOUR if span >= 20 * HOUR else None


def periodic_returns(
    ts: np.ndarray, equity: np.ndarray, starting: float, start: int, period: int
) -> np.ndarray:
    """Simple returns of whole periods from ``start`` (the last broken one is left out), shape (periods,).

    ``ts`` ascending ns of each value of ``equity``; the value at a period's end is the last one known by
    then.
    """
    if not len(ts):
        return np.empty(0)
    ends = np.arange(start + period, int(ts[-1]) + 1, period)
    last = np.searchsorted(ts, ends, side="right") - 1
    values = np.concatenate(([starting], np.where(last >= 0, equity[last], starting)))
    if not np.all(values > 0):
        return np.empty(0)
    return values[1:] / values[:-1] - 1.0


def sharpe(returns: np.ndarray, period: int) -> float:
    """Annualised mean over standard deviation (ddof 1) of returns, at a rate of zero; NaN if undefined."""
    if len(returns) < 2:
        return float("nan")
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation * math.sqrt(YEAR / period) if deviation > 0 else float("nan")


def sharpe_error(returns: np.ndarray, period: int) -> float:
    """Standard error of ``sharpe`` for independent returns: sqrt((1 + s²/2) / n), annualised (Lo 2002)."""
    ratio = sharpe(returns, period) / np.sqrt(YEAR / period)
    if not np.isfinite(ratio):
        return float("nan")
    return float(np.sqrt((1.0 + 0.5 * ratio**2) / len(returns) * YEAR / period))


def sortino(returns: np.ndarray, period: int) -> float:
    """Annualised mean over downside deviation, sqrt(mean(min(r, 0)²)); NaN if undefined."""
    if len(returns) < 2:
        return float("nan")
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns)) / downside * math.sqrt(YEAR / period) if downside > 0 else float("nan")


def drawdown(equity: np.ndarray, starting: float, lowest: np.ndarray | None = None) -> np.ndarray:
    """Loss from the highest equity so far as a fraction of it (0.05 is five per cent under), shape (n,).

    ``lowest`` is the least equity within each bar: it came before the bar's close, so it is measured by the
    highest close before that.
    """
    peak = np.maximum(np.maximum.accumulate(equity), starting)
    under = 1.0 - equity / peak
    if lowest is None or not len(equity):
        return under
    before = np.concatenate(([starting], peak[:-1]))
    return np.fmax(under, 1.0 - lowest / before)


def max_drawdown(equity: np.ndarray, starting: float, lowest: np.ndarray | None = None) -> float:
    """The deepest ``drawdown``, 0 without data."""
    return float(np.max(drawdown(equity, starting, lowest), initial=0.0))


class Drawdown(NamedTuple):
    """A fall from a highest equity."""

    depth: float  # fraction of the peak
    start: int  # ns: when the peak was last held
    trough: int
    recovered: int | None  # when the peak was reached again, None where it was not


def worst_drawdowns(
    ts: np.ndarray,
    equity: np.ndarray,
    starting: float,
    start: int,
    lowest: np.ndarray | None = None,
    count: int = 10,
) -> list[Drawdown]:
    """The ``count`` deepest falls, deepest first; ``starting`` equity was held at ``start``.

    A fall lasts from one highest close to the next; ``lowest``, the least equity within each bar, deepens it.
    """
    times, values = np.concatenate(([start], ts)), np.concatenate(([starting], equity))
    lows = values if lowest is None else np.concatenate(([starting], lowest))
    under = drawdown(values, starting, lows)
    peaks = np.flatnonzero(drawdown(values, starting) <= 0)
    peaks = peaks[peaks + 1 < len(values)]
    if not len(peaks):
        return []
    depth = np.maximum.reduceat(under, peaks + 1)
    falls = []
    for i in np.lexsort((peaks, -depth))[:count].tolist():
        if not depth[i] > 0:
            break
        a, b = peaks[i] + 1, peaks[i + 1] + 1 if i + 1 < len(peaks) else len(values)
        recovered = int(times[b - 1]) if values[b - 1] >= values[a - 1] else None
        trough = int(times[a + np.argmax(under[a:b])])
        falls.append(Drawdown(float(depth[i]), int(times[a - 1]), trough, recovered))
    return falls


class Rolling(NamedTuple):
    """Figures of the last ``window`` periods, at the end of each, every array of shape (periods,)."""

    window: int
    period: int  # ns
    ts: np.ndarray
    sharpe: np.ndarray  # annualised, NaN where the returns are all alike
    total: np.ndarray  # return over the window
    drawdown: np.ndarray  # deepest within the window, a fraction


def rolling(returns: np.ndarray, start: int, period: int) -> Rolling | None:
    """Rolling figures over 30 days of daily or 24 hours of hourly returns; None under two windows."""
    window = 30 if period == DAY else 24
    if len(returns) < 2 * window:
        return None
    view = np.lib.stride_tricks.sliding_window_view(returns, window)
    deviation = view.std(axis=1, ddof=1)
    ratio = np.divide(view.mean(axis=1), deviation, out=np.full(len(view), np.nan), where=deviation > 1e-15)
    wealth = np.cumprod(1.0 + view, axis=1)
    peak = np.maximum(np.maximum.accumulate(wealth, axis=1), 1.0)
    ts = start + period * np.arange(window, len(returns) + 1)
    deepest = (1.0 - wealth / peak).max(axis=1)
    return Rolling(window, period, ts, ratio * math.sqrt(YEAR / period), wealth[:, -1] - 1.0, deepest)


def win_rate(trips: Sequence[RoundTrip]) -> float:
    """Share of round trips that earned more than their fees and funding; NaN without any."""
    return sum(trip.net_pnl > 0 for trip in trips) / len(trips) if trips else float("nan")


def profit_factor(trips: Sequence[RoundTrip]) -> float:
    """Net winnings over net losses of round trips; NaN without a losing one."""
    lost = -sum(trip.net_pnl for trip in trips if trip.net_pnl < 0)
    return sum(trip.net_pnl for trip in trips if trip.net_pnl > 0) / lost if lost > 0 else float("nan")


def durations(ts: np.ndarray) -> np.ndarray:
    """How long what was known at each bar held, in ns: until the next bar (for the last one, the median)."""
    if len(ts) < 2:
        return np.ones(len(ts))
    gaps = np.diff(ts).astype(float)
    return np.append(gaps, np.median(gaps))


def time_in_regime(ts: np.ndarray, regime: np.ndarray) -> dict[str, float]:
    """Share of time under each label; ``regime`` indexes ``LABELS``."""
    spent = np.bincount(regime, weights=durations(ts), minlength=len(LABELS))
    total = spent.sum()
    return {label: float(t / total) if total else 0.0 for label, t in zip(LABELS, spent, strict=True)}


def exposure_time(ts: np.ndarray, position: np.ndarray) -> float:
    """Share of time with an open position; NaN without bars."""
    held = durations(ts)
    return float(held[np.nan_to_num(position) != 0].sum() / held.sum()) if len(ts) else float("nan")


def fingerprint(decisions: pa.Table, fills: pa.Table) -> str:
    """sha256 (hex) over decisions and fills, equal exactly if every value is.

    The byte form does not depend on how Parquet stored them: for each table its name and the number of rows,
    then the columns in the order of the schema, each its name and its values: integers and flags as
    little-endian i8, floats as little-endian f8 with one NaN and one zero, strings as their lengths in
    little-endian i8, then their UTF-8 bytes.
    """
    digest = hashlib.sha256()
    for (name, columns), table in zip(_FINGERPRINTED, (decisions, fills), strict=True):
        digest.update(f"{name}\0{len(table)}\0".encode())
        for field in columns:
            digest.update(f"{field.name}\0".encode())
            # A slice at a time: a year of one-second bars must not be copied whole.
            if field.type == pa.string():
                digest.update(
                    pc.fill_null(pc.binary_length(table[field.name]), -1).to_numpy().astype("<i8").tobytes()
                )
            for start in range(0, len(table), 1 << 16):
                _update(digest, table[field.name].slice(start, 1 << 16), field.type)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", column: pa.ChunkedArray, kind: pa.DataType) -> None:
    if kind == pa.string():
        digest.update("".join(pc.fill_null(column, "").to_pylist()).encode())
    elif kind == pa.float64():
        values = pc.fill_null(column, np.nan).to_numpy() + 0.0  # -0.0 becomes 0.0
        digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    else:
        digest.update(pc.fill_null(column.cast(pa.int64()), -1).to_numpy().astype("<i8").tobytes())
