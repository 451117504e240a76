"""Mark and index prices on their way into the catalog."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from catalogs.imports.base import Scale, TableSettings
from catalogs.imports.feeds import TOO_LARGE, Columns, Feed, RowFeed, Target, is_price, too_large
from catalogs.imports.tables import Batch


class PriceTable(TableSettings):
    """Mark or index prices."""

    kind: Literal["mark", "index"]
    value: str
    """Column of the price."""
    price_scale: Scale = 1.0
    """Multiplies it."""

    def numbers(self) -> list[str]:
        return [self.value]

    def feed(self, target: Target) -> Feed:
        return PriceFeed(self, target)


class PriceFeed(RowFeed):
    """Mark or index prices."""

    def __init__(self, table: PriceTable, target: Target) -> None:
        instrument, writer = target.instrument, target.writer
        method = writer.mark_prices if table.kind == "mark" else writer.index_prices

        def write(**columns: np.ndarray) -> int:
            return method(instrument, **columns)

        super().__init__(table, target.summary.tally(table.kind, str(instrument.id)), write, target.summary)
        self._table = table
        self._instrument = instrument

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        value = batch.number(self._table.value) * self._table.price_scale
        self.note_rounding(value, self._instrument.price_precision, "prices")
        return {"value": value}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "without a positive price", ~is_price(columns["value"], self._instrument)
        yield TOO_LARGE, too_large(columns, self._instrument)
