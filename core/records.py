"""What a run writes down: one typed record for each thing that happened, which gives its own Arrow schema."""

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import ClassVar

import pyarrow as pa

LIQUIDATION = "LIQUIDATION"
"""The order id of the fills by which a liquidated account's positions end, and the tag of the venue's own
order."""


class Record:
    """A row of a run's table ``TABLE``. Money is in settlement currency, what was paid is negative.

    Where a kind has a ``KEY``, the last record with one value of it holds.
    """

    __slots__ = ()
    TABLE: ClassVar[str]
    KEY: ClassVar[str] = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Decision(Record):
    """What a strategy decided on a bar, also where it did nothing."""

    TABLE = "decisions"

    ts: int  # bar close, ns since the epoch
    strategy: str
    instrument: str
    regime: str  # "none" without a valid model
    p_trend: float
    p_chop: float
    p_stress: float
    volatility: float
    risk_on: bool
    p_up: float
    p_down: float
    features_hash: str  # blake2b, 8 bytes, of the bar's float64 features
    permit: str
    size_factor: float
    action: str  # "none" or "hold" where nothing was done
    reason: str
    size: float  # contracts of the orders sent or amended
    bound: str  # the rule or cap that set the size, or what refused it
    position: float  # own, signed contracts, before the decision
    price: float
    client_order_ids: str  # sent or amended, comma-separated; those sent between bars stand in the next one
    bundle: str


@dataclasses.dataclass(frozen=True, slots=True)
class Order(Record):
    """An order as it was when this was written."""

    TABLE = "orders"
    KEY = "client_order_id"

    ts: int  # when it was made
    client_order_id: str
    strategy: str
    instrument: str
    side: str  # "buy" or "sell"
    type: str
    qty: float
    price: float  # its level, NaN for one at market
    status: str  # "initialized" where it never reached the venue
    role: str  # "entry", "exit", "stop" or "quote"
    reason: str = ""  # why it, or the last change of it, was refused, in the venue's words
    held: int = 0  # ns that a hole in the recording kept it from the venue, -1 for ever


@dataclasses.dataclass(frozen=True, slots=True)
class Fill(Record):
    """A fill of an order."""

    TABLE = "fills"

    ts: int
    client_order_id: str
    strategy: str
    instrument: str
    side: int  # +1 bought, -1 sold
    qty: float  # contracts, positive
    price: float
    fee: float  # negative = charged, positive = rebate
    maker: bool
    mid: float  # price at the last bar's close, which every mode knows; NaN where unknown
    regime: str
    risk_on: bool


@dataclasses.dataclass(frozen=True, slots=True)
class EquityMark(Record):
    """The account at the close of a bar."""

    TABLE = "equity"

    ts: int
    instrument: str  # that ``price`` and ``position`` are of
    equity: float  # open positions marked at ``price``
    equity_low: float  # the least within the bar: see strategies/account.py
    price: float  # mid at the bar's close
    position: float  # signed contracts
    regime: str
    risk_on: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Funding(Record):
    """A settlement of funding, also where nothing was held."""

    TABLE = "funding"

    ts: int
    instrument: str
    rate: float
    amount: float


@dataclasses.dataclass(frozen=True, slots=True)
class Liquidation(Record):
    """The end of an account. The position's end is in the fills too, under the order id ``LIQUIDATION``."""

    TABLE = "liquidations"

    ts: int  # when the mark was seen
    instrument: str
    position: float  # signed contracts that the venue took over
    price: float  # booked: the level, or the first mark beyond it after a gap
    level: float  # where equity met the maintenance margin
    mark: float  # the bar's worst
    charge: float  # fee, and what was earned later in that bar
    equity: float  # that was left


@dataclasses.dataclass(frozen=True, slots=True)
class RoundTrip(Record):
    """A strategy's way from flat to flat, or through zero to the other side."""

    TABLE = "positions"

    strategy: str
    instrument: str
    side: int  # +1 long, -1 short
    opened: int  # ns
    closed: int
    gross_pnl: float
    fees: float
    funding: float
    net_pnl: float  # gross_pnl + fees + funding


JOURNALED: tuple[type[Record], ...] = (Decision, Order, Fill, Funding, EquityMark, Liquidation)
"""What is written while a run goes on; round trips follow from it."""

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}


_schemas: dict[type[Record], pa.Schema] = {}


def schema(kind: type[Record]) -> pa.Schema:
    """The columns of a kind of record, by its fields."""
    if kind not in _schemas:
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]
        _schemas[kind] = pa.schema([(field.name, _TYPES[hints[field.name]]) for field in fields])
    return _schemas[kind]


def as_table[R: Record](kind: type[R], records: Sequence[R]) -> pa.Table:
    """Records of one kind as a table."""
    columns = schema(kind)
    arrays = [pa.array(list(map(attrgetter(field.name), records)), field.type) for field in columns]
    return pa.table(arrays, schema=columns)


def as_records[R: Record](kind: type[R], table: pa.Table) -> Iterator[R]:
    """The rows of a table that ``as_table`` gave."""
    for batch in table.to_batches(4_096):
        yield from (kind(*row) for row in zip(*batch.to_pydict().values(), strict=True))
