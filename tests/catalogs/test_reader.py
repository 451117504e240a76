"""Merged events from a catalog, against a naive merge of what was written."""

import numpy as np
import pytest

from catalogs.instruments import PerpetualSettings
from catalogs.layout import to_decimal, to_float
from catalogs.reader import Catalog, SeriesRef, Stream
from catalogs.writer import CatalogWriter
from core.events import EVENT, LAST, EventKind, sort_events

A, B = "AAAUSDT-PERP.TEST", "BBBUSDT-PERP.TEST"
T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def _perp(identifier):
    return PerpetualSettings(
        id=identifier, base="BTC", quote="USDT", price_increment="0.01", size_increment="0.001"
    ).build()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A catalog of two instruments with many equal times, and the events it should give."""
    root = tmp_path_factory.mktemp("catalog")
    writer = CatalogWriter(root)
    rng = np.random.default_rng(11)
    expected = []

    def times(n):
        return T0 + np.sort(rng.integers(0, 600, n)) * (
            SECOND // 10
        )  # 60 s in steps of 0.1 s: ties everywhere

    def keep(ts, kind, stream, price, size=0.0, flags=0):
        rows = np.zeros(len(ts), dtype=EVENT)
        rows["ts"], rows["kind"], rows["stream"], rows["flags"] = ts, kind, stream, flags
        rows["price"], rows["size"] = price, size
        expected.extend(rows.tolist())

    def prices(n, precision=2):
        return to_float(to_decimal(rng.uniform(10, 90_000, n), precision, "value"))

    for stream, identifier in enumerate((A, B)):
        perp = _perp(identifier)
        writer.instrument(perp)
        n = 900
        ts, price, size, side = times(n), prices(n), prices(n, 3), rng.integers(-1, 2, n)
        cut = int(np.searchsorted(ts, T0 + 20 * SECOND))
        for part in (slice(0, cut), slice(cut, None)):  # two files
            writer.trades(perp, ts[part] - 1, ts[part], price[part], size[part], side[part])
        kinds = {1: EventKind.TRADE_BUY, -1: EventKind.TRADE_SELL, 0: EventKind.TRADE}
        keep(ts, [kinds[s] for s in side], stream, price, size)

        ts, price, size = times(n), prices(n), prices(n, 3)
        action, side = rng.integers(1, 4, n), rng.choice([-1, 1], n)
        action[::100], side[::100] = 4, 0
        flags = np.where(rng.random(n) < 0.3, 128, 0) | np.where(rng.random(n) < 0.5, 32, 0)
        writer.deltas(perp, ts, ts, action, side, price, size, flags, np.arange(n))
        clear = action == 4
        kind = np.where(clear, EventKind.CLEAR, np.where(side > 0, EventKind.BID, EventKind.ASK))
        gone = clear | (action == 3)
        keep(
            ts,
            kind,
            stream,
            np.where(clear, 0, price),
            np.where(gone, 0, size),
            np.where(flags & 128, LAST, 0),
        )

        ts, mark = times(60), prices(60)
        writer.mark_prices(perp, ts, ts, mark)
        keep(ts, EventKind.MARK, stream, mark)
        writer.index_prices(perp, ts, ts, mark)
        keep(ts, EventKind.INDEX, stream, mark)
        writer.funding_rates(
            perp, ts[:3], ts[:3], np.array([1e-4, -1.2345e-7, 0.0]), ts[:3] + 1, 8 * 3600 * SECOND
        )
        keep(ts[:3], EventKind.FUNDING, stream, [1e-4, -1.2345e-7, 0.0])
    ts, value = times(50), rng.normal(size=50)
    writer.series("open_interest", A, ts - 5, ts, value)
    keep(ts, EventKind.SERIES, 0, value)
    return root, np.array(expected, dtype=EVENT)


STREAMS = [Stream(name, "deltas", mark=True, index=True, funding=True) for name in (A, B)]
SERIES = [SeriesRef("open_interest", A)]


@pytest.mark.parametrize("chunk", [SECOND // 10, 7 * SECOND, 600 * SECOND])
def test_events_are_the_canonical_merge_whatever_the_chunk(written, chunk):
    root, expected = written
    start, end = T0 + 3 * SECOND, T0 + 55 * SECOND
    parts = list(Catalog(root).events(STREAMS, start, end, chunk, SERIES))
    assert len(parts) == -(-(end - start) // chunk)
    for i, part in enumerate(parts):
        assert ((part["ts"] >= start + i * chunk) & (part["ts"] < min(start + (i + 1) * chunk, end))).all()
    span = expected[(expected["ts"] >= start) & (expected["ts"] < end)]
    assert np.array_equal(np.concatenate(parts), sort_events(span))


def test_the_last_snapshot_is_where_the_whole_book_is_told(written):
    root, expected = written
    clears = expected[(expected["kind"] == EventKind.CLEAR) & (expected["stream"] == 0)]["ts"]
    catalog = Catalog(root)
    for before in (T0 + 20 * SECOND, int(clears[3]), int(clears[3]) - 1):
        assert catalog.last_snapshot(A, before) == clears[clears <= before].max()


def test_quotes_become_two_records_the_second_completes_the_book(tmp_path):
    perp = _perp(A)
    ts = np.array([T0, T0])
    CatalogWriter(tmp_path).quotes(
        perp, ts, ts, np.array([1.0, 1.5]), np.array([2.0, 2.5]), np.array([3.0, 3.5]), np.array([4.0, 4.5])
    )
    (events,) = Catalog(tmp_path).events([Stream(A, "quotes", trades=False)], T0, T0 + 1)
    assert events[["kind", "flags", "price", "size"]].tolist() == [
        (EventKind.QUOTE_BID, 0, 1.0, 3.0),
        (EventKind.QUOTE_ASK, LAST, 2.0, 4.0),
        (EventKind.QUOTE_BID, 0, 1.5, 3.5),
        (EventKind.QUOTE_ASK, LAST, 2.5, 4.5),
    ]


def test_coverage_comes_from_metadata(written):
    root, expected = written
    catalog = Catalog(root)
    trades = expected[(expected["kind"] >= EventKind.TRADE_BUY) & (expected["stream"] == 0)]
    assert catalog.coverage(A, "trades") == (trades["ts"].min(), trades["ts"].max(), 900)
    assert catalog.coverage(SERIES[0].identifier, "series")[2] == 50
    assert catalog.identifiers("series") == [f"open_interest/{A}"]


def test_plain_arrays(written):
    root, expected = written
    catalog = Catalog(root)
    trades = catalog.trades(B, T0 + 10 * SECOND, T0 + 30 * SECOND)
    rows = expected[(expected["kind"] >= EventKind.TRADE_BUY) & (expected["stream"] == 1)]
    rows = rows[(rows["ts"] >= T0 + 10 * SECOND) & (rows["ts"] < T0 + 30 * SECOND)]
    assert trades["price"].tolist() == rows["price"].tolist()
    assert trades["ts_event"].tolist() == (rows["ts"] - 1).tolist()
    signs = {EventKind.TRADE_BUY: 1, EventKind.TRADE_SELL: -1, EventKind.TRADE: 0}
    assert trades["side"].tolist() == [signs[kind] for kind in rows["kind"]]
    funding = catalog.funding(A)
    assert funding["rate"].tolist() == [1e-4, -1.2345e-7, 0.0]
    assert set(funding["interval"].tolist()) == {8 * 3600 * SECOND}
    assert (funding["next_funding_ns"] == funding["ts_event"] + 1).all()
    assert len(catalog.series("open_interest", A)) == 50


def test_bars_are_a_table_by_close(tmp_path):
    bar_type = f"{A}-1-MINUTE-LAST-EXTERNAL"
    ts = T0 + np.arange(5) * 60 * SECOND
    base = np.arange(5) + 10.0
    CatalogWriter(tmp_path).bars(_perp(A), bar_type, ts, ts, base, base + 1, base - 1, base + 0.5, base)
    table = Catalog(tmp_path).bars(bar_type, int(ts[1]), int(ts[4]))
    assert table.names == ("open", "high", "low", "close", "volume")
    assert table.ts.tolist() == ts[1:4].tolist()
    assert table.column("close").tolist() == [11.5, 12.5, 13.5]


def test_errors_name_what_is_there(written, tmp_path):
    catalog = Catalog(written[0])
    with pytest.raises(KeyError, match=r"no quotes of AAA.*quotes of: none"):
        next(catalog.events([Stream(A, "quotes")], T0, T0 + 1))
    with pytest.raises(KeyError, match=r"trades of: AAAUSDT-PERP\.TEST, BBB"):
        catalog.trades("CCC.TEST")
    with pytest.raises(FileNotFoundError, match="no catalog here"):
        Catalog(tmp_path / "nowhere")
