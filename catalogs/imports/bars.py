"""Bars on their way into the catalog: stamped at their close, their range widened to contain their open."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import model_validator

from catalogs.imports.base import Scale, TableSettings
from catalogs.imports.feeds import TOO_LARGE, Columns, Feed, RowFeed, Target, is_price, too_large
from catalogs.imports.tables import Batch
from catalogs.layout import bar_type_of

_FAR = 1.5  # times high or low: further away no previous close is


class BarsTable(TableSettings):
    """Bars of ``time.period``, stored at their close as ``<instrument>-<n>-<UNIT>-LAST-EXTERNAL``."""

    kind: Literal["bars"]
    open: str = "open"
    """Its column."""
    high: str = "high"
    """Its column."""
    low: str = "low"
    """Its column."""
    close: str = "close"
    """Its column."""
    volume: str = "volume"
    """Its column."""
    price_scale: Scale = 1.0
    """Multiplies prices."""
    size_scale: Scale = 1.0
    """Multiplies sizes."""

    @model_validator(mode="after")
    def _stamped(self) -> "BarsTable":
        if self.time.stamp == "instant":
            raise ValueError("time.stamp must say whether a bar's time is its 'open' or its 'close'")
        bar_type_of("X.Y", self.time.period or 0)
        return self

    def numbers(self) -> list[str]:
        return [self.open, self.high, self.low, self.close, self.volume]

    def feed(self, target: Target) -> Feed:
        return BarsFeed(self, target)


class BarsFeed(RowFeed):
    """Bars, with high and low widened to contain an open that is the close before."""

    def __init__(self, table: BarsTable, target: Target) -> None:
        instrument, writer = target.instrument, target.writer
        bar_type = bar_type_of(str(instrument.id), table.time.period or 0)

        def write(**columns: np.ndarray) -> int:
            return writer.bars(instrument, bar_type, **columns)

        super().__init__(table, target.summary.tally("bars", bar_type), write, target.summary)
        self._table = table
        self._instrument = instrument
        self._newest = 0

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        columns = {
            name: batch.number(getattr(table, name)) * table.price_scale
            for name in ("open", "high", "low", "close")
        }
        for values in columns.values():
            self.note_rounding(values, self._instrument.price_precision, "prices")
        columns["volume"] = batch.number(table.volume) * table.size_scale
        self.note_rounding(columns["volume"], self._instrument.size_precision, "volumes")
        before = np.maximum.accumulate(np.concatenate(([self._newest], ts_event)))
        self._old = ts_event <= before[:-1]
        self._newest = int(before[-1])
        return columns

    def impossible(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "the high is under the low", columns["high"] < columns["low"]
        yield "the close is outside high and low", _outside(columns["close"], columns)

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "not later than a bar above", self._old
        missing = ~(columns["volume"] >= 0)
        positive = np.ones(len(missing), dtype=bool)
        for name in ("open", "high", "low", "close"):
            missing |= ~np.isfinite(columns[name])
            positive &= is_price(columns[name], self._instrument)
        yield "with a value missing", missing
        yield "without a positive price", ~positive
        yield TOO_LARGE, too_large(columns, self._instrument)
        yield "with a high under the low", columns["high"] < columns["low"]
        yield "with a close outside high and low", _outside(columns["close"], columns)
        yield "with an open far outside high and low", _outside(columns["open"], columns, _FAR)

    def repair(self, columns: Columns) -> None:
        wrong = _outside(columns["open"], columns)
        columns["high"] = np.maximum(columns["high"], columns["open"])
        columns["low"] = np.minimum(columns["low"], columns["open"])
        self.tally.notes["high or low widened to contain the open"] += int(wrong.sum())
        self.tally.notes["without volume: kept"] += int((columns["volume"] == 0).sum())


def _outside(value: np.ndarray, columns: Columns, factor: float = 1.0) -> np.ndarray:
    """Where a value is outside high and low, by more than ``factor``."""
    return (value > columns["high"] * factor) | (value * factor < columns["low"])
