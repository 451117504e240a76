"""Funding rates on their way into the catalog."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from catalogs.imports.base import TableSettings, Unit
from catalogs.imports.feeds import Columns, Feed, RowFeed, Target
from catalogs.imports.tables import Batch
from core.settings import Duration


class FundingTable(TableSettings):
    """Funding rates, foreseen or settled."""

    kind: Literal["funding"]
    rate: str
    """Column of the rate, a fraction of the notional for each interval."""
    interval: Duration
    """Time between settlements."""
    next: str | None = None
    """Column of the settlement that a row's rate is foreseen for; the last one before it is what settles.
    Without it a row is the rate that settled at the row's own time."""
    next_unit: Unit = "ms"
    """Unit of that column."""

    def numbers(self) -> list[str]:
        return [self.rate]

    def others(self) -> list[str]:
        return [self.next] if self.next else []

    def feed(self, target: Target) -> Feed:
        return FundingFeed(self, target)


class FundingFeed(RowFeed):
    """Funding rates."""

    def __init__(self, table: FundingTable, target: Target) -> None:
        instrument, writer = target.instrument, target.writer

        def write(**columns: np.ndarray) -> int:
            return writer.funding_rates(instrument, interval=table.interval, **columns)

        super().__init__(table, target.summary.tally("funding", str(instrument.id)), write, target.summary)
        self._table = table

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        # A settled rate is settled by the exchange simulation when it becomes known; it refuses an earlier
        # time.
        following = ts_init if table.next is None else batch.times(table.next, table.next_unit)
        self._past = following < ts_init
        return {"rate": batch.number(table.rate), "next_funding_ns": following}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "received after the settlement they foresee", self._past
        yield "without a rate", ~np.isfinite(columns["rate"])
