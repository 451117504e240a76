"""A market whose book is lost while trades go on: what a desk does, and where a position is closed."""

import math

from nautilus_trader.model import (
    AggressorSide,
    BookAction,
    BookOrder,
    BookType,
    OrderBookDelta,
    OrderBookDeltas,
    OrderSide,
    Price,
    Quantity,
    TradeId,
    TradeTick,
)
from tiny_market import CHOP, START, S, Says, book, linear_perpetual, play, quotes, trades

from strategies.grid import GridSettings
from strategies.momentum import MomentumSettings

PERP = linear_perpetual()


def test_a_position_waits_for_a_price_and_is_closed_at_it() -> None:
    # Long from 100 with a stop at 98. At +4 s the book is lost; trades are printed at 90, through the stop;
    # the next snapshot, at +8 s, stands around 97. Nothing may be filled in between, and nothing at 90.
    empty = BookOrder(OrderSide.BUY, Price(0, 1), Quantity(0, 3), 0)
    lost = START + 4 * S + 1
    clear = OrderBookDelta(PERP.id, BookAction.CLEAR, empty, 128 | 32, 0, lost, lost)
    data = [*book(PERP, [100.0] * 4), *trades(PERP, [100.0] * 4), OrderBookDeltas(PERP.id, [clear])]
    for k in (5, 6, 7):
        at = START + k * S + S // 2
        seller, size = AggressorSide.SELL, Quantity(1.0, 3)
        data.append(TradeTick(PERP.id, Price(90.0, 1), size, seller, TradeId(str(k)), at, at))
    data += [d for d in book(PERP, [97.0] * 12) if d.ts_init > START + 8 * S]
    played = play(
        MomentumSettings(entry_probability=0.5, margin=0.0),
        [100.0] * 4 + [math.nan] * 4 + [97.0] * 2,
        lambda i: Says(up=0.9, down=0.05, regime=0 if i < 6 else 2),  # the regime is left while asleep
        instrument=PERP,
        data=data,
        book_type=BookType.L2_MBP,
    )
    assert not played.failures
    asleep = [played.at(i) for i in (4, 5, 6, 7)]
    assert all(d["action"] in ("hold", "protect") and d["reason"].endswith("no price") for d in asleep)
    assert {d["position"] for d in asleep} == {25.0}
    entry, leave = played.fills
    assert (entry["price"], leave["price"]) == (100.1, 96.9)
    assert leave["ts"] > START + 9 * S


def test_orders_that_add_risk_are_cancelled_without_a_price() -> None:
    settings = GridSettings(levels=2, fair_half_life=1.0, spacing_volatilities=1.0, skew=0.0, requote=1e6)
    data = [*quotes(PERP, [100.0] * 6), *trades(PERP, [100.0] * 6)]
    prices = [100.0] * 3 + [math.nan] * 3
    played = play(settings, prices, lambda i: Says(regime=CHOP), instrument=PERP, data=data)
    assert not played.failures
    assert played.actions() == ["ladder", "hold", "hold", "cancel", "none", "none"]
    assert [played.at(i)["reason"] for i in (3, 4, 5)] == ["no price"] * 3
    assert len(played.orders) == 4
    assert not played.open_orders
