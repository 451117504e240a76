"""The table importer on small files worked by hand."""

import gzip
import json
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from catalogs.importing import run_import
from catalogs.mapping import ImportMapping, MappingError
from catalogs.reader import Catalog, Stream
from engine.config import load_settings
from engine.errors import BeaufortError
from features.events import LAST, EventKind

MS, SECOND = 1_000_000, 1_000_000_000
T0 = 1_700_000_000_000  # ms
ID = "BTCUSDT-PERP.TEST"
INSTRUMENT = f"""
[[instrument]]
kind = "perpetual"
id = "{ID}"
base = "BTC"
quote = "USDT"
price_increment = "0.1"
size_increment = "0.001"
"""


def _mapping(text):
    return ImportMapping.model_validate(tomllib.loads(INSTRUMENT + text))


def _parquet(path, **columns):
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


TRADES = """
[[table]]
kind = "trades"
files = ["trades*.csv*"]
instrument = "BTCUSDT-PERP.TEST"
time = { event = "t", unit = "ms" }
price = "p"
size = "q"
id = "id"
where = { type = "MARKET" }
aggressor = { kind = "buyer_maker", column = "m" }
"""
TRADE_ROWS = [
    (T0, 100.1, 1.0, 1, "true", "MARKET"),
    (T0 + 5, 100.2, 2.0, 2, "false", "MARKET"),
    (T0 + 5, 100.2, 2.0, 2, "false", "MARKET"),  # written twice by the recorder
    (T0 + 5, 100.2, 2.0, 3, "false", "MARKET"),  # alike, but another trade
    (T0 + 3, 100.3, 0.5, 4, "true", "MARKET"),  # stamped 2 ms before the row above
    (T0 + 9, 100.3, 0.0, 5, "true", "MARKET"),  # no size
    (T0 + 9, 90.0, 1.0, 6, "true", "INSURANCE_FUND"),
    (T0 + 10, 100.36, 1.0, 7, "true", "MARKET"),  # between ticks
]


def _csv(rows):
    return "t,p,q,id,m,type\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n"


def test_trades_from_csv_repaired_and_counted(root, tmp_path):
    (root / "trades-1.csv").write_text(_csv(TRADE_ROWS[:4]))
    with gzip.open(root / "trades-2.csv.gz", "wt") as file:
        file.write(_csv(TRADE_ROWS[4:]))
    steps = []
    summary = run_import(_mapping(TRADES), root, tmp_path / "c", lambda *step: steps.append(step))
    trades = Catalog(tmp_path / "c").trades(ID)
    assert [round(p, 1) for p in trades["price"]] == [100.1, 100.2, 100.2, 100.3, 100.4]
    assert trades["side"].tolist() == [-1, 1, 1, -1, -1]
    assert ((trades["ts_event"] // MS) - T0).tolist() == [0, 5, 5, 3, 10]
    assert ((trades["ts_init"] // MS) - T0).tolist() == [0, 5, 5, 5, 10]
    tally = summary.tally("trades", ID)
    assert (tally.read, tally.added, tally.present) == (7, 5, 0)
    assert dict(+tally.notes) == {
        "equal to the row above: left out": 1,
        "stamped before the row above: ts_init raised": 1,
        "without a size: left out": 1,
        "prices rounded to 1 decimal places": 1,
    }
    assert any("1 rows were left out by `where`" in line for line in summary.warnings)
    assert steps[-1][1:] == (8, 8)

    again = run_import(_mapping(TRADES), root, tmp_path / "c")
    assert (again.added, again.tally("trades", ID).present) == (0, 5)
    (root / "trades-3.csv").write_text(_csv([(T0 + 20, 100.5, 1.0, 8, "false", "MARKET")]))
    assert run_import(_mapping(TRADES), root, tmp_path / "c").added == 1

    console = Console(record=True, width=160)
    console.print(summary)
    assert "without a size" in console.export_text()
    report = json.loads(json.dumps(summary.to_dict()))
    assert report["added"] == 5
    assert report["tables"][0]["notes"]["without a size: left out"] == 1


def test_a_csv_whose_prices_begin_whole(root, tmp_path):
    """Twenty megabytes of whole prices before the first fraction: more than a reader guesses types from."""
    rows = 600_000
    body = "\n".join(f"{T0 + i},100,1,{i},true,MARKET" for i in range(rows))
    (root / "trades-1.csv").write_text(f"t,p,q,id,m,type\n{body}\n{T0 + rows},100.5,1.5,{rows},true,MARKET\n")
    run_import(_mapping(TRADES), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").trades(ID)["price"][-1] == 100.5


BARS = """
[[table]]
kind = "bars"
files = ["bars.parquet"]
instrument = "BTCUSDT-PERP.TEST"
time = { event = "t", stamp = "STAMP", period = "1m" }
"""


@pytest.mark.parametrize(("stamp", "shift"), [("open", 60), ("close", 0)])
def test_bars_are_stored_at_their_close_and_contain_their_prices(root, tmp_path, stamp, shift):
    ts = np.array([0, 60, 120, 120, 240]) * SECOND + T0 * MS
    _parquet(
        root / "bars.parquet",
        t=pa.array(ts, pa.timestamp("ns", "UTC")),
        open=[10.0, 12.0, 11.0, 11.0, np.nan],
        high=[11.0, 11.5, 11.0, 11.0, 11.0],
        low=[9.0, 11.0, 11.0, 11.0, 11.0],
        close=[10.5, 11.0, 11.0, 11.0, 11.0],
        volume=[5.0, 6.0, 0.0, 0.0, 1.0],
    )
    summary = run_import(_mapping(BARS.replace("STAMP", stamp)), root, tmp_path / "c")
    bar_type = f"{ID}-1-MINUTE-LAST-EXTERNAL"
    table = Catalog(tmp_path / "c").bars(bar_type)
    assert table.ts.tolist() == (ts[:3] + shift * SECOND).tolist()
    assert table.column("high").tolist() == [11.0, 12.0, 11.0]
    assert dict(+summary.tally("bars", bar_type).notes) == {
        "equal to the row above: left out": 1,
        "with a value missing: left out": 1,
        "high or low widened to contain open and close": 1,
        "without volume: kept": 1,
    }


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
    _parquet(
        path, **{name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )


def _snapshot(path, t, last_id, bids, asks):
    rows = [("bid", p, q) for p, q in bids] + [("ask", p, q) for p, q in asks]
    side, price, size = map(list, zip(*rows, strict=True))
    n = len(rows)
    _parquet(path, t=[t] * n, id=[last_id] * n, side=side, price=price, size=size)


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
    summary = run_import(_mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == START
    notes = summary.tally("deltas", ID).notes
    assert notes["updates before a book to apply them to: left out"] == 1
    assert notes["levels set to the size they had: nothing to write"] == 2
    assert not summary.warnings


def test_an_update_cut_by_the_end_of_a_file_stays_whole(root, tmp_path):
    _diffs(root / "diffs-1.parquet", FIRST_UPDATES[:2])
    _diffs(root / "diffs-2.parquet", FIRST_UPDATES[2:])
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    run_import(_mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == START


LOST = [
    (T0 + 60, 130, 131, 125, "bid", 99.0, 1.0),  # 119 to 125 are missing
    (T0 + 70, 132, 133, 131, "bid", 98.0, 1.0),
]


def test_a_break_clears_the_book_and_no_deltas_follow(root, tmp_path):
    _diffs(root / "diffs.parquet", FIRST_UPDATES + LOST)
    _snapshot(root / "snapshot.parquet", T0 + 30, 110, *SNAPSHOT)
    summary = run_import(_mapping(DIFFS), root, tmp_path / "c")
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
    run_import(_mapping(DIFFS), root, tmp_path / "c")
    assert _events(tmp_path / "c") == [
        *START,
        (60, "CLEAR", 0.0, 0.0, LAST),
        (65, "CLEAR", 0.0, 0.0, 0),
        (65, "BID", 97.0, 1.0, 0),
        (65, "ASK", 103.0, 1.0, LAST),
        (70, "BID", 98.0, 1.0, LAST),
    ]


def test_the_contiguous_rule_of_spot(root, tmp_path):
    rows = [(t, first, last, 0, *rest) for t, first, last, _, *rest in FIRST_UPDATES]
    _diffs(root / "diffs.parquet", rows)
    _snapshot(root / "snapshot.parquet", T0 + 30, 105, *SNAPSHOT)  # 106 follows it
    summary = run_import(_mapping(DIFFS.replace('"previous"', '"contiguous"')), root, tmp_path / "c")
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
    assert run_import(_mapping(nothing), root, tmp_path / "c").added == 0


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
    _parquet(root / "books.parquet", **columns)
    summary = run_import(_mapping(SNAPSHOTS + (WIDE if shape == "wide" else LISTS)), root, tmp_path / "c")
    assert _events(tmp_path / "c") == BOOK_EVENTS
    assert dict(+summary.tally("deltas", ID).notes) == {
        "holes in time: book cleared and written anew": 1,
        "snapshots without a change: nothing to write": 1,
        "books locked (bid = ask): kept as recorded": 1,
    }
    assert "1 of 4 states (25.0%) are locked" in summary.warnings[0]


def test_symbols_funding_marks_and_series(root, tmp_path):
    eth = ID.replace("BTC", "ETH")
    second = INSTRUMENT.replace("BTC", "ETH")
    hour = 3_600_000
    _parquet(
        root / "f.parquet",
        s=["BTC", "ETH", "BTC", "DOGE"],
        t=[T0, T0, T0 + 8 * hour, T0],
        rate=[1e-4, 2e-4, None, 0.0],
        next=[T0 + 8 * hour, T0 - 1, T0, T0],
        oi=[5.0, None, 6.0, 1.0],
    )
    symbol = f'symbol = {{ columns = ["s"], map = {{ BTC = "{ID}", ETH = "{eth}" }}, others = "skip" }}'
    text = (
        second
        + f"""
[[table]]
kind = "funding"
files = ["f.parquet"]
{symbol}
time = {{ event = "t", unit = "ms" }}
rate = "rate"
interval = "8h"
NEXT

[[table]]
kind = "series"
files = ["f.parquet"]
{symbol}
time = {{ event = "t", unit = "ms", delay = "2s" }}
values = {{ open_interest = "oi" }}
"""
    )
    run_import(_mapping(text.replace("NEXT", "")), root, tmp_path / "settled")
    settled = Catalog(tmp_path / "settled")
    assert settled.funding(ID)[["rate", "next_funding_ns", "interval"]].tolist() == [
        (1e-4, T0 * MS, 8 * hour * MS)
    ]
    series = settled.series("open_interest", ID)
    assert series["value"].tolist() == [5.0, 6.0]
    assert (series["ts_init"] - series["ts_event"]).tolist() == [2 * SECOND] * 2

    summary = run_import(_mapping(text.replace("NEXT", 'next = "next"')), root, tmp_path / "foreseen")
    assert Catalog(tmp_path / "foreseen").funding(ID)["next_funding_ns"].tolist() == [(T0 + 8 * hour) * MS]
    assert summary.tally("funding", eth).notes["received after the settlement they foresee: left out"] == 1
    strict = text.replace("NEXT", "").replace('others = "skip"', 'others = "error"')
    with pytest.raises(MappingError, match=r"f\.parquet: row 3: s 'DOGE' is not in symbol\.map"):
        run_import(_mapping(strict), root, tmp_path / "strict")


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (pa.array([T0 / 1000]), "s"),
        (pa.array([T0 // 1000]), "s"),
        (pa.array([T0]), "ms"),
        (pa.array([T0 * 1000]), "us"),
        (pa.array([T0 * MS]), "ns"),
        (pa.array([T0], pa.timestamp("ms")), "timestamp"),
        (pa.array([T0 * MS], pa.timestamp("ns", "Europe/Zurich")), "timestamp"),
        (pa.array(["2023-11-14T22:13:20Z"]), "timestamp"),
        (pa.array(["2023-11-14 22:13:20"]), "timestamp"),
    ],
)
def test_every_unit_of_time(root, tmp_path, column, unit):
    _parquet(root / "m.parquet", t=column, v=[1.0])
    text = f"""
[[table]]
kind = "mark"
files = ["m.parquet"]
instrument = "{ID}"
time = {{ event = "t", unit = "{unit}" }}
value = "v"
"""
    run_import(_mapping(text), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").prices(ID, "mark")["ts_init"].tolist() == [T0 * MS]


def test_a_file_out_of_order_is_an_error_or_sorted(root, tmp_path):
    _parquet(root / "m.parquet", t=[T0 + 100_000, T0], v=[2.0, 1.0])
    text = f"""
[[table]]
kind = "mark"
files = ["m.parquet"]
instrument = "{ID}"
time = {{ event = "t", unit = "ms", sort = SORT }}
value = "v"
"""
    with pytest.raises(MappingError, match=r"m\.parquet: row 1 is stamped .* 100\.000 s before .*time\.sort"):
        run_import(_mapping(text.replace("SORT", "false")), root, tmp_path / "c")
    run_import(_mapping(text.replace("SORT", "true")), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").prices(ID, "mark")["value"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('price = "p"', 'price = "px"'), r"trades-1\.csv: no column 'px'; it has t, p, q"),
        (
            ('unit = "ms"', 'unit = "s"'),
            r"column 't', row 0: 1700000000000 is not a time in 's'",
        ),
        (('unit = "ms"', 'unit = "timestamp"'), r"'t' is int64, but its unit is given as 'timestamp'"),
        (('event = "t"', 'event = "type"'), r"'type' is string, but its unit"),
        (('size = "q"', 'size = "type"'), r"column 'type', row 0: 'MARKET' is not a number"),
        (
            ('"trades*.csv*"', '"/somewhere/trades.csv"'),
            r"write paths relative to the folder given with --root",
        ),
        (('"trades*.csv*"', '"nothing*"'), r"no file matches 'nothing\*' under .*--root"),
        (('type = "MARKET"', 'm = "MARKET"'), r"column 'm' is bool, which cannot equal"),
        (
            ('unit = "ms"', 'unit = "us"'),
            r"row 0: 1700000000000 read as 'us' is 1970-01-20.*correct the unit",
        ),
    ],
)
def test_errors_name_file_column_and_value(root, tmp_path, change, says):
    (root / "trades-1.csv").write_text(_csv(TRADE_ROWS))
    with pytest.raises(MappingError, match=says):
        run_import(_mapping(TRADES.replace(*change)), root, tmp_path / "c")


def test_a_mapping_file_lists_all_its_faults(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(
        INSTRUMENT + TRADES.replace('id = "id"', "pirce = 1").replace('unit = "ms"', 'unit = "weeks"')
    )
    with pytest.raises(BeaufortError) as error:
        load_settings(ImportMapping, path)
    assert "2 problems" in str(error.value)
    assert "table.0.pirce: unknown key; did you mean 'price'?" in str(error.value)
    assert "'weeks'" in str(error.value)
    path.write_text(TRADES)
    with pytest.raises(BeaufortError, match=r"BTCUSDT-PERP\.TEST"):
        load_settings(ImportMapping, path)
