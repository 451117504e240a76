"""Trades on their way into the catalog: told apart by their ids, with the side of the aggressor."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from catalogs.checks.overlaps import SeenIds
from catalogs.imports.base import Cell, MappingError, Scale, TableSettings
from catalogs.imports.feeds import TOO_LARGE, Columns, Feed, RowFeed, Target, is_price, too_large
from catalogs.imports.tables import Batch
from core.settings import Settings

_TRUTHS: dict[bool, list[Cell]] = {
    True: ["true", "True", "TRUE"],
    False: ["false", "False", "FALSE"],
}


class SideColumn(Settings):
    """Aggressor named by a column: the values that mean buyer and seller."""

    kind: Literal["side"]
    column: str
    """Its name."""
    buy: list[Cell]
    """Values that mean the buyer was the aggressor."""
    sell: list[Cell]
    """Values that mean the seller was."""

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [self.column]


class BuyerMaker(Settings):
    """Aggressor by Binance's flag: true where the buyer was resting, so the seller was the aggressor."""

    kind: Literal["buyer_maker"]
    column: str
    """Its name."""

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [self.column]


class NoAggressor(Settings):
    """Aggressor not recorded (or recorded wrongly)."""

    kind: Literal["none"]

    def columns(self) -> list[str]:
        """The columns it reads."""
        return []


Aggressor = Annotated[SideColumn | BuyerMaker | NoAggressor, Field(discriminator="kind")]


class TradesTable(TableSettings):
    """Trades, with the side that took where it is recorded."""

    kind: Literal["trades"]
    price: str
    """Column of the price."""
    size: str
    """Column of the size."""
    id: str | None = None
    """Column of the venue's trade id: one id is one trade, wherever it stands again."""
    drop_repeats: bool = False
    """Without an id, a row equal to the one above it is a recorder's repetition, not another trade."""
    price_scale: Scale = 1.0
    """Multiplies prices."""
    size_scale: Scale = 1.0
    """Multiplies sizes."""
    aggressor: Aggressor
    """Who took."""

    @model_validator(mode="after")
    def _told_apart(self) -> "TradesTable":
        if self.id is not None and self.drop_repeats:
            raise ValueError("drop_repeats is for trades without an id; take one of the two away")
        return self

    def numbers(self) -> list[str]:
        return [self.price, self.size]

    def plain(self) -> list[str]:
        return [*super().plain(), *([self.id] if self.id else [])]

    def others(self) -> list[str]:
        return [*([self.id] if self.id else []), *self.aggressor.columns()]

    def feed(self, target: Target) -> Feed:
        return TradesFeed(self, target)


class TradesFeed(RowFeed):
    """Trades; without an aggressor where the data have none."""

    def __init__(self, table: TradesTable, target: Target) -> None:
        instrument, writer = target.instrument, target.writer

        def write(**columns: np.ndarray) -> int:
            return writer.trades(instrument, **columns)

        super().__init__(table, target.summary.tally("trades", str(instrument.id)), write, target.summary)
        self._table = table
        self._instrument = instrument
        self._seen = SeenIds()
        self._again: np.ndarray | None = None
        self.drops_repeats = table.drop_repeats
        if isinstance(table.aggressor, NoAggressor):
            target.summary.warnings.append(
                f"trades of {instrument.id}: the aggressor is not in the data, so they have NO_AGGRESSOR; "
                "signed volume made from them is inferred, not measured"
            )

    def decode(self, batch: Batch, ts_event: np.ndarray, ts_init: np.ndarray) -> Columns:
        table = self._table
        columns = {
            "price": batch.number(table.price) * table.price_scale,
            "size": batch.number(table.size) * table.size_scale,
            "side": self._side(batch),
        }
        self.note_rounding(columns["price"], self._instrument.price_precision, "prices")
        self.note_rounding(columns["size"], self._instrument.size_precision, "sizes")
        if table.id is not None:
            ids = batch.identifiers(table.id)
            columns["trade_id"] = ids.to_numpy()
            self._again = self._seen.repeated(ids)
            if self._again.any():
                self._refuse_other_trades(batch, columns)
        return columns

    def _refuse_other_trades(self, batch: Batch, columns: Columns) -> None:
        """Raise MappingError where rows of one id differ: the column is no trade's id."""
        ids = pd.Series(columns["trade_id"])
        several = np.flatnonzero(ids.duplicated(keep=False))
        for name in ("price", "size", "side"):
            values = pd.Series(columns[name][several])
            first = values.groupby(ids.iloc[several].to_numpy()).transform("first")
            differ = np.flatnonzero((values != first) & first.notna())
            if len(differ):
                at = several[differ[0]]
                before = int(np.argmax(columns["trade_id"] == columns["trade_id"][at]))
                raise MappingError(
                    f"{batch.path}: rows {batch.rows[before]} and {batch.rows[at]} both have {ids[at]} in "
                    f"column {self._table.id!r}, but {name} {columns[name][before]:g} and "
                    f"{columns[name][at]:g}: it is not the id of a trade; name another, or leave `id` out"
                )

    def _side(self, batch: Batch) -> np.ndarray:
        aggressor = self._table.aggressor
        if isinstance(aggressor, NoAggressor):
            return np.zeros(len(batch), dtype=np.int8)
        buys, sells = _TRUTHS[False], _TRUTHS[True]  # a buyer who was resting did not aggress
        if isinstance(aggressor, SideColumn):
            buys, sells = aggressor.buy, aggressor.sell
        elif not batch.is_text(aggressor.column):
            buys, sells = [False], [True]
        buy, sell = batch.is_any(aggressor.column, buys), batch.is_any(aggressor.column, sells)
        if not (buy | sell).all():
            row = int(np.argmin(buy | sell))
            raise MappingError(
                f"{batch.path}: column {aggressor.column!r}, row {batch.rows[row]}: "
                f"{batch.column(aggressor.column)[row]} is neither {buys} nor {sells}; correct the mapping's "
                "aggressor, or leave the row out with `where`"
            )
        return np.where(sell, -1, 1).astype(np.int8)

    def faults(self, columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
        if self._again is not None:
            yield "with the id of a row before", self._again
        yield "without a positive price", ~is_price(columns["price"], self._instrument)
        yield TOO_LARGE, too_large(columns, self._instrument)
        yield "without a size", ~(columns["size"] >= 0.5 * 10.0**-self._instrument.size_precision)
