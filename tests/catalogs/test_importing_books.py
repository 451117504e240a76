"""The importers of order books on small files worked by hand: depth diffs, and snapshots."""

from decimal import Decimal

import pytest

from catalogs.imports.importing import run_import
from catalogs.reader import Catalog, Stream
from core.events import LAST, EventKind
from tests.catalogs.small_tables import ID, MS, T0, mapping, parquet

DIFFS = """
[[table]]
kind = "book_diffs"
files = ["diffs*.parquet"]
instrument = "BTCUSDT-PERP.TEST"
time = { event = "t", unit = "ms" }
first_id = "U"
last_id = "u"
previous_id = "pu"
rule = "previous"
[table.snapshots]
files = ["snapshot*.parquet"]
last_id = "id"
time = { event = "t", unit = "ms" }
"""


def _diffs(path, rows):
    names = ("t", "U", "u", "pu", "side", "price", "size")
    parquet(path, **{name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


def _snapshot(path, t, last_id, bids, asks):
    rows = [("bid", p, q) for p, q in bids] + [("ask", p, q) for p, q in asks]
    side, price, size = map(list, zip(*rows, strict=True))
    n = len(rows)
    parquet(path, t=[t] * n, id=[last_id] * n, side=side, price=price, size=size)


def _events(catalog):
    (events,) = Catalog(catalog).events([Stream(ID, trades=False)], T0 * MS, (T0 + 10**6) * MS, chunk=10**18)
    return [
        (
            (int(e["ts"]) // MS) - T0,
            EventKind(e["kind"]).name,
            round(float(e["price"]), 1),
            float(e["size"]),
            int(e["flags"]),
        )
        for e in events
    ]


# Snapshot 110 is taken at +30 ms; update 101-105 is older, 106-112 spans it.
FIRST_UPDATES = [
    (T0 + 0, 101, 105, 100, "bid", 99.0, 9.0),
    (T0 + 10, 106, 112, 105, "bid", 100.0, 2.0),
    (T0 + 10, 106, 112, 105, "ask", 101.0, 0.0),
    (T0 + 10, 106, 112, 105, "ask", 200.0, 0.0),  # a level the book never had
    (T0 + 40, 113, 115, 112, "bid", 100.0, 2.0),  # nothing changes
    (T0 + 50, 116, 118, 115, "ask", 101.5, 4.0),
]
SNAPSHOT = ([(100.0, 1.0), (99.5, 1.0)], [(101.0, 1.0), (102.0, 1.0)])
START = [
    (30, "CLEAR", 0.0, 0.0, 0),
    (30, "BID", 100.0, 1.0, 0),
    (30, "BID", 99.5, 1.0, 0),
    (30, "ASK", 101.0, 1.0, 0),
    (30, "ASK", 102.0, 1.0, LAST),
    (30, "ASK", 101.0, 0.0, 0),  # known at +10 ms, but there was no book to apply it to before +30 ms
    (30, "BID", 100.0, 2.0, LAST),
    (50, "ASK", 101.5, 4.0, LAST),
]


def test_diffs_on_a_snapshot(root, tmp_path):
    _diffs(root / "diffs.parquet", FIRST_UPDATES)
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    summary = run_import(mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == START
    notes = summary.tally("deltas", ID).notes
    assert notes["updates before a book to apply them to: left out"] == 1
    assert notes["levels set to the size they had: nothing to write"] == 2
    assert not summary.warnings


def test_an_update_cut_by_the_end_of_a_file_stays_whole(root, tmp_path):
    _diffs(root / "diffs-1.parquet", FIRST_UPDATES[:2])
    _diffs(root / "diffs-2.parquet", FIRST_UPDATES[2:])
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    run_import(mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == START


LOST = [
    (T0 + 60, 130, 131, 125, "bid", 99.0, 1.0),  # 119 to 125 are missing
    (T0 + 70, 132, 133, 131, "bid", 98.0, 1.0),
]


def test_a_break_clears_the_book_and_no_deltas_follow(root, tmp_path):
    _diffs(root / "diffs.parquet", FIRST_UPDATES + LOST)
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    summary = run_import(mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == [*START, (60, "CLEAR", 0.0, 0.0, LAST)]
    notes = summary.tally("deltas", ID).notes
    assert notes["breaks in the sequence: book cleared"] == 1
    assert notes["updates before a book to apply them to: left out"] == 3
    assert any("update 130 does not follow 118" in line for line in summary.warnings)
    assert any("ends empty" in line for line in summary.warnings)


def test_a_later_snapshot_brings_the_book_back_after_a_break(root, tmp_path):
    _diffs(root / "diffs.parquet", FIRST_UPDATES + LOST)
    _snapshot(root / "snapshot-1.parquet", T0 + 30, 110, *SNAPSHOT)
    _snapshot(root / "snapshot-2.parquet", T0 + 65, 132, [(97.0, 1.0)], [(103.0, 1.0)])
    run_import(mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == [
        *START,
        (60, "CLEAR", 0.0, 0.0, LAST),
        (65, "CLEAR", 0.0, 0.0, 0),
        (65, "BID", 97.0, 1.0, 0),
        (65, "ASK", 103.0, 1.0, LAST),
        (70, "BID", 98.0, 1.0, LAST),
    ]


def test_a_break_says_how_long_there_is_no_book(root, tmp_path):
    minutes = [(T0 + 60_000 * i, 200 + i, 200 + i, 199 + i, "bid", 98.0, float(i)) for i in range(5, 65)]
    _diffs(root / "diffs.parquet", FIRST_UPDATES + LOST[:1] + minutes)
    _snapshot(root / "snapshot-1.parquet", T0 + 30, 110, *SNAPSHOT)
    _snapshot(root / "snapshot-2.parquet", T0 + 600_000, 210, [(97.0, 1.0)], [(103.0, 1.0)])
    summary = run_import(mapping(DIFFS), root, tmp_path / "c")
    (line,) = [line for line in summary.warnings if "follow" in line]
    assert "update 130 does not follow 118; " in line
    assert "for 10 min in all" in line
    assert "no price" in line


ONE_ID = DIFFS.replace('first_id = "U"\n', "")


@pytest.mark.parametrize("first", [1, 0], ids=["the update after it", "and the update it holds"])
def test_the_update_whose_previous_id_is_the_snapshots_is_the_first(root, tmp_path, first):
    # As OKX and Deribit number them: one id an update, with holes between the ids, and the id before it.
    rows = [
        (T0 + 10, 0, 110, 104, "bid", 100.0, 1.0),  # in the snapshot already
        (T0 + 40, 0, 117, 110, "bid", 100.0, 5.0),
        (T0 + 50, 0, 117, 117, "bid", 100.0, 5.0),  # a sign of life: nothing new, its own id before it
        (T0 + 60, 0, 124, 117, "ask", 101.0, 0.0),
    ]
    _diffs(root / "diffs.parquet", rows[first:])
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    summary = run_import(mapping(ONE_ID), root, tmp_path / "c")
    assert _events(tmp_path / "c") == [
        *START[:5],
        (40, "BID", 100.0, 5.0, LAST),
        (60, "ASK", 101.0, 0.0, LAST),
    ]
    assert not summary.warnings


def test_levels_that_are_no_multiples_of_the_tick_are_counted(root, tmp_path):
    # One decimal place, but a tick of 0.5: as where the tick became finer and nobody gave its definition.
    coarse = mapping(DIFFS).model_copy(deep=True)
    coarse = coarse.model_copy(
        update={"instrument": [coarse.instrument[0].model_copy(update={"price_increment": Decimal("0.5")})]}
    )
    _diffs(root / "diffs.parquet", [*FIRST_UPDATES, (T0 + 60, 119, 120, 118, "bid", 99.9, 3.0)])
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    notes = run_import(coarse, root, tmp_path / "c").tally("deltas", ID).notes
    assert notes["levels between the ticks of 0.5: kept"] == 1
    assert notes["levels rounded to the instrument's decimal places"] == 0


def test_the_contiguous_rule_of_spot(root, tmp_path):
    rows = [(t, first, last, 0, *rest) for t, first, last, _, *rest in FIRST_UPDATES]
    _diffs(root / "diffs.parquet", rows)
    _snapshot(root / "snapshot.parquet", T0 + 30, 105, *SNAPSHOT)  # 106 follows it
    summary = run_import(mapping(DIFFS.replace('"previous"', '"contiguous"')), root, tmp_path / "c")
    assert _events(tmp_path / "c") == START
    assert summary.tally("deltas", ID).notes["breaks in the sequence: book cleared"] == 0


SNAPSHOTS = """
[[table]]
kind = "book_snapshots"
files = ["books.parquet"]
instrument = "BTCUSDT-PERP.TEST"
time = { event = "t", unit = "ms" }
gap = "5s"
price_scale = 0.1
"""
WIDE = """
[table.levels]
kind = "wide"
levels = 2
bid_price = "bp{level}"
bid_size = "bq{level}"
ask_price = "ap{level}"
ask_size = "aq{level}"
"""
LISTS = """
[table.levels]
kind = "lists"
bid_price = "bp"
bid_size = "bq"
ask_price = "ap"
ask_size = "aq"
"""
BOOKS = [  # time, bids, asks in tenths
    (T0, [(1000, 1.0), (999, 2.0)], [(1001, 1.0), (1002, 2.0)]),
    (T0 + 250, [(1000, 1.0), (999, 2.0)], [(1001, 1.0), (1002, 2.0)]),
    (T0 + 500, [(1001, 1.0), (1000, 1.0)], [(1001, 3.0), (1003, 2.0)]),  # locked
    (T0 + 9_000, [(990, 1.0)], [(1001, 3.0), (1003, 2.0)]),  # after a hole; one level missing
]
BOOK_EVENTS = [
    (0, "CLEAR", 0.0, 0.0, 0),
    (0, "BID", 100.0, 1.0, 0),
    (0, "BID", 99.9, 2.0, 0),
    (0, "ASK", 100.1, 1.0, 0),
    (0, "ASK", 100.2, 2.0, LAST),
    (500, "BID", 99.9, 0.0, 0),
    (500, "ASK", 100.2, 0.0, 0),
    (500, "BID", 100.1, 1.0, 0),
    (500, "ASK", 100.1, 3.0, 0),
    (500, "ASK", 100.3, 2.0, LAST),
    (9000, "CLEAR", 0.0, 0.0, 0),
    (9000, "BID", 99.0, 1.0, 0),
    (9000, "ASK", 100.1, 3.0, 0),
    (9000, "ASK", 100.3, 2.0, LAST),
]


def test_a_filter_that_leaves_nothing_writes_nothing(root, tmp_path):
    _diffs(root / "diffs.parquet", FIRST_UPDATES)
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    nothing = DIFFS.replace('rule = "previous"', 'rule = "previous"\nwhere = { U = 7 }')
    assert run_import(mapping(nothing), root, tmp_path / "c").added == 0


@pytest.mark.parametrize("shape", ["wide", "lists"])
def test_snapshots_become_the_deltas_between_them(root, tmp_path, shape):
    columns = {"t": [row[0] for row in BOOKS]}
    for name, side in (("b", 1), ("a", 2)):
        for letter, field in (("p", 0), ("q", 1)):
            values = [[level[field] for level in row[side]] for row in BOOKS]
            if shape == "lists":
                columns[name + letter] = values
            else:
                for k in range(2):
                    columns[f"{name}{letter}{k}"] = [v[k] if k < len(v) else None for v in values]
    parquet(root / "books.parquet", **columns)
    summary = run_import(mapping(SNAPSHOTS + (WIDE if shape == "wide" else LISTS)), root, tmp_path / "c")
    assert _events(tmp_path / "c") == BOOK_EVENTS
    assert dict(+summary.tally("deltas", ID).notes) == {
        "holes in time: book cleared and written anew": 1,
        "snapshots without a change: nothing to write": 1,
        "books locked (bid = ask): kept as recorded": 1,
    }
    assert "1 of 4 states (25.0%) are locked" in summary.warnings[0]
