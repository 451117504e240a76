"""Records give their own columns, and journals keep what they are given, in order, bit for bit."""

import dataclasses
import math
import random

import pyarrow as pa
import pytest

from core import records
from core.journal import MemoryJournal
from core.records import JOURNALED, EquityMark, Fill, Funding, Order, Record, as_records, as_table, schema


def made(kind: type[Record], n: int, seed: int = 1) -> list[Record]:
    """Records with any values that their fields may have."""
    rng = random.Random(seed)
    values = {
        "int": lambda: rng.randrange(-(2**63), 2**63),
        "float": lambda: rng.choice([rng.gauss(), -0.0, math.inf, 5e-324, 0.1 + 0.2]),
        "str": lambda: rng.choice(["", "momentum", "Börse, 市場\n", "a,b"]),
        "bool": lambda: rng.random() < 0.5,
    }
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    names = [field.type if isinstance(field.type, str) else field.type.__name__ for field in fields]
    return [kind(*(values[name]() for name in names)) for _ in range(n)]


@pytest.mark.parametrize("kind", [*JOURNALED, records.RoundTrip])
def test_a_record_comes_back_from_its_table(kind: type[Record]) -> None:
    rows = made(kind, 50)
    assert list(as_records(kind, as_table(kind, rows))) == rows
    assert as_table(kind, []).schema == schema(kind)


def test_columns_are_the_fields_with_their_types() -> None:
    wanted = {"ts": pa.int64(), "instrument": pa.string(), "rate": pa.float64(), "amount": pa.float64()}
    assert {field.name: field.type for field in schema(Funding)} == wanted
    assert schema(Fill).field("maker").type == pa.bool_()
    assert all("instrument" in schema(kind).names for kind in JOURNALED)


def test_a_record_cannot_be_changed_nor_given_more() -> None:
    order = Order(1, "O-1", "grid", "X", "buy", "limit", 1.0, 2.0, "initialized", "quote")
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.status = "filled"  # type: ignore[misc]
    assert not hasattr(order, "__dict__")


@pytest.mark.parametrize("count", [0, 3, 4, 11])
def test_a_journal_in_memory_keeps_every_record_in_order(count: int) -> None:
    journal = MemoryJournal(block=4)
    marks, fills = made(EquityMark, count), made(Fill, count, seed=2)
    for mark, fill in zip(marks, fills, strict=True):
        journal.write(mark)
        journal.write(fill)
    tables = journal.tables()
    assert set(tables) == set(JOURNALED)
    assert list(as_records(EquityMark, tables[EquityMark])) == marks
    assert list(as_records(Fill, tables[Fill])) == fills
    assert journal.latest(EquityMark) == (marks[-1] if marks else None)
    assert journal.latest(Order) is None
