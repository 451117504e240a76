"""The simulated venue of a live node: what it does with orders, apart from Beaufort's own parts."""

import dataclasses

import numpy as np
import pytest
from loopback import LoopbackVenue
from nautilus_trader.config import DataClientConfig
from nautilus_trader.model import BookType, InstrumentId, Money, OrderSide, Price, Quantity, StrategyId
from nautilus_trader.trading import Strategy
from toy import MS, toy_config

from catalogs.instruments import PerpetualSettings
from catalogs.writer import CatalogWriter
from engine.sessions.backtest import _venue
from engine.sessions.live import _simulated_account, build_node
from engine.venues import DataSource

T0 = 1_767_571_200 * 10**9
MONEY = Money.from_str("10000 USDT")
LINEAR = PerpetualSettings(
    id="BTCUSDT-PERP.LOOP", base="BTC", quote="USDT", price_increment="0.1", size_increment="0.001"
)


@dataclasses.dataclass(frozen=True)
class BuyerConfig:
    strategy_id: StrategyId
    order_id_tag: str
    filled: list[float]


class Buyer(Strategy):
    """Bids inside the spread; once a trade has filled a part, sends three orders that fill nothing."""

    def __init__(self, config: BuyerConfig) -> None:
        super().__init__(config)
        self._c = config
        self._instrument = InstrumentId.from_str(LINEAR.id)
        self._first = None

    def on_start(self):
        self.subscribe_book_deltas(self._instrument, BookType.L2_MBP)
        self.subscribe_trades(self._instrument)

    def on_book_deltas(self, _deltas):
        if self._first is None:
            self._first = self._bid("100.5")

    def on_trade(self, _trade):
        self.clock.set_time_alert_ns("more", self.clock.timestamp_ns() + 50 * MS, self._send_more)
        self.clock.set_time_alert_ns("end", self.clock.timestamp_ns() + 300 * MS, self._end)

    def _send_more(self, _event):
        for price in ("90.0", "89.0", "88.0"):
            self._bid(price)

    def _end(self, _event):
        orders = sorted(self.cache.orders(), key=lambda o: -o.price.as_double())
        self._c.filled += [o.filled_qty.as_double() for o in orders]
        self.shutdown_system("done")

    def _bid(self, price):
        order = self.order_factory.limit(
            self._instrument,
            OrderSide.BUY,
            Quantity.from_str("1.000"),
            Price.from_str(price),
            post_only=True,
        )
        self.submit_order(order)
        return order


def test_a_trade_fills_once_whatever_is_sent_after_it(tmp_path):
    instrument = LINEAR.build()
    writer = CatalogWriter(tmp_path / "played")
    writer.instrument(instrument)
    book = [(4, 0, 0.0, 0.0, 32), (1, 1, 100.0, 5.0, 32), (1, -1, 101.0, 5.0, 128 + 32)]
    at = np.full(3, T0)
    writer.deltas(instrument, at, at, *(np.array(c) for c in zip(*book, strict=True)), np.arange(3))
    at = np.array([T0 + 200 * MS])
    writer.trades(instrument, at, at, np.array([100.5]), np.array([0.3]), np.array([-1]))
    config = toy_config(tmp_path)
    source = DataSource("LOOP", LoopbackVenue(tmp_path / "played"), DataClientConfig())
    filled = []
    buyer = Buyer(BuyerConfig(StrategyId("BUYER-1"), "1", filled))
    node = build_node(config, config.live, [buyer], source, tmp_path, MONEY)
    node.run()
    node.dispose()
    assert filled == pytest.approx([0.3, 0.0, 0.0, 0.0])


def test_the_venue_of_a_session_is_that_of_a_backtest(tmp_path):
    config = toy_config(tmp_path)
    session, backtest = (
        _simulated_account(config, "LOOP", MONEY),
        _venue(config, "LOOP", True, True, True, MONEY),
    )
    common = {n for n in set(dir(session)) & set(dir(backtest)) if not n.startswith("_")}
    assert {"fee_model", "fill_model", "latency_model", "liquidity_consumption", "queue_position"} <= common
    for name in sorted(common - {"starting_balances"}):
        ours, theirs = getattr(session, name), getattr(backtest, name)
        assert repr(ours) == repr(theirs), name
    assert list(session.starting_balances) == [Money.from_str(str(m)) for m in backtest.starting_balances]
