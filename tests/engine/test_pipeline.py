"""The research side: features in chunks, a catalog that ends earlier, what the kernel asks for."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_market
from small_market import END, MINUTE, SPLIT, START

import engine.pipeline
from catalogs.reader import Catalog, SeriesRef, Stream
from engine.config import RunConfig
from engine.errors import BeaufortError
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
    assert dataclasses.astuple(perp) == (PERP, "deltas", False, False, False, False)
    assert other.trades is False


def test_missing_data_is_named(catalog: Path, tmp_path: Path) -> None:
    config = small_market.config(catalog, tmp_path, "data.streams.perp.book=quotes", "features=['spread']")
    config = config.model_copy(update={"forecast": None})
    with pytest.raises(BeaufortError, match=r"no quotes of BTCUSDT-PERP\.SIM"):
        Market(config).features(START, SPLIT)


def test_the_fingerprint_sees_values_that_move_no_size(tmp_path: Path) -> None:
    catalogs = [small_market.make_minutes(tmp_path / name) for name in ("one", "same", "other")]
    changed = next((catalogs[2] / "data" / "bars").rglob("*.parquet"))
    content = bytearray(changed.read_bytes())
    content[1_000] ^= 1  # of a page: sizes and footer stay as they are
    changed.write_bytes(content)
    one, same, other = (
        Market(small_market.minutes_config(catalog, tmp_path)).fingerprint() for catalog in catalogs
    )
    assert one == same
    assert one != other


def test_the_fingerprint_sees_files_that_come_and_are_renamed(tmp_path: Path) -> None:
    catalog = small_market.make_minutes(tmp_path / "market")
    market = Market(small_market.minutes_config(catalog, tmp_path))
    seen = [market.fingerprint()]
    bars = next((catalog / "data" / "bars").rglob("*.parquet"))
    bars.rename(bars.with_name("renamed.parquet"))
    seen.append(market.fingerprint())
    added = catalog / "series" / "sentiment" / "a.parquet"
    added.parent.mkdir(parents=True)
    shutil.copy(bars.with_name("renamed.parquet"), added)
    seen.append(market.fingerprint())
    (catalog / "README.md").write_text("no data")
    assert len({*seen}) == 3
    assert market.fingerprint() == seen[-1]
