"""The research side: features in chunks, a catalog that ends earlier, what the kernel asks for."""

import dataclasses
import itertools
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_market
from small_market import END, MINUTE, SPLIT, START

import engine.pipeline
import engine.sessions.backtest
from catalogs.layout import file_name
from catalogs.reader import Catalog, SeriesRef, Stream
from catalogs.synthetic.writing import SynthSettings
from catalogs.writer import CatalogWriter
from core.errors import BeaufortError
from engine.config import RunConfig
from engine.pipeline import Market

PERP = "BTCUSDT-PERP.SIM"
FEEDS = Stream(PERP, "deltas", trades=True, mark=True, index=True, funding=True)


def test_features_do_not_depend_on_the_chunks(trained: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market(trained)
    whole = market.features(START, SPLIT)
    monkeypatch.setattr(engine.pipeline, "_CHUNK", 7 * 10**9 + 13)
    parts = market.features(START, SPLIT)
    np.testing.assert_array_equal(parts.table.ts, whole.table.ts)
    np.testing.assert_array_equal(parts.table.values, whole.table.values)
    np.testing.assert_array_equal(parts.quotes, whole.quotes)
    assert whole.table.ts.tolist() == list(range(START + 10**9, SPLIT + 1, 10**9))


def test_reading_starts_where_the_book_is_whole(trained: RunConfig) -> None:
    market = Market(trained)
    start = market.data_start(SPLIT)
    assert start <= SPLIT - trained.backtest.warmup
    assert start == Catalog(trained.data.catalog).last_snapshot(PERP, SPLIT - trained.backtest.warmup)


@pytest.mark.parametrize("seconds", [1, 61.5, 777.123456789, 1799])
def test_a_catalog_that_ends_earlier(catalog: Path, seconds: float) -> None:
    until = START + round(seconds * 1e9)
    series = [SeriesRef("open_interest", PERP)]
    whole, cut = Catalog(catalog), Catalog(catalog, until)
    everything = np.concatenate(list(whole.events([FEEDS], START, END, series=series)))
    known = np.concatenate(list(cut.events([FEEDS], START, END, series=series)))
    np.testing.assert_array_equal(known, everything[everything["ts"] < until])
    for data_type in ("trades", "deltas", "mark", "funding"):
        first, last, rows = cut.coverage(PERP, data_type)
        assert last < until or (first, rows) == (until, 0)
    trades = whole.trades(PERP)
    if (trades["ts_init"] < until).any():
        np.testing.assert_array_equal(cut.trades(PERP), trades[trades["ts_init"] < until])
    assert cut.last_snapshot(PERP, END) == whole.last_snapshot(PERP, until - 1)


def test_bars_of_a_catalog_that_ends_earlier(tmp_path: Path) -> None:
    catalog = small_market.make_minutes(tmp_path / "minutes")
    whole = Catalog(catalog).bars(small_market.MINUTES)
    cut = Catalog(catalog, START + 100 * MINUTE).bars(small_market.MINUTES)
    assert cut.ts.tolist() == whole.ts[whole.ts < START + 100 * MINUTE].tolist()


def test_only_feeds_that_some_feature_needs_are_read(catalog: Path, tmp_path: Path) -> None:
    spot = "data.streams.spot.instrument=BTCUSDT.SIM"
    config = small_market.config(
        catalog, tmp_path, spot, "features=['basis@spot']", "forecast.features=['log_return_5']"
    )
    perp, other = Market(config).streams
    assert dataclasses.astuple(perp) == (PERP, "deltas", False, True, False, False)  # the account is marked
    assert other.trades is False


def test_missing_data_is_named(catalog: Path, tmp_path: Path) -> None:
    config = small_market.config(catalog, tmp_path, "data.streams.perp.book=quotes", "features=['spread']")
    config = config.model_copy(update={"forecast": None})
    with pytest.raises(BeaufortError, match=r"no quotes of BTCUSDT-PERP\.SIM"):
        Market(config).features(START, SPLIT)


def _rewritten(catalog: Path, change: Callable[[pa.Table], pa.Table], parts: int = 1) -> None:
    """The bars of a catalog of minutes, changed and laid into so many files."""
    (path,) = (catalog / "data" / "bars").rglob("*.parquet")
    table = change(pq.read_table(path))
    path.unlink()
    edges = np.linspace(0, len(table), parts + 1).astype(int)
    for lo, hi in itertools.pairwise(edges):
        rows = table.slice(lo, hi - lo)
        first, last = (rows["ts_init"].cast(pa.int64())[i].as_py() for i in (0, -1))
        pq.write_table(rows, path.with_name(file_name(first, last)))


def _higher(row: int) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        closes = table["close"].to_pylist()
        closes[row] += Decimal("0.1")
        column = pa.array(closes, table["close"].type)
        return table.set_column(table.column_names.index("close"), table.schema.field("close"), column)

    return change


def test_the_fingerprint_is_of_what_is_read_and_of_nothing_else(tmp_path: Path) -> None:
    ends = [START + 100 * MINUTE, START + 200 * MINUTE]

    def fingerprints(catalog: Path, **changed: Any) -> list[str]:
        config = small_market.minutes_config(catalog, tmp_path).model_copy(update=changed)
        return Market(config).fingerprints(START, ends)

    whole = fingerprints(small_market.make_minutes(tmp_path / "one"))
    again = small_market.make_minutes(tmp_path / "elsewhere")
    assert fingerprints(again) == whole
    assert fingerprints(again, name="other") == whole
    # What else the catalog holds, and how the rows lie in files, is all the same.
    added = again / "series" / "sentiment" / "a"
    added.mkdir(parents=True)
    shutil.copy(next((again / "data" / "bars").rglob("*.parquet")), added)
    CatalogWriter(again).instrument(
        SynthSettings().instrument.model_copy(update={"id": "ETHUSDT-PERP.SIM"}).build()
    )
    _rewritten(again, lambda table: table, parts=3)
    assert fingerprints(again) == whole
    # A value that was read counts from then on, one that was not does not.
    for row, same in ((5, [False, False]), (150, [True, False]), (1_000, [True, True])):
        changed = small_market.make_minutes(tmp_path / f"row-{row}")
        _rewritten(changed, _higher(row))
        assert [a == b for a, b in zip(fingerprints(changed), whole, strict=True)] == same


def test_what_a_run_reads_and_trades_is_in_its_fingerprint(trained: RunConfig, tmp_path: Path) -> None:
    """The feeds that only the venue reads, and the instrument, as much as those of the features."""
    run = engine.sessions.backtest.data_fingerprint
    lean = small_market.settings_from(
        RunConfig, "", small_market.tree(trained.data.catalog, tmp_path), ["features=[]"]
    )
    copied = tmp_path / "copied"
    shutil.copytree(trained.data.catalog, copied)
    moved = lean.model_copy(update={"data": lean.data.model_copy(update={"catalog": copied})})
    assert run(Market(lean)) == run(Market(moved))
    shutil.rmtree(copied / "data" / "funding_rates")
    assert run(Market(lean)) != run(Market(moved))
