"""Tables as they come: damaged, empty at first, times written in two ways; errors name row and value."""

import gzip
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.reader import Catalog

T0 = 1_700_000_000_000  # ms
ID = "BTCUSDT-PERP.TEST"


def _import(root, file, unit="ms", sort=False):
    table = {
        "kind": "series",
        "files": [file],
        "instrument": ID,
        "time": {"event": "t", "unit": unit, "sort": sort},
        "values": {"oi": "v"},
    }
    return run_import(ImportMapping(instrument=[], table=[table]), root, root / "catalog")


def _read(root):
    return Catalog(root / "catalog").series("oi", ID)


@pytest.mark.parametrize(
    ("times", "unit", "says"),
    [
        (pa.array([T0, T0, 10**18]), "ms", "row 2: 1000000000000000000 is not a time in 'ms'"),
        (pa.array(["2023-11-14", "soon"]), "timestamp", "row 1: 'soon' is not a time in 'timestamp'"),
        (
            pa.array(["2023-11-14T00:00:00Z", "2023-11-14T00:00:01"]),
            "timestamp",
            "row 1: '2023-11-14T00:00:01' is not a time",
        ),
        (pa.array([str(T0), "soon", str(T0)]), "ms", "row 1: 'soon' is not a time in 'ms'"),
    ],
)
def test_a_bad_time_among_good_ones_is_named(tmp_path, times, unit, says):
    pq.write_table(pa.table({"t": times, "v": np.ones(len(times))}), tmp_path / "m.parquet")
    with pytest.raises(MappingError, match=rf"m\.parquet: column 't', {says}"):
        _import(tmp_path, "m.parquet", unit)


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ragged.csv", b"t,v\n1700000000000,1\n1700000000001\n"),
        ("empty.csv", b""),
        ("bad.csv.gz", b"this is no gzip"),
        ("truncated.csv.gz", gzip.compress(b"t,v\n" + b"1700000000000,1\n" * 100_000)[:200]),
        ("bad.parquet", b"this is no Parquet"),
        ("empty.parquet", b""),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, sort):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MappingError, match=rf"{name}: cannot be read: .*; mend it or fetch it again"):
        _import(tmp_path, name, sort=sort)


def test_a_parquet_file_with_a_damaged_page_is_named(tmp_path):
    pq.write_table(
        pa.table({"t": np.arange(T0, T0 + 1000), "v": np.random.default_rng(1).random(1000)}),
        tmp_path / "m.parquet",
    )
    content = bytearray((tmp_path / "m.parquet").read_bytes())
    content[4:1000] = bytes(996)
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(MappingError, match=r"m\.parquet: cannot be read"):
        _import(tmp_path, "m.parquet")


FILL = "x" * 1_000  # so that few rows are more than a reader guesses types from
ROWS = 20_000


def test_a_number_column_that_begins_empty(tmp_path):
    body = "".join(f"{T0 + i},,{FILL}\n" for i in range(ROWS))
    (tmp_path / "m.csv").write_text(f"t,v,fill\n{body}{T0 + ROWS},2.5,\n")
    _import(tmp_path, "m.csv")
    assert _read(tmp_path)["value"].tolist() == [2.5]


@pytest.mark.parametrize("zone", ["", "Z"])
def test_times_that_have_fractions_only_later(tmp_path, zone):
    times = np.datetime64(T0, "ms").astype("datetime64[s]") + np.arange(ROWS + 1).astype("timedelta64[s]")
    body = "".join(f"{time}{zone},1,{FILL}\n" for time in times[:-1])
    (tmp_path / "m.csv").write_text(f"t,v,fill\n{body}{times[-1]}.250{zone},2,\n")
    _import(tmp_path, "m.csv", "timestamp")
    assert _read(tmp_path)["ts_init"][[0, -1]].tolist() == [T0 * 10**6, (T0 + ROWS * 1_000 + 250) * 10**6]


@pytest.mark.parametrize("sort", [False, True])
def test_a_file_without_rows_is_said(tmp_path, sort):
    (tmp_path / "m.csv").write_text("t,v\n")
    summary = _import(tmp_path, "m.csv", sort=sort)
    assert summary.warnings == [f"series {ID}: no rows in {tmp_path / 'm.csv'}"]


def test_a_file_imported_again_is_said_not_to_replace_anything(tmp_path):
    (tmp_path / "m.csv").write_text(f"t,v\n{T0},1\n")
    assert not _import(tmp_path, "m.csv").warnings
    (tmp_path / "m.csv").write_text(f"t,v\n{T0},2\n")
    (line,) = _import(tmp_path, "m.csv").warnings
    assert line.startswith(
        f"series oi of {ID}: 1 rows were left out, because rows in stretches already covered"
    )
    place = tmp_path / "catalog" / "series" / "oi" / ID
    assert f"remove the folder {place} to import a corrected file" in line
    shutil.rmtree(place)
    _import(tmp_path, "m.csv")
    assert _read(tmp_path)["value"].tolist() == [2.0]
