"""Instruments that change: definitions with validity in time, whatever the order of import."""

import itertools
import re

import pytest

from catalogs.checks.check import check_catalog
from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.instruments import definition
from catalogs.layout import files
from catalogs.reader import Catalog, Stream
from core.events import LAST, EventKind
from tests.catalogs.small_tables import ID, MS, T0, parquet

CHANGE = T0 + 60_000  # ms
OLD = {"id": ID, "base": "BTC", "quote": "USDT", "price_increment": "0.5", "size_increment": "1"}
NEW = OLD | {
    "price_increment": "0.01",
    "size_increment": "0.001",
    "multiplier": "0.01",
    "valid_from": "2023-11-14T22:14:20Z",
}


def mapping(*instruments, tables):
    entries = [{"kind": "perpetual", **item} for item in instruments]
    return ImportMapping.model_validate({"instrument": entries, "table": tables})


def trades_table(files):
    return {
        "kind": "trades",
        "files": [files],
        "instrument": ID,
        "time": {"event": "t", "unit": "ms"},
        "price": "price",
        "size": "size",
        "id": "id",
        "aggressor": {"kind": "none"},
    }


def write_trades(root):
    parquet(root / "early.parquet", t=[T0, T0 + 1_000], price=[100.5, 101.0], size=[3.0, 4.0], id=[1, 2])
    parquet(
        root / "late.parquet", t=[CHANGE, CHANGE + 5], price=[100.57, 101.13], size=[0.25, 0.125], id=[3, 4]
    )
    parquet(
        root / "both.parquet", t=[CHANGE - 1, CHANGE + 9], price=[100.0, 99.99], size=[2.0, 0.5], id=[5, 6]
    )


def told(catalog):
    """All that a catalog says: definitions, trades, and the files they are in."""
    found = Catalog(catalog)
    trades = found.trades(ID)
    return (
        [definition(item) for item in found.definitions(ID)],
        trades.tolist(),
        [path.name for path in files(catalog, "trades", ID)],
    )


def test_the_order_of_imports_does_not_matter(root, tmp_path):
    write_trades(root)
    early = mapping(OLD, tables=[trades_table("early.parquet")])
    late = mapping(NEW, tables=[trades_table("late.parquet")])
    both = mapping(NEW, OLD, tables=[trades_table("both.parquet")])
    results = []
    for number, order in enumerate(itertools.permutations((early, late, both))):
        for each in order:
            run_import(each, root, tmp_path / str(number))
        results.append(told(tmp_path / str(number)))
    definitions, trades, _ = results[0]
    assert [item["price_increment"] for item in definitions] == ["0.5", "0.01"]
    assert [item["multiplier"] for item in definitions] == ["1", "0.01"]
    assert [(row[1] // MS - T0, row[2], row[3]) for row in trades] == [
        (0, 100.5, 3.0),
        (1_000, 101.0, 4.0),
        (59_999, 100.0, 2.0),
        (60_000, 100.57, 0.25),  # not 100.5: the tick of its time
        (60_005, 101.13, 0.125),
        (60_009, 99.99, 0.5),
    ]
    assert all(result[:2] == results[0][:2] for result in results)
    for path in files(tmp_path / "0", "trades", ID):  # no file holds rows of two definitions
        assert not (path.name < "2023-11-14T22-14-20" < path.stem.split("_")[1])


def test_a_definition_is_in_force_until_the_next(root, tmp_path):
    write_trades(root)
    run_import(mapping(OLD, NEW, tables=[trades_table("*.parquet")]), root, tmp_path / "c")
    catalog, change = Catalog(tmp_path / "c"), CHANGE * MS

    def ticks(start, end):
        return [str(item.price_increment) for item in catalog.definitions(ID, start, end)]

    assert ticks(0, change) == ["0.5"]
    assert ticks(change - 1, change) == ["0.5"]
    assert ticks(change, change + 1) == ["0.01"]
    assert ticks(change - 1, change + 1) == ["0.5", "0.01"]
    assert str(catalog.instrument(ID).price_increment) == "0.01"
    assert [str(item.id) for item in catalog.instruments()] == [ID]
    check_catalog(tmp_path / "c")


def test_two_definitions_of_one_moment_are_refused_in_either_order(root, tmp_path):
    write_trades(root)
    other = OLD | {"price_increment": "0.1"}
    for number, (first, second) in enumerate(((OLD, other), (other, OLD))):
        run_import(mapping(first, tables=[trades_table("early.parquet")]), root, tmp_path / str(number))
        before = told(tmp_path / str(number))
        with pytest.raises(MappingError, match=re.escape("from the beginning with price_increment")) as error:
            run_import(mapping(second, tables=[trades_table("both.parquet")]), root, tmp_path / str(number))
        assert "0.1" in str(error.value)
        assert "0.5" in str(error.value)
        assert "valid_from" in str(error.value)
        assert told(tmp_path / str(number)) == before
    with pytest.raises(ValueError, match="both define"):
        mapping(OLD, other, tables=[trades_table("early.parquet")])


def test_rows_imported_by_another_definition_are_not_taken_over(root, tmp_path):
    write_trades(root)
    parquet(root / "coarse.parquet", t=[CHANGE + 50], price=[100.57], size=[1.0], id=[9])
    run_import(mapping(OLD, tables=[trades_table("coarse.parquet")]), root, tmp_path / "c")  # as 100.6
    with pytest.raises(MappingError, match="into a new catalog"):
        run_import(mapping(NEW, tables=[trades_table("both.parquet")]), root, tmp_path / "c")


def test_a_new_fee_or_minimum_since_some_day_takes_the_rows_there_are(root, tmp_path):
    write_trades(root)
    cheap = OLD | {"min_notional": "5", "valid_from": NEW["valid_from"]}
    run_import(mapping(OLD, tables=[trades_table("early.parquet")]), root, tmp_path / "c")
    parquet(root / "more.parquet", t=[CHANGE + 50], price=[90.0], size=[1.0], id=[9])
    run_import(mapping(OLD, tables=[trades_table("more.parquet")]), root, tmp_path / "c")
    run_import(mapping(cheap, tables=[trades_table("early.parquet")]), root, tmp_path / "c")
    assert [item["min_notional"] for item in told(tmp_path / "c")[0]] == [None, "5.00000000 USDT"]


def test_rows_before_the_first_definition_are_refused(root, tmp_path):
    write_trades(root)
    with pytest.raises(MappingError, match=r"row 0 is of 2023-11-14T22:13:20Z, but .* is defined from"):
        run_import(mapping(NEW, tables=[trades_table("early.parquet")]), root, tmp_path / "c")


def test_a_book_begins_anew_where_the_instrument_changes(root, tmp_path):
    names = ("t", "u", "pu", "side", "price", "size")
    rows = [
        (T0 + 10, 11, 10, "bid", 100.0, 5.0),
        (CHANGE + 10, 12, 11, "bid", 100.01, 0.5),
        (CHANGE + 30, 13, 12, "bid", 100.02, 0.5),
    ]
    parquet(root / "diffs.parquet", **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    for number, (t, last) in enumerate(((T0, 10), (CHANGE + 20, 12))):
        level = {"side": ["bid", "ask"], "price": [99.0, 101.0], "size": [1.0, 1.0]}
        parquet(root / f"snapshot{number}.parquet", t=[t] * 2, id=[last] * 2, **level)
    table = {
        "kind": "book_diffs",
        "files": ["diffs.parquet"],
        "instrument": ID,
        "time": {"event": "t", "unit": "ms"},
        "last_id": "u",
        "previous_id": "pu",
        "rule": "previous",
        "snapshots": {
            "files": ["snapshot*.parquet"], "last_id": "id", "time": {"event": "t", "unit": "ms"},
        },
    }  # fmt: skip
    summary = run_import(mapping(OLD, NEW, tables=[table]), root, tmp_path / "c")
    assert any("the instrument changed" in line for line in summary.warnings)
    (events,) = Catalog(tmp_path / "c").events([Stream(ID, trades=False)], 0, 2 * T0 * MS, chunk=10**19)
    seen = [
        (int(e["ts"]) // MS - T0, EventKind(e["kind"]).name, float(e["price"]), int(e["flags"]))
        for e in events
    ]
    assert seen == [
        (0, "CLEAR", 0.0, 0), (0, "BID", 99.0, 0), (0, "ASK", 101.0, LAST), (10, "BID", 100.0, LAST),
        (60_010, "CLEAR", 0.0, LAST),  # the book of the old contract is none of the new
        (60_020, "CLEAR", 0.0, 0), (60_020, "BID", 99.0, 0), (60_020, "ASK", 101.0, LAST),
        (60_020, "BID", 100.01, LAST),  # received before the snapshot that it continues
        (60_030, "BID", 100.02, LAST),
    ]  # fmt: skip
