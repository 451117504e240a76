"""The real sets through their mappings: books are the exchange's, defects are met as documented."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nautilus_trader.model import BookType, InstrumentId, OrderBook
from nautilus_trader.persistence import ParquetDataCatalog

from catalogs.checks.check import check_catalog
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.reader import Catalog, Stream
from core.events import LAST, EventKind
from engine.config import load_settings

REPO = Path(__file__).parents[2]
DATA = (REPO / os.environ.get("BEAUFORT_REAL_DATA", "../shared/data")).resolve()
MAPPINGS = sorted((REPO / "configs/imports").glob("*.toml"))

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA} (BEAUFORT_REAL_DATA)")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Imports a mapping once, by name: (catalog path, summary)."""
    done = {}

    def get(name):
        if name not in done:
            path = tmp_path_factory.mktemp(name)
            done[name] = (
                path,
                run_import(load_settings(ImportMapping, REPO / f"configs/imports/{name}.toml"), DATA, path),
            )
        return done[name]

    return get


def _book_ticker(pattern):
    folder = DATA / "tick/binance_btc_eth_usdm_coinm_spot_2023_2024/parquet"
    table = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob(pattern))])
    names = ("bid_px", "bid_qty", "ask_px", "ask_qty")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return dict(zip(table["update_id"].to_pylist(), rows, strict=True))


WINDOWS = [
    ("binance-2024-07", "BTCUSDT-PERP.BINANCE", "usdm_btcusdt_202407*_bookticker.parquet", 600),
    ("binance-2024-07", "ETHUSDT-PERP.BINANCE", "usdm_ethusdt_202407*_bookticker.parquet", 800),
    ("binance-2023-04", "BTCUSDT-PERP.BINANCE", "usdm_btcusdt_202304*_bookticker.parquet", 300),
]


@needs_data
@pytest.mark.parametrize(("name", "identifier", "pattern", "at_least"), WINDOWS)
def test_rebuilt_best_bid_and_ask_equal_the_recorded_ones(imported, name, identifier, pattern, at_least):
    """At every update id that both feeds have, price and size, by a plain dictionary book."""
    ticker = _book_ticker(pattern)
    path, summary = imported(name)
    assert "breaks in the sequence: book cleared" not in +summary.tally("deltas", identifier).notes
    books = {"BUY": {}, "SELL": {}}
    compared = 0
    for table in Catalog(path).batches(identifier, "deltas"):
        columns = [table[c].to_pylist() for c in ("action", "side", "price", "size", "flags", "sequence")]
        for action, side, price, size, flags, sequence in zip(*columns, strict=True):
            if action == "CLEAR":
                books["BUY"].clear()
                books["SELL"].clear()
                continue
            assert (price in books[side]) == (action != "ADD")
            if action == "DELETE":
                del books[side][price]
            else:
                books[side][price] = size
            if flags & 128 and sequence in ticker:
                bid, ask = max(books["BUY"]), min(books["SELL"])
                ours = (bid, books["BUY"][bid], ask, books["SELL"][ask])
                assert tuple(map(float, ours)) == ticker[sequence]
                compared += 1
    assert compared >= at_least


@needs_data
@pytest.mark.parametrize(("name", "identifier", "pattern", "at_least"), WINDOWS[:1])
def test_the_order_book_of_nautilus_agrees_too(imported, name, identifier, pattern, at_least):
    ticker = _book_ticker(pattern)
    path, _ = imported(name)
    book = OrderBook(InstrumentId.from_str(identifier), BookType.L2_MBP)
    compared = 0
    for delta in ParquetDataCatalog(str(path)).query_order_book_deltas([identifier]):
        book.apply_delta(delta)
        if delta.flags & 128 and delta.sequence in ticker:
            ours = (book.best_bid_price(), book.best_bid_size(), book.best_ask_price(), book.best_ask_size())
            assert tuple(float(value.as_decimal()) for value in ours) == ticker[delta.sequence]
            compared += 1
    assert compared >= at_least


@needs_data
def test_the_funding_settlement_inside_the_2023_window(imported):
    path, summary = imported("binance-2023-04")
    funding = Catalog(path).funding("BTCUSDT-PERP.BINANCE")
    assert (funding["next_funding_ns"] >= funding["ts_init"]).all()
    assert len(np.unique(funding["next_funding_ns"])) == 2
    assert (
        summary.tally("funding", "BTCUSDT-PERP.BINANCE").notes[
            "received after the settlement they foresee: left out"
        ]
        == 1
    )


@needs_data
def test_standx_books_are_the_recorded_snapshots(imported):
    """Every hundredth snapshot of a file equals the book replayed from events; the defects are counted."""
    path, summary = imported("standx")
    identifier = "BTCUSD-PERP.STANDX"
    deltas, trades = summary.tally("deltas", identifier), summary.tally("trades", identifier)
    assert deltas.read == 528_904
    assert deltas.notes["books locked (bid = ask): kept as recorded"] / deltas.read == pytest.approx(
        0.464, abs=0.002
    )
    assert trades.added == 306_657
    assert any("NO_AGGRESSOR" in line for line in summary.warnings)

    source = pq.read_table(DATA / "tick/standx_btcusd_perp_2026-01-05_08/book20_2026-01-05.parquet")
    received = source["ts_received"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
    assert (np.diff(received) > 0).all()
    wanted = {int(ts): row for row, ts in enumerate(received) if row % 100 == 0}
    books, compared = ({}, {}), 0
    (events,) = Catalog(path).events(
        [Stream(identifier, trades=False)], int(received[0]), int(received[-1]) + 1, chunk=10**15
    )
    times = events["ts"].tolist()
    for i, (ts, kind, price, size) in enumerate(
        zip(times, *(events[c].tolist() for c in ("kind", "price", "size")), strict=True)
    ):
        if kind == EventKind.CLEAR:
            books[0].clear()
            books[1].clear()
        elif size == 0:
            del books[kind - EventKind.BID][price]
        else:
            books[kind - EventKind.BID][price] = size
        if ts in wanted and (i + 1 == len(times) or times[i + 1] > ts):
            assert events["flags"][i] == LAST
            row = source.slice(wanted[ts], 1).to_pylist()[0]
            for book, side in zip(books, ("bid", "ask"), strict=True):
                levels = {round(p, 1): round(s, 4) for p, s in book.items()}
                assert levels == {
                    row[f"{side}_px_{k:02}"] / 10: row[f"{side}_sz_{k:02}"] / 10_000 for k in range(20)
                }
            compared += 1
    assert compared > 80


@needs_data
def test_the_check_finds_what_is_known_of_standx(imported, tmp_path):
    """Locked books and stalls in the catalog; and the recorder's one-sided trades, were they believed."""
    path, _ = imported("standx")
    found = {(feed.data_type, finding.defect): finding for feed, finding in check_catalog(path).findings}
    assert set(found) == {
        ("trades", "gap"),
        ("trades", "unknown aggressor"),
        ("deltas", "gap"),
        ("deltas", "locked book"),
    }
    assert found["deltas", "locked book"].count / 496_589 == pytest.approx(0.46, abs=0.01)
    assert found["deltas", "gap"].count > 1_500

    mapping = load_settings(ImportMapping, REPO / "configs/imports/standx.toml")
    trades = mapping.table[1].model_dump(mode="json", exclude_none=True)
    trades["aggressor"] = {"kind": "side", "column": "side_raw", "buy": ["BUY"], "sell": ["SELL"]}
    believed = ImportMapping.model_validate(
        {"instrument": mapping.model_dump(mode="json", exclude_none=True)["instrument"], "table": [trades]}
    )
    run_import(believed, DATA, tmp_path)
    assert "one-sided trades" in {finding.defect for _, finding in check_catalog(tmp_path).findings}


@needs_data
def test_the_check_finds_the_insurance_fund_trade_of_2023(tmp_path):
    mapping = load_settings(ImportMapping, REPO / "configs/imports/binance-2023-04.toml")
    trades = mapping.table[1].model_dump(mode="json", exclude_none=True) | {"where": {}}
    everything = ImportMapping.model_validate(
        {"instrument": mapping.model_dump(mode="json", exclude_none=True)["instrument"], "table": [trades]}
    )
    run_import(everything, DATA, tmp_path)
    (print_,) = (f for _, f in check_catalog(tmp_path).findings if f.defect == "off-market print")
    assert print_.count == 1


@needs_data
@pytest.mark.parametrize("path", MAPPINGS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_every_mapping_imports_and_a_second_run_adds_nothing(path, tmp_path):
    mapping = load_settings(ImportMapping, path)
    first = run_import(mapping, DATA, tmp_path)
    files = {
        file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet") if "/crypto_" not in str(file)
    }
    again = run_import(mapping, DATA, tmp_path)
    assert first.added > 0
    assert all(item.present == 0 for item in first.tallies)
    assert again.added == 0
    assert [item.present for item in again.tallies] == [item.added for item in first.tallies]
    assert set(files) == {file for file in tmp_path.rglob("*.parquet") if "/crypto_" not in str(file)}
