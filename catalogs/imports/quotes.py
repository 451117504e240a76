"""Best bid and ask on their way into the catalog."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from catalogs.imports.base import Scale, TableSettings
from catalogs.imports.feeds import TOO_LARGE, Columns, Feed, RowFeed, Target, is_price, too_large
from catalogs.imports.tables import Batch


class QuotesTable(TableSettings):
    """Best bid and ask; rows with a side missing are dropped."""

    kind: Literal["quotes"]
    bid_price: str
    """Its column."""
    ask_price: str
    """Its column."""
    bid_size: str
    """Its column."""
    ask_size: str
    """Its column."""
    price_scale: Scale = 1.0
    """Multiplies prices."""
    size_scale: Scale = 1.0
    """Multiplies sizes."""

    def numbers(self) -> list[str]:
        return [self.bid_price, self.ask_price, self.bid_size, self.ask_size]

    def feed(self, target: Target) -> Feed:
        return QuotesFeed(self, target)


class QuotesFeed(RowFeed):
    """Best bid and ask."""

    def __init__(self, table: QuotesTable, target: Target) -> None:
        instrument, writer = target.instrument, target.writer

        def write(**columns: np.ndarray) -> int:
            return writer.quotes(instrument, **columns)

        super().__init__(table, target.summary.tally("quotes", str(instrument.id)), write, target.summary)
        self._table = table
        self._instrument = instrument

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        columns = {}
        for name in ("bid_price", "ask_price", "bid_size", "ask_size"):
            price = name.endswith("price")
            columns[name] = batch.number(getattr(table, name)) * (
                table.price_scale if price else table.size_scale
            )
            places = self._instrument.price_precision if price else self._instrument.size_precision
            self.note_rounding(columns[name], places, "prices" if price else "sizes")
        return columns

    def impossible(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "the bid is over the ask", columns["bid_price"] > columns["ask_price"]

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        missing = np.zeros(len(columns["bid_price"]), dtype=bool)
        for values in columns.values():
            missing |= ~np.isfinite(values)
        yield "with a side missing", missing
        positive = is_price(columns["bid_price"], self._instrument)
        positive &= is_price(columns["ask_price"], self._instrument)
        yield "without a positive price", ~positive
        yield TOO_LARGE, too_large(columns, self._instrument)
        crossed = columns["bid_price"] > columns["ask_price"]
        self.tally.notes["crossed: kept as recorded"] += int((crossed & ~missing & positive).sum())
