"""Slow series on their way into the catalog."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from catalogs.imports.base import TableSettings
from catalogs.imports.feeds import Columns, Feed, RowFeed, Target
from catalogs.imports.tables import Batch


class SeriesTable(TableSettings):
    """Slow series Nautilus has no type for."""

    of_instrument: ClassVar[bool] = False

    kind: Literal["series"]
    values: dict[str, str] = Field(min_length=1)
    """Each series' name and column."""

    def numbers(self) -> list[str]:
        return list(self.values.values())

    def feed(self, target: Target) -> Feed:
        return SeveralFeeds([SeriesFeed(self, target, name) for name in self.values])


class SeriesFeed(RowFeed):
    """One named slow series."""

    def __init__(self, table: SeriesTable, target: Target, name: str) -> None:
        def write(**columns: np.ndarray) -> int:
            return target.writer.series(name, target.id, **columns)

        super().__init__(table, target.summary.tally(f"series {name}", target.id), write, target.summary)
        self._column = table.values[name]

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        return {"value": batch.number(self._column)}

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        yield "without a value", ~np.isfinite(columns["value"])


class SeveralFeeds(Feed):
    """Several feeds that read the same rows."""

    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = feeds

    def add(self, batch: Batch) -> None:
        for feed in self._feeds:
            feed.add(batch)

    def finish(self) -> None:
        for feed in self._feeds:
            feed.finish()
