"""Defects of prices and settlements planted in a sound catalog: each is found, with its count and place."""

import numpy as np
import pytest

from catalogs.checks.check import check_catalog
from catalogs.instruments import PerpetualSettings
from catalogs.synthetic.settings import SynthSettings
from catalogs.synthetic.writing import synthesize
from catalogs.writer import CatalogWriter

ID = "BTCUSDT-PERP.TEST"
BARS = f"{ID}-1-MINUTE-LAST-EXTERNAL"
T0 = 1_700_000_040_000_000_000
SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3_600 * 10**9
N = 2_000


@pytest.fixture(scope="module")
def perp():
    return PerpetualSettings(
        id=ID, base="BTC", quote="USDT", price_increment="0.01", size_increment="0.001"
    ).build()


@pytest.fixture
def market():
    """Trades, quotes, a book of one level, marks and bars of one walk of the price."""
    rng = np.random.default_rng(3)
    ts = T0 + np.sort(rng.integers(0, 200 * MINUTE, N))
    price = (50_000 * np.exp(np.cumsum(rng.normal(0, 2e-4, N)))).round(2)
    grid = T0 + np.arange(1, 200) * MINUTE
    at = np.searchsorted(ts, grid) - 1
    close = price[at]
    opens = np.r_[close[0], close[:-1]]
    sides = np.column_stack((price - 0.01, price + 0.01))
    book = np.empty((N, 4)), np.zeros((N, 4)), np.empty((N, 4))
    book[0][:] = [3, 3, 1, 1]  # the levels before go, new ones come
    book[1][:, 2:] = rng.uniform(0.1, 2, (N, 2))
    book[2][1:, :2], book[2][:, 2:] = sides[:-1], sides
    book[2][0, :2] = sides[0]
    times = np.repeat(ts, 4)
    return {
        "trades": [ts, ts, price, rng.lognormal(0, 1, N), rng.choice([-1, 1], N), np.arange(N)],
        "quotes": [ts, ts, price - 0.01, price + 0.01, rng.uniform(0.1, 2, N), rng.uniform(0.1, 2, N)],
        "deltas": [
            times,
            times,
            book[0].ravel(),
            np.tile([1, -1, 1, -1], N),
            book[2].ravel(),
            book[1].ravel(),
            np.tile([0, 0, 0, 128], N),
            np.arange(4 * N),
        ],
        "bars": [
            BARS,
            grid,
            grid,
            opens,
            np.maximum(opens, close),
            np.minimum(opens, close),
            close,
            rng.lognormal(0, 1, len(at)),
        ],
        "mark_prices": [grid, grid, close],
        "index_prices": [grid, grid, close * 1.001],
    }


def _found(path, perp, market):
    with CatalogWriter(path) as writer:
        writer.instrument(perp)
        for method, arrays in market.items():
            getattr(writer, method)(perp, *arrays)
    report = check_catalog(path)
    return {(feed.data_type, item.defect): item for feed, item in report.findings}


def test_nothing_is_found_in_a_sound_market(tmp_path, perp, market):
    assert _found(tmp_path, perp, market) == {}


def test_nothing_is_found_in_the_synthetic_market(tmp_path):
    synthesize(SynthSettings(duration="2h"), tmp_path / "s")
    report = check_catalog(tmp_path / "s")
    assert len(report.feeds) > 4
    assert report.findings == []


PRICES = {
    "trades": [2],
    "quotes": [2, 3],
    "deltas": [4],
    "bars": [3, 4, 5, 6],
    "mark_prices": [2],
    "index_prices": [2],
}
KINDS = {"mark_prices": "mark", "index_prices": "index"}


@pytest.mark.parametrize("factor", [10.0, 0.1, 1.08])
@pytest.mark.parametrize("method", [name for name in PRICES if name != "trades"])
def test_a_feed_of_another_scale_than_the_trades(tmp_path, perp, market, method, factor):
    for column in PRICES[method]:
        market[method][column] = market[method][column] * factor
    found = _found(tmp_path, perp, market)
    assert {what for _, what in found} - {"locked book"} == {"prices disagree"}  # a tenth of a tick is none
    item = found[KINDS.get(method, method), "prices disagree"]
    assert f"{factor:g}" in item.detail.split("one is ")[1][:6]
    assert "compared with the trades" in item.detail


@pytest.mark.parametrize("method", [name for name in PRICES if name != "deltas"])
def test_a_level_that_shifts(tmp_path, perp, market, method):
    """As a contract that is renamed to a thousand of itself."""
    arrays = market[method]
    half = len(arrays[1 if method != "bars" else 2]) // 2
    for column in PRICES[method]:
        arrays[column] = arrays[column].copy()
        arrays[column][half:] *= 1_000
    if method == "bars":
        arrays[3][half] = arrays[5][half] = arrays[6][half]  # so that no bar spans both levels
        arrays[4][half] = arrays[6][half]
    found = _found(tmp_path, perp, {method: arrays})
    item = found[KINDS.get(method, method), "level shift"]
    assert set(found) == {(KINDS.get(method, method), "level shift")}
    assert (item.count, item.first) == (1, int(arrays[1 if method != "bars" else 2][half]))
    assert "up by a factor of 1,00" in item.detail or "up by a factor of 999" in item.detail


def test_a_market_that_halves_in_an_hour_is_no_shift(tmp_path, perp, market):
    fall = np.exp(-np.clip(np.arange(N) / 500, 0, 0.7))
    market["trades"][2] = market["trades"][2] * fall
    assert _found(tmp_path, perp, {"trades": market["trades"]}) == {}


def test_a_market_that_moved_while_nobody_recorded_is_no_shift(tmp_path, perp, market):
    for column in (0, 1):
        market["trades"][column] = market["trades"][column].copy()
        market["trades"][column][1_000:] += 90 * 24 * HOUR
    market["trades"][2][1_000:] *= 1.8
    found = _found(tmp_path, perp, {"trades": market["trades"]})
    assert ("trades", "level shift") not in found


def test_price_and_size_swapped(tmp_path, perp, market):
    trades, bars = market["trades"], market["bars"]
    trades[2], trades[3] = trades[3], trades[2]
    found = _found(tmp_path / "trades", perp, {"trades": trades})
    assert found["trades", "wild prices"].count == N
    bars[6], bars[7] = bars[7], bars[6]
    bars[4], bars[5] = np.maximum(bars[4], bars[6]), np.minimum(bars[5], bars[6])
    assert ("bars", "wild prices") in _found(tmp_path / "bars", perp, {"bars": bars})


@pytest.mark.parametrize("volume", [0.0, 3.0])
def test_bars_that_stand_still(tmp_path, perp, market, volume):
    bars = market["bars"]
    for column in range(3, 7):
        bars[column][80:141] = bars[6][79]
    bars[7][80:141] = volume
    found = _found(tmp_path, perp, {"bars": bars})
    item = found["bars", "frozen price"]
    assert set(found) == {("bars", "frozen price")}
    still = 61 - (volume > 0)  # the first of equal rows is not yet one that stands still
    assert (item.count, item.severity) == (still, "warning")
    assert item.first == int(bars[2][141 - still]) - MINUTE
    assert ("1.02 h" if still == 61 else "1 h") in item.detail


def test_a_flat_price_with_trades_is_no_standstill(tmp_path, perp, market):
    """As of a stable coin."""
    bars = market["bars"]
    for column in range(3, 7):
        bars[column][:] = 1.0
    assert _found(tmp_path, perp, {"bars": bars}) == {}


def test_quotes_and_marks_of_a_feed_that_hangs(tmp_path, perp, market):
    quotes = market["quotes"]
    for column in range(2, 6):
        quotes[column][500:800] = quotes[column][499]
    ts = T0 + np.arange(N) * SECOND
    mark = 50_000 + np.arange(N) * 0.01
    mark[100:900] = mark[99]
    found = _found(tmp_path, perp, {"quotes": quotes, "mark_prices": [ts, ts, mark]})
    assert found["quotes", "frozen price"].count == 300
    assert found["mark", "frozen price"].count == 800
    assert found["mark", "frozen price"].first == int(ts[100])


@pytest.mark.parametrize(("step", "wrong"), [(5 * MINUTE, 198), (30 * SECOND, 198), (MINUTE, 0)])
def test_bars_of_another_length_than_they_are_named(tmp_path, perp, market, step, wrong):
    bars = market["bars"]
    bars[1] = bars[2] = T0 + np.arange(199) * step
    found = _found(tmp_path, perp, {"bars": bars})
    assert {what for _, what in found} == ({"other length"} if wrong else set())
    if wrong:
        assert found["bars", "other length"].count == wrong


def test_one_bar_off_the_grid(tmp_path, perp, market):
    bars = market["bars"]
    bars[1] = bars[2] = bars[2].copy()
    bars[2][50] += 20 * SECOND
    found = _found(tmp_path, perp, {"bars": bars})
    assert found["bars", "other length"].count == 2


def test_missing_bars_are_counted_by_their_length(tmp_path, perp, market):
    """However many: even where most are missing."""
    keep = np.sort(np.random.default_rng(1).permutation(np.arange(1, 198))[:60])
    bars = [market["bars"][0], *(column[keep] for column in market["bars"][1:])]
    found = _found(tmp_path, perp, {"bars": bars})
    missing = keep[-1] - keep[0] + 1 - len(keep)
    assert f"({missing:,} rows missing, one each 1 min)" in found["bars", "gap"].detail


@pytest.mark.parametrize("seed", range(12))
def test_settlements_that_are_missing_are_counted_by_the_interval_at_their_time(tmp_path, perp, seed):
    """A venue goes from one interval to another; rows are lost within the stretches, not at their edges."""
    rng = np.random.default_rng(seed)
    hours, at, inner = [], 0, []
    for interval in rng.permutation([8, 4, 1, 2]):
        rows = int(rng.integers(12, 30))
        inner += [*range(len(hours) + 4, len(hours) + rows - 4)]
        hours += [at + interval * i for i in range(rows)]
        at = hours[-1] + interval
    lost = rng.choice(inner, size=int(rng.integers(0, 4)), replace=False)
    hours = np.delete(np.array(hours), lost)
    ts = T0 + hours * HOUR + rng.integers(0, 20, len(hours)) * 10**6
    found = _found(tmp_path, perp, {"funding_rates": [ts, ts, np.full(len(ts), 1e-4), ts, 8 * HOUR]})
    assert set(found) == ({("funding", "gap")} if len(lost) else set())
    if len(lost):
        assert f"({len(lost)} rows missing" in found["funding", "gap"].detail


def test_foreseen_rates_of_every_second_have_no_gap_between_settlements(tmp_path, perp):
    ts = T0 + np.arange(40_000) * 3 * SECOND
    following = (ts // (8 * HOUR) + 1) * 8 * HOUR
    assert (
        _found(tmp_path, perp, {"funding_rates": [ts, ts, np.full(len(ts), 1e-4), following, 8 * HOUR]}) == {}
    )


@pytest.mark.parametrize(("rate", "count"), [(0.0001, 0), (0.02, 0), (0.5, 1)])
def test_rates_beyond_what_a_venue_asks(tmp_path, perp, rate, count):
    ts = T0 + np.arange(50) * 8 * HOUR
    rates = np.full(50, 1e-4)
    rates[7] = rate
    found = _found(tmp_path, perp, {"funding_rates": [ts, ts, rates, ts, 8 * HOUR]})
    assert [item.count for item in found.values()] == [count] * (count > 0)


def test_rates_in_percent(tmp_path, perp):
    ts = T0 + np.arange(50) * 8 * HOUR
    found = _found(tmp_path, perp, {"funding_rates": [ts, ts, np.full(50, 0.01), ts, 8 * HOUR]})
    assert found["funding", "funding rate"].count == 50


def test_every_finding_of_json_has_severity_count_place_and_advice(tmp_path, perp, market):
    market["mark_prices"][2] = market["mark_prices"][2] * 10
    _found(tmp_path, perp, market)
    report = check_catalog(tmp_path).to_dict()
    assert (report["catalog"], report["findings"]) == (str(tmp_path), 1)
    (feed,) = [feed for feed in report["feeds"] if feed["findings"]]
    assert {name: feed[name] for name in ("identifier", "data_type", "rows")} == {
        "identifier": ID,
        "data_type": "mark",
        "rows": 199,
    }
    (item,) = feed["findings"]
    assert set(item) == {"defect", "severity", "count", "first", "detail", "advice"}
    assert (item["severity"], item["count"], item["first"]) == (
        "error",
        199,
        int(market["mark_prices"][1][0]),
    )
