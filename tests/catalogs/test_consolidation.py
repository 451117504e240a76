"""Neighbouring files become one: the same rows in the same order, and what is not near stays apart."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from nautilus_trader.persistence import ParquetDataCatalog

from catalogs import consolidation
from catalogs.consolidation import consolidate
from catalogs.instruments import PerpetualSettings
from catalogs.layout import file_range, folder
from catalogs.reader import Catalog
from catalogs.writer import CatalogWriter

ID = "BTCUSDT-PERP.BINANCE"
T0 = 1_700_000_000_000_000_000
SECOND = 10**9


@pytest.fixture
def perp():
    return PerpetualSettings(
        id=ID, base="BTC", quote="USDT", price_increment="0.1", size_increment="0.001", min_notional="5"
    ).build()


def _write(writer: CatalogWriter, perp, start: int, rows: int) -> None:
    ts = start + np.arange(rows) * SECOND
    price = 100 + np.arange(rows) % 7 * 0.1
    writer.trades(perp, ts - 5, ts, price, np.ones(rows), np.where(np.arange(rows) % 3, 1, -1))


def _files(path: Path) -> list[Path]:
    return sorted(folder(path, "trades", ID).glob("*.parquet"))


def _rows(path: Path) -> dict[str, list]:
    return pq.read_table(_files(path)).to_pydict()


def test_near_files_become_one_and_a_gap_stays_open(tmp_path, perp, monkeypatch):
    monkeypatch.setattr(consolidation, "ROW_GROUP", 64)
    writer = CatalogWriter(tmp_path)
    writer.instrument(perp)
    for start, rows in ((0, 100), (100, 1), (130, 70), (300, 50), (350, 10)):
        _write(writer, perp, T0 + start * SECOND, rows)
    before = _rows(tmp_path)
    writer.close()
    assert [file_range(path) for path in _files(tmp_path)] == [
        (T0, T0 + 199 * SECOND),
        (T0 + 300 * SECOND, T0 + 359 * SECOND),  # 101 s later: somebody may find what is missing
    ]
    assert _rows(tmp_path) == before
    groups = pq.read_metadata(_files(tmp_path)[0])
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [64, 64, 43]
    assert len(ParquetDataCatalog(str(tmp_path)).query_trade_ticks([ID])) == 231
    assert consolidate(folder(tmp_path, "trades", ID)) == 0
    with CatalogWriter(tmp_path) as again:
        _write(again, perp, T0 + 200 * SECOND, 100)  # what was missing
    assert [file_range(path) for path in _files(tmp_path)] == [(T0, T0 + 359 * SECOND)]
    assert (
        Catalog(tmp_path).trades(ID)["ts_init"].tolist()
        == (T0 + np.arange(360) * SECOND)[np.r_[0:101, 130:360]].tolist()
    )


def test_large_files_are_not_written_again(tmp_path, perp, monkeypatch):
    monkeypatch.setattr(consolidation, "_MOST_ROWS", 100)
    writer = CatalogWriter(tmp_path)
    for i in range(5):
        _write(writer, perp, T0 + 40 * i * SECOND, 40)
    writer.close()
    assert [pq.read_metadata(path).num_rows for path in _files(tmp_path)] == [80, 80, 40]


def test_files_that_say_other_things_of_their_rows_stay_apart(tmp_path, perp):
    finer = PerpetualSettings(
        id=ID, base="BTC", quote="USDT", price_increment="0.01", size_increment="0.001", min_notional="5"
    ).build()
    writer = CatalogWriter(tmp_path)
    _write(writer, perp, T0, 10)
    _write(writer, finer, T0 + 10 * SECOND, 10)
    writer.close()
    assert len(_files(tmp_path)) == 2


def test_parts_that_an_interruption_left_behind_are_removed(tmp_path, perp, monkeypatch):
    writer = CatalogWriter(tmp_path)
    for i in range(3):
        _write(writer, perp, T0 + 10 * i * SECOND, 10)
    before = _rows(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(consolidation, "remove_nested", lambda folder: 0)  # as if killed after the rename
        writer.close()
    assert len(_files(tmp_path)) == 4
    with pytest.raises(ValueError, match=r"holds the time of .* too, as an interrupted import leaves it"):
        Catalog(tmp_path).trades(ID)
    CatalogWriter(tmp_path).close()  # writes nothing
    assert len(_files(tmp_path)) == 1
    assert _rows(tmp_path) == before
    assert len(Catalog(tmp_path).trades(ID)) == 30


def test_every_kind_of_data_is_mended(tmp_path, perp):
    wide, part = T0 + np.arange(3), T0 + np.arange(1, 2)
    for ts, path in ((wide, tmp_path / "c"), (part, tmp_path / "part")):
        with CatalogWriter(path) as writer:
            writer.instrument(perp)
            one = np.ones(len(ts))
            writer.bars(perp, f"{ID}-1-MINUTE-LAST-EXTERNAL", ts, ts, one, one, one, one, one)
            writer.series("open_interest", ID, ts, ts, one)
            writer.quotes(perp, ts, ts, one, one, one, one)
    for source in (tmp_path / "part").glob("[ds]*/**/*.parquet"):
        if "crypto_perpetual" not in source.parts:
            shutil.copy(source, tmp_path / "c" / source.relative_to(tmp_path / "part"))
    files = [path.parent for path in (tmp_path / "c").rglob("*.parquet")]
    assert len(files) == 7
    CatalogWriter(tmp_path / "c").close()
    left = [path.parent for path in (tmp_path / "c").rglob("*.parquet")]
    assert sorted(left) == sorted(set(files))
