"""The table importer on small files worked by hand."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.reader import Catalog
from core.errors import BeaufortError
from engine.config import load_settings
from tests.catalogs.small_tables import ID, INSTRUMENT, MS, SECOND, T0, mapping, parquet

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
    summary = run_import(mapping(TRADES), root, tmp_path / "c", lambda *step: steps.append(step))
    trades = Catalog(tmp_path / "c").trades(ID)
    assert [round(p, 1) for p in trades["price"]] == [100.1, 100.2, 100.2, 100.3, 100.4]
    assert trades["side"].tolist() == [-1, 1, 1, -1, -1]
    assert ((trades["ts_event"] // MS) - T0).tolist() == [0, 5, 5, 3, 10]
    assert ((trades["ts_init"] // MS) - T0).tolist() == [0, 5, 5, 5, 10]
    tally = summary.tally("trades", ID)
    assert (tally.read, tally.added, tally.present) == (7, 5, 0)
    assert dict(+tally.notes) == {
        "with the id of a row before: left out": 1,
        "stamped before the row above: ts_init raised": 1,
        "without a size: left out": 1,
        "prices rounded to 1 decimal places": 1,
    }
    assert any("1 rows were left out by `where`" in line for line in summary.warnings)
    assert steps[-1][1:] == (8, 8)

    again = run_import(mapping(TRADES), root, tmp_path / "c")
    assert (again.added, again.tally("trades", ID).present) == (0, 5)
    (root / "trades-3.csv").write_text(_csv([(T0 + 20, 100.5, 1.0, 8, "false", "MARKET")]))
    assert run_import(mapping(TRADES), root, tmp_path / "c").added == 1

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
    run_import(mapping(TRADES), root, tmp_path / "c")
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
    parquet(
        root / "bars.parquet",
        t=pa.array(ts, pa.timestamp("ns", "UTC")),
        open=[10.0, 12.0, 11.0, 11.0, np.nan],
        high=[11.0, 11.5, 11.0, 11.0, 11.0],
        low=[9.0, 11.0, 11.0, 11.0, 11.0],
        close=[10.5, 11.0, 11.0, 11.0, 11.0],
        volume=[5.0, 6.0, 0.0, 0.0, 1.0],
    )
    summary = run_import(mapping(BARS.replace("STAMP", stamp)), root, tmp_path / "c")
    bar_type = f"{ID}-1-MINUTE-LAST-EXTERNAL"
    table = Catalog(tmp_path / "c").bars(bar_type)
    assert table.ts.tolist() == (ts[:3] + shift * SECOND).tolist()
    assert table.column("high").tolist() == [11.0, 12.0, 11.0]
    assert dict(+summary.tally("bars", bar_type).notes) == {
        "equal to the row above: left out": 1,
        "with a value missing: left out": 1,
        "high or low widened to contain the open": 1,
        "without volume: kept": 1,
    }


def test_symbols_funding_marks_and_series(root, tmp_path):
    eth = ID.replace("BTC", "ETH")
    second = INSTRUMENT.replace("BTC", "ETH")
    hour = 3_600_000
    parquet(
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
    run_import(mapping(text.replace("NEXT", "")), root, tmp_path / "settled")
    settled = Catalog(tmp_path / "settled")
    assert settled.funding(ID)[["rate", "next_funding_ns", "interval"]].tolist() == [
        (1e-4, T0 * MS, 8 * hour * MS)
    ]
    series = settled.series("open_interest", ID)
    assert series["value"].tolist() == [5.0, 6.0]
    assert (series["ts_init"] - series["ts_event"]).tolist() == [2 * SECOND] * 2

    summary = run_import(mapping(text.replace("NEXT", 'next = "next"')), root, tmp_path / "foreseen")
    assert Catalog(tmp_path / "foreseen").funding(ID)["next_funding_ns"].tolist() == [(T0 + 8 * hour) * MS]
    assert summary.tally("funding", eth).notes["received after the settlement they foresee: left out"] == 1
    strict = text.replace("NEXT", "").replace('others = "skip"', 'others = "error"')
    with pytest.raises(MappingError, match=r"f\.parquet: row 3: s 'DOGE' is not in symbol\.map"):
        run_import(mapping(strict), root, tmp_path / "strict")


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
    parquet(root / "m.parquet", t=column, v=[1.0])
    text = f"""
[[table]]
kind = "mark"
files = ["m.parquet"]
instrument = "{ID}"
time = {{ event = "t", unit = "{unit}" }}
value = "v"
"""
    run_import(mapping(text), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").prices(ID, "mark")["ts_init"].tolist() == [T0 * MS]


def test_a_file_out_of_order_is_an_error_or_sorted(root, tmp_path):
    parquet(root / "m.parquet", t=[T0 + 100_000, T0], v=[2.0, 1.0])
    text = f"""
[[table]]
kind = "mark"
files = ["m.parquet"]
instrument = "{ID}"
time = {{ event = "t", unit = "ms", sort = SORT }}
value = "v"
"""
    with pytest.raises(MappingError, match=r"m\.parquet: row 1 is stamped .* 100\.000 s before .*time\.sort"):
        run_import(mapping(text.replace("SORT", "false")), root, tmp_path / "c")
    run_import(mapping(text.replace("SORT", "true")), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").prices(ID, "mark")["value"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('price = "p"', 'price = "px"'), r"trades-1\.csv: no column 'px'; it has t, p, q"),
        (
            ('unit = "ms"', 'unit = "s"'),
            r"column 't', row 0: 1700000000000 is not a time in 's'; it would be a time in 'ms'",
        ),
        (
            ('unit = "ms"', 'unit = "timestamp"'),
            r"'t', row 0: 1700000000000 is not a time in 'timestamp'; it would be a time in 'ms'",
        ),
        (('event = "t"', 'event = "type"'), r"'type', row 0: 'MARKET' is not a time in 'ms'"),
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
        run_import(mapping(TRADES.replace(*change)), root, tmp_path / "c")


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
