"""The language of import mappings: which columns of which files become which kind of market data."""

import codecs
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from catalogs.instruments import InstrumentSettings
from catalogs.layout import bar_type_of
from core.settings import Count, Duration, Integer, Multiple, Settings, default, unit

Unit = Literal["s", "ms", "us", "ns", "timestamp"]
Cell = str | int | float | bool
Scale = Annotated[Multiple, Field(gt=0, le=1e12)]
"""What a column is multiplied by."""


class MappingError(ValueError):
    """Data or a mapping that cannot be imported, said with the file, the column and the value."""


class TimeSettings(Settings):
    """When a row happened and when it could be known."""

    event: str
    """Column of the venue's time."""
    init: str | None = None
    """Column of the time of receipt, which becomes ``ts_init``; absent: ``event``."""
    unit: Unit = "timestamp"
    """``"s"``, ``"ms"``, ``"us"``, ``"ns"`` since the epoch, or ``"timestamp"``: a timestamp column or ISO
    text, UTC where it has no zone."""
    init_unit: Unit | None = None
    """The same of ``init``; absent: that of ``event``."""
    stamp: Literal["instant", "open", "close"] = "instant"
    """An instant; or what the time marks of an interval of ``period``: its open or its close. Rows are always
    stored at the close."""
    period: Duration | None = None
    """Length of the interval."""
    delay: Duration = default("0s")
    """Added to ``ts_init``: a latency or publication delay that the columns do not hold."""
    max_late: Duration = default("1m")
    """A row may be stamped earlier than the row before it by so much; its ``ts_init`` is then that row's.
    More is an error."""
    sort: bool = False
    """Sort each file by time first (in memory): for files that are not in order."""

    @model_validator(mode="after")
    def _check(self) -> "TimeSettings":
        if self.stamp != "instant" and not self.period:
            raise ValueError(f"stamp = {self.stamp!r} needs the period, such as period = '1m'")
        if self.stamp == "instant" and self.period is not None:
            raise ValueError("period is given, but not what the time marks of it: stamp = 'open' or 'close'")
        return self

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [self.event] if self.init is None else [self.event, self.init]


class CsvSettings(Settings):
    """How a table's CSV files are written, as far as that is not found out from their beginning."""

    separator: str | None = Field(default=None, min_length=1, max_length=1)
    """What stands between cells; absent: of comma, semicolon, tab and bar that which splits the header
    best."""
    columns: list[str] = Field(default=[])
    """Names of the columns in order, for files without a header and for those where two columns have one
    name. A file whose first line has the names that the table reads keeps its own."""
    decimal: Literal[".", ","] = "."
    """What stands before decimal places."""
    thousands: Literal[",", ".", "'", " ", "_"] | None = None
    """What stands between thousands; absent: nothing."""
    encoding: str = "utf-8"
    """Of the text; UTF-16 is known by its byte order mark."""
    skip: Annotated[Integer, unit("lines")] = Field(default=0, ge=0, le=10_000)
    """Lines before the header (or the first row) that are not of the table. Empty ones and those that begin
    with ``#`` are passed over anyway."""

    @field_validator("columns")
    @classmethod
    def _named_once(cls, value: list[str]) -> list[str]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} named twice; give every column its own name")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            codecs.lookup(value).incrementaldecoder(errors="strict").decode(b"")
            b"".decode(value)
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"{value!r} is no encoding; write one such as 'utf-8' or 'cp1252'") from None
        return value

    @model_validator(mode="after")
    def _one_meaning(self) -> "CsvSettings":
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}; a number has one of them")
        return self


class SymbolSettings(Settings):
    """Instrument by row."""

    columns: list[str] = Field(min_length=1)
    """Columns whose text, joined by ``/``, is the symbol."""
    map: dict[str, str] = Field(min_length=1)
    """The instrument of each symbol."""
    others: Literal["error", "skip"] = "error"
    """What to do with rows of a symbol that is not in the map."""


class TableSettings(Settings):
    """What every table has."""

    files: list[str] = Field(min_length=1)
    """Paths or globs under the root, Parquet or CSV (``.csv``, ``.csv.gz``, ``.csv.zst``), read in name
    order."""
    instrument: str | None = None
    """The id that all rows belong to; else ``symbol`` says it row by row."""
    symbol: SymbolSettings | None = None
    """Which instrument a row belongs to."""
    where: dict[str, Cell | list[Cell]] = Field(default={})
    """Only rows whose column equals the value (or one of the values) are read."""
    time: TimeSettings
    """The time columns."""
    csv: CsvSettings = CsvSettings()
    """How CSV files are written, where that is not found out."""

    @model_validator(mode="after")
    def _one_instrument(self) -> "TableSettings":
        if (self.instrument is None) == (self.symbol is None):
            raise ValueError("give either instrument = 'ID' or symbol = {columns, map}")
        return self

    def targets(self) -> list[str]:
        """The instruments (or series ids) this table can write."""
        return [self.instrument] if self.instrument else sorted(set(self.symbol.map.values()))  # type: ignore[union-attr]

    def columns(self) -> list[str]:
        """The columns of the files that the table reads."""
        symbols = self.symbol.columns if self.symbol else []
        return [*self.time.columns(), *symbols, *self.where, *self.numbers(), *self.others()]

    def numbers(self) -> list[str]:
        """Those of them that are read as decimal numbers."""
        raise NotImplementedError

    def plain(self) -> list[str]:
        """Those whose type is ours to say, whatever the first rows of a CSV look like."""
        return [*self.numbers(), *(self.symbol.columns if self.symbol else [])]

    def others(self) -> list[str]:
        """Those that are neither numbers nor times nor symbols nor filters."""
        return []


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


class WideLevels(Settings):
    """Book levels in columns of their own: names with ``{level}`` in them."""

    kind: Literal["wide"]
    bid_price: str
    """Columns of bid prices, such as ``bid_{level}``."""
    bid_size: str
    """Columns of bid sizes."""
    ask_price: str
    """Columns of ask prices."""
    ask_size: str
    """Columns of ask sizes."""
    levels: Count = Field(gt=0, le=8_192)
    """How many there are."""
    first: Annotated[Integer, unit("level")] = Field(default=0, ge=0, le=1_000)
    """The best level's number."""

    @model_validator(mode="after")
    def _check(self) -> "WideLevels":
        for name in (self.bid_price, self.bid_size, self.ask_price, self.ask_size):
            if "{level" not in name:
                raise ValueError(f"{name!r} has no {{level}} (or {{level:02}}) for the level's number")
        return self

    def parts(self) -> list[list[str]]:
        """Column names of bid prices, bid sizes, ask prices, ask sizes, each from the best level."""
        numbers = range(self.first, self.first + self.levels)
        return [
            [name.format(level=number) for number in numbers]
            for name in (self.bid_price, self.bid_size, self.ask_price, self.ask_size)
        ]

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [name for part in self.parts() for name in part]


class ListLevels(Settings):
    """Book levels in list columns, best first."""

    kind: Literal["lists"]
    bid_price: str
    """Column of bid prices."""
    bid_size: str
    """Column of bid sizes."""
    ask_price: str
    """Column of ask prices."""
    ask_size: str
    """Column of ask sizes."""

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [self.bid_price, self.bid_size, self.ask_price, self.ask_size]


Levels = Annotated[WideLevels | ListLevels, Field(discriminator="kind")]


class SnapshotsTable(TableSettings):
    """Book snapshots, stored as the deltas between successive ones."""

    kind: Literal["book_snapshots"]
    levels: Levels
    """Where the levels stand."""
    sequence: str | None = None
    """Column of the venue's sequence."""
    gap: Duration = default("10s")
    """After a longer hole in time the book is cleared and written anew."""
    price_scale: Scale = 1.0
    """Multiplies prices."""
    size_scale: Scale = 1.0
    """Multiplies sizes."""

    def numbers(self) -> list[str]:
        return self.levels.columns()

    def others(self) -> list[str]:
        return [self.sequence] if self.sequence else []


class BookSide(Settings):
    """The column that says bid or ask, and the values it uses."""

    column: str = "side"
    """Its name."""
    bid: Cell = "bid"
    """The value that means bid."""
    ask: Cell = "ask"
    """The value that means ask."""


class RestSnapshots(Settings):
    """Full books to start from: one row a level, as ``book_diffs``, with the update id they include."""

    files: list[str] = Field(min_length=1)
    """Paths or globs under the root."""
    last_id: str
    """Column of the update id that the book includes."""
    time: TimeSettings
    """The time columns."""


class DiffsTable(TableSettings):
    """Depth updates, one row a level (size 0: level gone), stored as deltas on top of snapshots."""

    kind: Literal["book_diffs"]
    side: BookSide = BookSide()
    """Which side a level is of."""
    price: str = "price"
    """Column of the price."""
    size: str = "size"
    """Column of the size; 0 where the level is gone."""
    first_id: str | None = None
    """Column of the update's first id; without it an update has one id (OKX, Deribit)."""
    last_id: str
    """Column of the update's last id."""
    previous_id: str | None = None
    """Column of the previous update's last id."""
    rule: Literal["previous", "contiguous"]
    """``"previous"``: each ``previous_id`` equals the ``last_id`` before (Binance futures, OKX, Deribit);
    ``"contiguous"``: each ``first_id`` follows the ``last_id`` before by one (Binance spot)."""
    snapshots: RestSnapshots
    """Where the book starts, and starts again after a break in the sequence."""
    price_scale: Scale = 1.0
    """Multiplies prices."""
    size_scale: Scale = 1.0
    """Multiplies sizes."""

    @model_validator(mode="after")
    def _check(self) -> "DiffsTable":
        if self.rule == "previous" and self.previous_id is None:
            raise ValueError("rule = 'previous' compares previous_id; name its column")
        return self

    def numbers(self) -> list[str]:
        return [self.price, self.size]

    def others(self) -> list[str]:
        ids = [self.first_id, self.last_id, self.previous_id]
        return [*(name for name in ids if name), self.side.column]


class PriceTable(TableSettings):
    """Mark or index prices."""

    kind: Literal["mark", "index"]
    value: str
    """Column of the price."""
    price_scale: Scale = 1.0
    """Multiplies it."""

    def numbers(self) -> list[str]:
        return [self.value]


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


class SeriesTable(TableSettings):
    """Slow series Nautilus has no type for."""

    kind: Literal["series"]
    values: dict[str, str] = Field(min_length=1)
    """Each series' name and column."""

    def numbers(self) -> list[str]:
        return list(self.values.values())


Table = Annotated[
    TradesTable
    | QuotesTable
    | BarsTable
    | SnapshotsTable
    | DiffsTable
    | PriceTable
    | FundingTable
    | SeriesTable,
    Field(discriminator="kind"),
]


class ImportMapping(Settings):
    """A whole mapping file: the instruments and the tables."""

    note: str = ""
    """For people: defects of the data and what is done about them."""
    instrument: list[InstrumentSettings] = Field(default=[])
    """The instruments."""
    table: list[Table] = Field(min_length=1)
    """The tables."""

    @model_validator(mode="after")
    def _known_instruments(self) -> "ImportMapping":
        seen: dict[tuple[str, int], int] = {}
        for number, item in enumerate(self.instrument):
            key = item.id, item.valid_from or 0
            if key in seen:
                raise ValueError(
                    f"instrument {number} and {seen[key]} both define {item.id} from the same moment on; "
                    "give the later one a valid_from, such as valid_from = '2024-01-01T00:00:00Z'"
                )
            seen[key] = number
            if item.kind != next(other.kind for other in self.instrument if other.id == item.id):
                raise ValueError(f"{item.id} is a perpetual in one entry and spot in another; give two ids")
        known = {item.id for item in self.instrument}
        for number, table in enumerate(self.table):
            unknown = [name for name in table.targets() if name not in known]
            if unknown and not isinstance(table, SeriesTable):
                raise ValueError(
                    f"table {number} ({table.kind}) is for {', '.join(unknown)}, which no [[instrument]] is"
                )
        return self
