"""What every importer shares: the settings of a table, and the error of data that do not fit a mapping."""

import codecs
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from core.kinds import Family
from core.settings import Duration, Integer, Multiple, Settings, default, unit

if TYPE_CHECKING:
    from catalogs.imports.feeds import Feed, Target

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


class TableSettings(Family):
    """One table of a mapping; a subclass is one importer, found by its ``kind``."""

    verbs: ClassVar[tuple[str, ...]] = ("numbers", "feed")
    of_instrument: ClassVar[bool] = True
    """Whether its rows are of an instrument that the mapping defines; else of a series."""

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

    def feed(self, target: "Target") -> "Feed":
        """What carries the rows of one instrument into the catalog."""
        raise NotImplementedError

    def others(self) -> list[str]:
        """Those that are neither numbers nor times nor symbols nor filters."""
        return []
