"""The catalog we write is the catalog Nautilus writes, bit for bit where a number is concerned."""

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import DataActor, DataActorConfig
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import (
    AccountType,
    AggressorSide,
    Bar,
    BarType,
    BookAction,
    BookOrder,
    BookType,
    IndexPriceUpdate,
    InstrumentId,
    MarkPriceUpdate,
    NautilusDataType,
    OmsType,
    OrderBookDelta,
    OrderSide,
    Price,
    Quantity,
    QuoteTick,
    TradeId,
    TradeTick,
)
from nautilus_trader.persistence import ParquetDataCatalog

from catalogs.instruments import PerpetualSettings, SpotSettings
from catalogs.layout import file_name, file_range, to_decimal, to_float
from catalogs.reader import Catalog
from catalogs.writer import CatalogWriter

ID = "BTCUSDT-PERP.BINANCE"
T0 = 1_700_000_000_000_000_000
HOUR = 3_600_000_000_000


@pytest.fixture
def perp():
    return PerpetualSettings(
        id=ID, base="BTC", quote="USDT", price_increment="0.1", size_increment="0.001", min_notional="5"
    ).build()


def _times(n):
    ts = T0 + np.arange(n) * 1_000_000
    return ts, ts + 7


def test_files_have_the_schema_metadata_and_name_that_nautilus_gives(tmp_path, perp):
    iid, bar_type = InstrumentId.from_str(ID), BarType.from_str(f"{ID}-1-MINUTE-LAST-EXTERNAL")
    ts_event, ts_init = _times(3)
    px, sz = np.array([100.1, 100.2, 99.9]), np.array([1.234, 0.001, 2.0])
    sides = [AggressorSide.BUY, AggressorSide.SELL, AggressorSide.NO_AGGRESSOR]
    prices, sizes = [Price(p, 1) for p in px], [Quantity(s, 3) for s in sz]
    rows = list(zip(prices, sizes, ts_event.tolist(), ts_init.tolist(), strict=True))

    (theirs_path := tmp_path / "theirs").mkdir()
    theirs = ParquetDataCatalog(str(theirs_path))
    theirs.write_instruments([perp])
    theirs.write_trade_ticks(
        [TradeTick(iid, p, s, sides[i], TradeId(str(i)), e, t) for i, (p, s, e, t) in enumerate(rows)]
    )
    theirs.write_quote_ticks([QuoteTick(iid, p, Price(101.0, 1), s, s, e, t) for p, s, e, t in rows])
    theirs.write_mark_price_updates([MarkPriceUpdate(iid, p, e, t) for p, s, e, t in rows])
    theirs.write_index_price_updates([IndexPriceUpdate(iid, p, e, t) for p, s, e, t in rows])
    top = Price(101.0, 1)
    theirs.write_bars([Bar(bar_type, p, top, Price(99.0, 1), p, s, e, t) for p, s, e, t in rows])
    theirs.write_order_book_deltas(
        [
            OrderBookDelta.clear(iid, 4, rows[0][2], rows[0][3]),
            OrderBookDelta(
                iid, BookAction.ADD, BookOrder(OrderSide.BUY, *rows[1][:2], 0), 0, 5, *rows[1][2:]
            ),
            OrderBookDelta(
                iid, BookAction.DELETE, BookOrder(OrderSide.SELL, *rows[2][:2], 0), 128, 6, *rows[2][2:]
            ),
        ]
    )

    ours = CatalogWriter(tmp_path / "ours")
    ours.instrument(perp)
    ours.trades(perp, ts_event, ts_init, px, sz, np.array([1, -1, 0]), np.arange(3))
    ours.quotes(perp, ts_event, ts_init, px, np.full(3, 101.0), sz, sz)
    ours.mark_prices(perp, ts_event, ts_init, px)
    ours.index_prices(perp, ts_event, ts_init, px)
    ours.bars(perp, bar_type, ts_event, ts_init, px, np.full(3, 101.0), np.full(3, 99.0), px, sz)
    ours.deltas(
        perp,
        ts_event,
        ts_init,
        action=np.array([4, 1, 3]),
        side=np.array([0, 1, -1]),
        price=np.array([0.0, *px[1:]]),
        size=np.array([0.0, *sz[1:]]),
        flags=np.array([32, 0, 128]),
        sequence=np.array([4, 5, 6]),
    )

    def files(root):
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))

    assert files(tmp_path / "ours") == files(theirs_path)
    assert len(files(theirs_path)) == 7
    for name in files(theirs_path):
        a, b = pq.read_table(tmp_path / "ours" / name), pq.read_table(theirs_path / name)
        assert a.schema.equals(b.schema, check_metadata=True), name
        assert a.to_pylist() == b.to_pylist(), name  # dictionaries may be numbered differently


def test_nautilus_reads_back_what_we_wrote(tmp_path, perp):
    rng = np.random.default_rng(3)
    n = 2_000
    ts_event, ts_init = _times(n)
    px, sz = rng.uniform(20_000, 99_000, n), rng.uniform(0.001, 50, n)
    side = rng.integers(-1, 2, n)
    writer = CatalogWriter(tmp_path)
    writer.instrument(perp)
    writer.trades(perp, ts_event, ts_init, px, sz, side)

    ticks = ParquetDataCatalog(str(tmp_path)).query_trade_ticks([ID])
    assert [str(tick.price) for tick in ticks] == [f"{p:.1f}" for p in px]
    assert [str(tick.size) for tick in ticks] == [f"{s:.3f}" for s in sz]
    signs = {AggressorSide.BUY: 1, AggressorSide.SELL: -1, AggressorSide.NO_AGGRESSOR: 0}
    assert [signs[tick.aggressor_side] for tick in ticks] == side.tolist()
    assert [(tick.ts_event, tick.ts_init) for tick in ticks] == list(zip(ts_event, ts_init, strict=True))
    assert len({str(tick.trade_id) for tick in ticks}) == n


@settings(max_examples=25, deadline=None)
@given(ticks=st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=50), precision=st.integers(2, 16))
def test_decimals_hold_every_tick_exactly(ticks, precision):
    """Up to 2**50 ticks a float is closer to its own tick than to the next, after the multiplication too."""
    values = np.array([float(Decimal(tick).scaleb(-precision)) for tick in ticks])
    assert to_decimal(values, precision, "value").to_pylist() == [
        Decimal(t).scaleb(-precision) for t in ticks
    ]


@settings(max_examples=25, deadline=None)
@given(ticks=st.lists(st.integers(0, 10**13), min_size=1, max_size=50), precision=st.integers(0, 8))
def test_floats_are_those_of_nautilus_bit_for_bit(ticks, precision):
    written = [f"{Decimal(tick).scaleb(-precision):.{precision}f}" for tick in ticks]
    ours = to_float(to_decimal(np.array([float(text) for text in written]), precision, "value")).tolist()
    assert ours == [Price.from_str(text).as_double() for text in written]
    assert ours == [Quantity.from_str(text).as_double() for text in written]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.8e13, -1.8e13])
def test_values_nautilus_could_not_read_are_refused(value):
    with pytest.raises(ValueError, match="price: row 1 is"):
        to_decimal(np.array([1.0, value]), 0, "price")


def test_decimals_of_a_slice_and_negative_values():
    array = to_decimal(np.array([-1.5, 2.25, -90_000.07, 0.0]), 2, "value")
    assert to_float(array.slice(1, 2)).tolist() == [2.25, Price.from_str("-90000.07").as_double()]


def test_file_names_are_their_time_range():
    name = file_name(T0 + 5, T0 + 1_234_567_890)
    assert name == "2023-11-14T22-13-20-000000005Z_2023-11-14T22-13-21-234567890Z.parquet"
    assert file_range(Path(name)) == (T0 + 5, T0 + 1_234_567_890)
    with pytest.raises(ValueError, match="notes"):
        file_range(Path("notes.parquet"))


def test_a_stretch_already_written_is_not_written_again(tmp_path, perp):
    writer = CatalogWriter(tmp_path)
    ts = T0 + np.arange(10) * 100
    ones, side = np.ones(10), np.ones(10, dtype=int)

    def write(rows):
        return writer.trades(
            perp, ts[rows], ts[rows], ones[rows], ones[rows], side[rows], np.arange(10)[rows]
        )

    assert write(slice(3, 6)) == 3
    assert write(slice(3, 6)) == 0
    assert write(slice(0, 10)) == 7  # the rows before and after, in files that do not overlap
    assert write(slice(0, 10)) == 0
    assert Catalog(tmp_path).trades(ID)["ts_init"].tolist() == ts.tolist()
    assert not list(tmp_path.rglob("*.partial"))
    ranges = sorted(file_range(path) for path in tmp_path.rglob("*.parquet"))
    assert all(a[1] < b[0] for a, b in pairwise(ranges))


def test_a_file_that_spans_a_hole_is_cut_around_it(tmp_path, perp):
    writer = CatalogWriter(tmp_path)
    one = np.array([1.0])
    writer.mark_prices(perp, np.array([T0 + 50]), np.array([T0 + 50]), one)
    around = np.array([T0, T0 + 100])
    assert writer.mark_prices(perp, around, around, np.array([1.0, 2.0])) == 2
    assert Catalog(tmp_path).prices(ID, "mark")["ts_init"].tolist() == [T0, T0 + 50, T0 + 100]


@pytest.mark.parametrize(
    ("price", "size", "ts", "says"),
    [
        ([1.0, np.nan], [1.0, 1.0], [0, 1], "trade price: row 1 is nan"),
        ([1.0, 2.0], [1.0, 0.0001], [0, 1], "trade size: row 1 is 0.0001"),
        ([1.0, 2.0], [1.0, 1.0], [1, 0], "goes back at row 1"),
    ],
)
def test_what_cannot_be_written_truthfully_is_refused(tmp_path, perp, price, size, ts, says):
    ts = np.array(ts)
    with pytest.raises(ValueError, match=says):
        CatalogWriter(tmp_path).trades(perp, ts, ts, np.array(price), np.array(size), np.ones(2))
    assert not list(tmp_path.rglob("*.parquet"))


def test_bars_that_do_not_contain_their_prices_are_refused(tmp_path, perp):
    ts = np.array([T0])
    columns = [np.array([value]) for value in (10.0, 9.0, 8.0, 9.0, 1.0)]
    with pytest.raises(ValueError, match=r"open 10\.0, high 9\.0"):
        CatalogWriter(tmp_path).bars(perp, f"{ID}-1-MINUTE-LAST-EXTERNAL", ts, ts, *columns)


def test_instruments_round_trip_and_a_new_definition_replaces_the_old(tmp_path, perp):
    spot = SpotSettings(
        kind="spot",
        id="BTCUSDT.BINANCE",
        base="BTC",
        quote="USDT",
        price_increment="0.01",
        size_increment="0.00001",
    ).build()
    inverse = PerpetualSettings(
        id="XBTUSD.BITMEX",
        base="BTC",
        quote="USD",
        inverse=True,
        price_increment="0.5",
        size_increment="1",
        maker_fee="-0.00025",
        taker_fee=0.00075,
    )
    writer = CatalogWriter(tmp_path)
    for instrument in (perp, spot, inverse.build()):
        writer.instrument(instrument)
    wider = inverse.model_copy(update={"price_increment": Decimal("1.0")})
    writer.instrument(wider.build())

    catalog = Catalog(tmp_path)
    assert [str(item.id) for item in catalog.instruments()] == [
        "BTCUSDT-PERP.BINANCE",
        "BTCUSDT.BINANCE",
        "XBTUSD.BITMEX",
    ]
    read = catalog.instrument("XBTUSD.BITMEX")
    assert str(read.price_increment) == "1.0"
    assert read.is_inverse
    assert str(read.settlement_currency) == "BTC"
    assert read.info == {"maker_fee": "-0.00025", "taker_fee": "0.00075"}
    assert str(catalog.instrument(ID).min_notional) == "5.00000000 USDT"
    assert catalog.instrument("BTCUSDT.BINANCE").size_precision == 5
    with pytest.raises(KeyError, match="it has BTCUSDT-PERP"):
        catalog.instrument("ETHUSDT.BINANCE")


def test_a_backtest_delivers_our_funding_rates(tmp_path, perp):
    """``BacktestNode`` takes our funding file and hands it to a subscriber."""
    writer = CatalogWriter(tmp_path)
    writer.instrument(perp)
    ts = T0 + np.arange(100) * 60_000_000_000
    writer.trades(perp, ts, ts, np.full(100, 50_000.0), np.ones(100), np.ones(100))
    rates = np.array([1e-4, -0.00012359, 1.25e-7])
    writer.funding_rates(perp, ts[:3], ts[:3], rates, ts[:3] + 8 * HOUR, 8 * HOUR)

    seen = []

    class Listener(DataActor):
        def on_start(self):
            self.subscribe_funding_rates(InstrumentId.from_str(ID))

        def on_funding_rate(self, update):
            seen.append((float(update.rate), update.interval, update.next_funding_ns))

    data = [
        BacktestDataConfig(
            data_type=kind, catalog_path=str(tmp_path), instrument_id=InstrumentId.from_str(ID)
        )
        for kind in (NautilusDataType.TradeTick, NautilusDataType.FundingRateUpdate)
    ]
    venue = BacktestVenueConfig(
        name="BINANCE",
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        book_type=BookType.L1_MBP,
        starting_balances=["10000 USDT"],
        fee_model=MakerTakerFeeModel(Decimal(0), Decimal(0)),
    )
    engine = BacktestEngineConfig(bypass_logging=True)
    config = BacktestRunConfig(venues=[venue], data=data, engine=engine, raise_exception=True)
    node = BacktestNode([config])
    node.build()
    node.add_actor(config.id, Listener(DataActorConfig()))
    node.run()
    node.dispose()
    assert seen == [(rate, 480, next_) for rate, next_ in zip(rates, ts[:3] + 8 * HOUR, strict=True)]
