"""What a contract stands for, in bars and features, by hand: fractions of a coin, and inverse contracts."""

import math

import numpy as np
import pytest

from core.contract import Contract
from core.events import EVENT, LAST, EventKind
from features.bars import BarSpec, DollarBars, VolumeBars
from features.kernel import FeatureKernel, StreamSpec

K = EventKind
SECOND = 10**9
OKX = Contract(0.01, False)  # 0.01 BTC a contract
BITMEX = Contract(100.0, True)  # 100 USD a contract


def trades(n: int, price: float, size: float) -> np.ndarray:
    """One trade a nanosecond."""
    return np.array([(i, K.TRADE_BUY, 0, 0, price, size) for i in range(n)], EVENT)


@pytest.mark.parametrize(
    ("spec", "contract", "price", "size", "each"),
    [
        (DollarBars(size=1_000), BITMEX, 50_000.0, 1.0, 10),  # 100 USD a trade, whatever the price
        (DollarBars(size=1_000), OKX, 20_000.0, 1.0, 5),  # 0.01 x 20,000 = 200 USDT a trade
        (DollarBars(size=1_000), Contract(), 200.0, 1.0, 5),
        (VolumeBars(size=0.1), OKX, 20_000.0, 1.0, 10),  # 0.01 BTC a trade
        (VolumeBars(size=0.01), BITMEX, 50_000.0, 1.0, 5),  # 100 / 50,000 = 0.002 BTC a trade
    ],
)
def test_event_bars_count_coin_and_money(
    spec: BarSpec, contract: Contract, price: float, size: float, each: int
) -> None:
    events = trades(10 * each, price, size)
    closes = spec.closes(contract).find(events, 0, len(events))
    # A rounding of floats may put a bar one trade on; the numbers here are such that it does not.
    assert closes.tolist() == [each * (i + 1) for i in range(10)]
    counter = spec.closes(contract)
    state = counter.initial_state()
    one_by_one = [counter.update(state, i, price, size) for i in range(len(events))]  # type: ignore[attr-defined]
    assert [close for close in one_by_one if close is not None] == closes.tolist()


def values(contract: Contract, names: list[str], *rows: tuple[int, int, float, float]) -> np.ndarray:
    """The features of the last bar of these events of one stream."""
    feeds = frozenset(("trades", "ohlcv", "book", "depth")) if any(r[1] == K.BID for r in rows) else None
    stream = StreamSpec("perp", 0.1, feeds or frozenset(("trades", "ohlcv")), contract)
    events = [
        (ts, kind, 0, LAST if K.CLEAR <= kind <= K.QUOTE_ASK else 0, price, size)
        for ts, kind, price, size in rows
    ]
    table, _ = FeatureKernel(names, [stream]).run(np.array(events, EVENT))
    return table.values[-1]


def test_volume_is_in_coin_and_value_in_money() -> None:
    rows = (
        (1, K.TRADE_BUY, 50_000.0, 1.0), (2, K.CLOSE, 0.0, 0.0),
        (3, K.TRADE_BUY, 50_000.0, 30.0), (4, K.TRADE_SELL, 40_000.0, 10.0), (5, K.CLOSE, 0.0, 0.0),
    )  # fmt: skip
    names = ["signed_volume_1", "log_volume_1", "amihud_1", "kyle_lambda_2", "vwap_deviation_1"]
    fall = math.log(40_000 / 50_000)
    linear = values(OKX, names[:3] + names[4:], *rows)
    coin, money = 0.3 + 0.1, 0.3 * 50_000 + 0.1 * 40_000
    expected = [0.2, math.log1p(coin), 1e6 * -fall / money, math.log(40_000 * coin / money)]
    np.testing.assert_allclose(linear, expected, rtol=1e-12)
    inverse = values(BITMEX, names[:3] + names[4:], *rows)
    coin, money = 3_000 / 50_000 + 1_000 / 40_000, 3_000 + 1_000
    expected = [
        3_000 / 50_000 - 1_000 / 40_000,
        math.log1p(coin), 1e6 * -fall / money, math.log(40_000 * coin / money),
    ]  # fmt: skip
    np.testing.assert_allclose(inverse, expected, rtol=1e-12)


def test_price_impact_is_per_coin() -> None:
    rows = [(1, K.TRADE_BUY, 100.0, 1.0), (2, K.CLOSE, 0.0, 0.0)]
    for i, price in enumerate((101.0, 102.0)):
        rows += [(3 + 2 * i, K.TRADE_BUY, price, 50.0), (4 + 2 * i, K.CLOSE, 0.0, 0.0)]
    moves = [math.log(101 / 100), math.log(102 / 101)]  # 50 contracts of 0.01 are half a coin each time
    expected = sum(0.5 * move for move in moves) / (2 * 0.25)
    assert values(OKX, ["kyle_lambda_2"], *rows)[0] == pytest.approx(expected, rel=1e-12)


def test_depth_is_in_coin() -> None:
    rows = (
        (1, K.BID, 99.9, 300.0), (1, K.ASK, 100.1, 100.0), (2, K.CLOSE, 0.0, 0.0), (3, K.CLOSE, 0.0, 0.0),
    )  # fmt: skip
    names = ["log_depth_1", "book_imbalance_1"]
    np.testing.assert_allclose(values(OKX, names, *rows), [math.log(4.0), 0.5], rtol=1e-12)
    # At the mid of 100 an inverse contract of 100 USD is one coin.
    np.testing.assert_allclose(values(BITMEX, names, *rows), [math.log(400.0), 0.5], rtol=1e-12)
