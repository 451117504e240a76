"""Files of a catalog that are damaged are named in a sentence, by every reader."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalogs.checks.check import check_catalog
from catalogs.instruments import PerpetualSettings
from catalogs.reader import Catalog
from catalogs.writer import CatalogWriter
from engine.cli import main

ID = "BTCUSDT-PERP.TEST"
T0 = 1_700_000_000_000_000_000
N = 2_000


@pytest.fixture
def catalog(tmp_path):
    perp = PerpetualSettings(
        id=ID, base="BTC", quote="USDT", price_increment="0.1", size_increment="0.001"
    ).build()
    rng = np.random.default_rng(1)
    ts = T0 + np.arange(N) * 10**9
    price = 50_000 + np.cumsum(rng.normal(size=N)).round(1)
    with CatalogWriter(tmp_path / "c") as writer:
        writer.instrument(perp)
        writer.trades(perp, ts, ts, price, rng.uniform(0.1, 2, N), rng.choice([-1, 1], N), np.arange(N))
        writer.mark_prices(perp, ts, ts, price)
    return tmp_path / "c"


def _file(catalog, kind="trades"):
    (path,) = (catalog / "data" / kind).rglob("*.parquet")
    return path


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def _rewrite(path, change):
    table = change(pq.read_table(path))
    pq.write_table(table, path)


def _without_price(table):
    return table.drop_columns(["price"])


def _floats(table):
    return table.set_column(0, "price", table["price"].cast(pa.float64()))


def _fewer_rows(table):
    return table.slice(1)


def _empty_cells(table):
    empty = pa.array([None] * len(table), table["price"].type)
    return table.set_column(0, pa.field("price", empty.type), empty)


def _precision(table):
    return table.replace_schema_metadata({**table.schema.metadata, b"price_precision": b"99"})


def _no_rows(table):
    return table.slice(0, 0)


DAMAGE = [
    (_flip, "CRC"),
    (lambda path: path.write_bytes(path.read_bytes()[:1_000]), "magic bytes not found"),
    (lambda path: path.write_bytes(b""), "Parquet file size is 0 bytes"),
    (lambda path: _rewrite(path, _without_price), "column 'price' is absent"),
    (lambda path: _rewrite(path, _floats), r"column 'price' is double, not decimal128\(38, 16\)"),
    (lambda path: _rewrite(path, _fewer_rows), "its rows are not of the time that its name says"),
    (lambda path: _rewrite(path, _empty_cells), "column 'price' has empty cells"),
    (lambda path: _rewrite(path, _precision), "price_precision is '99'"),
    (lambda path: _rewrite(path, _no_rows), "no statistics of ts_init"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGE, ids=[says for _, says in DAMAGE])
def test_a_damaged_file_is_named(catalog, damage, says):
    path = _file(catalog)
    damage(path)
    with pytest.raises(
        ValueError, match=rf"{path}: damaged: .*{says}.*; remove it and import its data again"
    ):
        Catalog(catalog).trades(ID)
    trades, mark = check_catalog(catalog).feeds  # the others are checked all the same
    assert [item.defect for item in trades.findings] == ["damaged file"]
    assert mark.findings == ()


def test_damaged_definitions_of_instruments_are_said(catalog):
    path = _file(catalog, "crypto_perpetual")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="the definitions of instruments are damaged"):
        Catalog(catalog).instruments()
    first, *_ = check_catalog(catalog).feeds
    assert (first.data_type, [item.defect for item in first.findings]) == ("instruments", ["damaged file"])


def test_the_check_of_a_damaged_catalog_exits_1_and_says_it_in_json(catalog, capsys):
    _flip(_file(catalog))
    assert main(["data", "check", str(catalog), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["feeds"][0]["findings"][0]["defect"] == "damaged file"
    assert report["feeds"][0]["findings"][0]["severity"] == "error"
