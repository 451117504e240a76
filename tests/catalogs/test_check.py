"""Every defect planted in a small catalog is found, and nothing in a clean one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from catalogs.checks.check import check_catalog
from catalogs.checks.detectors import Aggressors
from catalogs.instruments import PerpetualSettings, SpotSettings
from catalogs.writer import CatalogWriter

ID = "BTCUSDT-PERP.TEST"
T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
N = 3_000


@pytest.fixture(scope="module")
def perp():
    return PerpetualSettings(
        id=ID, base="BTC", quote="USDT", price_increment="0.1", size_increment="0.001"
    ).build()


@pytest.fixture
def clean(perp):
    """The arrays of a sound market: trades at random times, quotes, a one-level book, slow values."""
    rng = np.random.default_rng(5)
    ts = T0 + np.cumsum(rng.exponential(0.4 * SECOND, N)).astype(np.int64)
    mid = 50_000 + np.round(np.cumsum(rng.normal(0, 2, N)), 1)
    grid = T0 + np.arange(200) * 60 * SECOND
    market = {
        "trades": [ts, ts, mid, rng.uniform(0.01, 2, N), rng.choice([-1, 1], N), np.arange(N)],
        "quotes": [ts, ts, mid - 0.1, mid + 0.1, rng.uniform(0.1, 2, N), rng.uniform(0.1, 2, N)],
        "deltas": [
            np.repeat(ts, 4)[: 2 * N],
            np.repeat(ts, 4)[: 2 * N],
            np.tile([2, 2], N),
            np.tile([1, -1], N),
            np.tile([49_000.0, 51_000.0], N),
            rng.uniform(0.1, 2, 2 * N),
            np.tile([0, 128], N),
            np.arange(2 * N),
        ],
        "mark_prices": [grid, grid, 50_000 + rng.normal(0, 5, 200)],
        "bars": [
            f"{ID}-1-MINUTE-LAST-EXTERNAL",
            grid,
            grid,
            *_bars(rng),
        ],
        "series": ["open_interest", ID, grid, grid, rng.normal(size=200)],
    }
    return {
        name: [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
        for name, arrays in market.items()
    }


def _bars(rng):
    """Open, high, low, close and volume of 200 bars."""
    close = 50_000 + np.round(np.cumsum(rng.normal(0, 5, 200)), 1)
    opens = np.r_[50_000.0, close[:-1]]
    return opens, np.maximum(opens, close) + 1, np.minimum(opens, close) - 1, close, rng.uniform(1, 9, 200)


def _write(path, perp, market):
    writer = CatalogWriter(path)
    writer.instrument(perp)
    for method, arrays in market.items():
        if method == "series":
            writer.series(*arrays)
        else:
            getattr(writer, method)(perp, *arrays)
    return check_catalog(path)


def _found(report):
    return {(feed.data_type, finding.defect): finding for feed, finding in report.findings}


def test_nothing_is_found_in_a_clean_catalog(tmp_path, perp, clean):
    report = _write(tmp_path, perp, clean)
    assert _found(report) == {}
    assert {feed.data_type for feed in report.feeds} == {
        "trades",
        "quotes",
        "deltas",
        "mark",
        "bars",
        "series",
    }
    assert [feed.rows for feed in report.feeds if feed.data_type == "trades"] == [N]


def test_gaps(tmp_path, perp, clean):
    for name in ("trades", "quotes"):
        for times in clean[name][:2]:
            times[1_000:] += 30 * SECOND
    for name in ("mark_prices", "series"):
        keep = np.r_[0:50, 53:200]
        clean[name] = [a[keep] if isinstance(a, np.ndarray) else a for a in clean[name]]
    found = _found(_write(tmp_path, perp, clean))
    assert set(found) == {("trades", "gap"), ("quotes", "gap"), ("mark", "gap"), ("series", "gap")}
    gap = found["trades", "gap"]
    assert (gap.count, gap.first) == (1, int(clean["trades"][0][999]))
    assert "the longest 30" in gap.detail
    assert "3 rows missing, one each 1 min" in found["mark", "gap"].detail


def test_duplicates(tmp_path, perp, clean):
    rows = np.sort(np.r_[0:N, 10, 11, 500])
    for name in ("trades", "quotes"):
        clean[name] = [column[rows] for column in clean[name]]
    found = _found(_write(tmp_path, perp, clean))
    assert set(found) == {("trades", "same id"), ("quotes", "duplicate")}
    for item in found.values():
        assert (item.count, item.first, item.severity) == (3, int(clean["trades"][1][10]), "error")


def test_times_that_go_back(tmp_path, perp, clean):
    _write(tmp_path, perp, {"trades": clean["trades"]})
    path = next((tmp_path / "data/trades").rglob("*.parquet"))
    table = pq.read_table(path)
    rows = np.arange(N)
    rows[[700, 701]] = 701, 700
    pq.write_table(table.take(pa.array(rows)), path)  # the writer would refuse
    found = _found(check_catalog(tmp_path))
    assert set(found) == {("trades", "out of order")}
    assert found["trades", "out of order"].count == 1


def test_times_that_cannot_be(tmp_path, perp, clean):
    clean["trades"][0] = clean["trades"][0].copy()
    clean["trades"][0][7] += 3 * SECOND
    clean["trades"][0][[8, 9]] -= 90_000 * SECOND
    clean["series"][2] = clean["series"][2] - 90_000 * SECOND  # published a day later: nothing wrong
    found = _found(_write(tmp_path, perp, clean))
    assert set(found) == {("trades", "event after receipt"), ("trades", "stale event")}
    ahead, stale = found["trades", "event after receipt"], found["trades", "stale event"]
    assert (ahead.count, ahead.first) == (1, int(clean["trades"][1][7]))
    assert "by up to 3" in ahead.detail
    assert (stale.count, stale.first) == (2, int(clean["trades"][1][8]))
    assert ahead.advice
    assert stale.advice


def test_an_instrument_with_a_slash_in_its_id(tmp_path, clean):
    spot = SpotSettings(
        kind="spot",
        id="BTC/USDT.X",
        base="BTC",
        quote="USDT",
        price_increment="0.1",
        size_increment="0.001",
    ).build()
    report = _write(tmp_path, spot, {"deltas": clean["deltas"]})
    assert [(feed.identifier, feed.findings) for feed in report.feeds] == [("BTCUSDT.X", ())]


def test_crossed_and_locked_books(tmp_path, perp, clean):
    clean["quotes"][2][5] = clean["quotes"][3][5]
    clean["quotes"][2][7] = clean["quotes"][3][7] + 1
    prices = clean["deltas"][4]
    prices[100] = 51_000.0  # a bid at the ask: locked from here …
    prices[300] = 51_500.0  # … and a bid over it: crossed to the end
    found = _found(_write(tmp_path, perp, clean))
    assert set(found) == {
        (kind, f"{state} book") for kind in ("quotes", "deltas") for state in ("locked", "crossed")
    }
    assert found["quotes", "locked book"].count == found["quotes", "crossed book"].count == 1
    assert found["quotes", "crossed book"].first == int(clean["quotes"][0][7])
    assert found["deltas", "locked book"].count == 100
    assert found["deltas", "crossed book"].count == N - 150
    assert found["deltas", "crossed book"].first == int(clean["deltas"][0][300])


def test_a_lost_book(tmp_path, perp, clean):
    deltas = clean["deltas"]
    ts = deltas[1]
    for row in (
        301,
        2_999,
    ):  # the second of an update: the book is cleared, and nothing follows in the update
        deltas[2][row], deltas[3][row], deltas[4][row], deltas[5][row] = 4, 0, 0.0, 0.0
    ts[302:] += 7 * SECOND
    found = _found(_write(tmp_path, perp, {"deltas": deltas}))
    lost = found["deltas", "lost book"]
    assert (lost.count, lost.first) == (2, int(ts[301]))
    assert "2 times without a book" in lost.detail
    longest = str(np.datetime64(int(ts[301]), "ns").astype("datetime64[ms]")).replace("T", " ")
    assert f"from {longest} on" in lost.detail


def test_a_book_lost_for_good(tmp_path, perp, clean):
    deltas = [column[:400] for column in clean["deltas"]]
    deltas[2][-1], deltas[3][-1], deltas[4][-1], deltas[5][-1] = 4, 0, 0.0, 0.0
    lost = _found(_write(tmp_path, perp, {"deltas": deltas}))["deltas", "lost book"]
    assert (lost.count, lost.first) == (1, int(deltas[1][-1]))
    assert "to the end of the recording there is none" in lost.detail


def test_a_book_cleared_and_written_anew_at_once_is_not_lost(tmp_path, perp, clean):
    deltas = clean["deltas"]
    deltas[2][301], deltas[3][301], deltas[4][301], deltas[5][301] = 4, 0, 0.0, 0.0
    assert deltas[1][301] == deltas[1][302]
    assert ("deltas", "lost book") not in _found(_write(tmp_path, perp, {"deltas": deltas}))


def test_aggressors(tmp_path, perp, clean):
    clean["trades"][4][:] = -1
    found = _found(_write(tmp_path / "one", perp, clean))
    assert set(found) == {("trades", "one-sided trades")}
    assert "100.0% of 3,000 trades say SELL" in found["trades", "one-sided trades"].detail
    clean["trades"][4][:] = 0
    assert set(_found(_write(tmp_path / "none", perp, clean))) == {("trades", "unknown aggressor")}


@pytest.mark.parametrize(
    ("buys", "sells", "found"),
    [(99, 0, False), (100, 0, True), (0, 100, True), (198, 2, False), (199, 1, True), (1, 199, True)],
)
def test_trades_are_one_sided_from_a_hundred_on_with_more_than_99_in_100(buys, sells, found):
    check = Aggressors()
    sides = ["BUY"] * buys + ["SELL"] * sells + ["NO_AGGRESSOR"] * 50  # of which nothing is known
    for part in np.array_split(np.array(sides), 3):
        check.add(pa.table({"aggressor_side": pa.array(part).dictionary_encode()}), np.arange(len(part)))
    defects = {finding.defect for finding in check.findings(len(sides))}
    assert defects == {"unknown aggressor"} | ({"one-sided trades"} if found else set())


def test_off_market_prints(tmp_path, perp, clean):
    clean["trades"][2][[40, 2_000]] *= 1.02
    found = _found(_write(tmp_path, perp, clean))
    assert set(found) == {("trades", "off-market print")}
    assert found["trades", "off-market print"].count == 2
    assert found["trades", "off-market print"].first == int(clean["trades"][1][40])


def test_empty_values(tmp_path, perp, clean):
    clean["quotes"][4][3] = 0.0
    clean["deltas"][5][8] = 0.0
    found = _found(_write(tmp_path, perp, clean))
    assert set(found) == {("quotes", "empty value"), ("deltas", "empty value")}


def test_one_instrument_and_the_two_forms_of_the_report(tmp_path, perp, clean):
    clean["trades"][4][:] = 0
    _write(tmp_path, perp, clean)
    report = check_catalog(tmp_path, ID)
    assert len(report.feeds) == 6
    with pytest.raises(KeyError, match="no data of ETH"):
        check_catalog(tmp_path, "ETH.TEST")
    (trades,) = (
        feed for feed in json.loads(json.dumps(report.to_dict()))["feeds"] if feed["data_type"] == "trades"
    )
    assert trades["findings"][0]["defect"] == "unknown aggressor"
    assert "inferred" in trades["findings"][0]["advice"]
    console = Console(record=True, width=200)
    console.print(report)
    text = console.export_text()
    assert "2023-11-14 22:13:20" in text
    assert "3,000 of 3,000 trades have no aggressor" in text
