"""An importer of one's own: the settings of a table, and the feed that carries its rows into the catalog."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from catalogs.imports.base import TableSettings
from catalogs.imports.feeds import Columns, Feed, RowFeed, Target, is_price
from catalogs.imports.tables import Batch


class SignedTradesTable(TableSettings):
    """Trades whose size is negative where the seller took."""

    kind: Literal["signed_trades"]
    price: str = "price"
    """Column of the price."""
    size: str = "size"
    """Column of the signed size."""

    def numbers(self) -> list[str]:
        return [self.price, self.size]

    def feed(self, target: Target) -> Feed:
        return SignedTradesFeed(self, target)


class SignedTradesFeed(RowFeed):
    """Rows decoded, and those that cannot be stored named."""

    def __init__(self, table: SignedTradesTable, target: Target) -> None:
        def write(**columns: np.ndarray) -> int:
            return target.writer.trades(target.instrument, **columns)

        super().__init__(table, target.summary.tally("trades", target.id), write, target.summary)
        self._table = table
        self._instrument = target.instrument

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        signed = batch.number(self._table.size)
        side = np.sign(np.nan_to_num(signed)).astype(np.int8)
        return {"price": batch.number(self._table.price), "size": np.abs(signed), "side": side}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "without a positive price", ~is_price(columns["price"], self._instrument)
        yield "without a size", ~(columns["size"] > 0)
