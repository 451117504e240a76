"""Momentum in a real backtest engine: stop at the venue, exits, gate, sizes, bars-only and inverse."""

import math

import pytest
from nautilus_trader.model import BookType, QuoteTick

from strategies.governor import RiskSettings, StopSettings
from strategies.momentum import MomentumSettings
from strategies.sizing import SizingSettings
from tests.strategies.tiny_market import (
    CHOP,
    START,
    S,
    Says,
    book,
    inverse_perpetual,
    linear_perpetual,
    minute_like_bars,
    play,
    quotes,
    trades,
)

FIXED = SizingSettings(risk_fraction=0.01, volatility_target=None, kelly_fraction=None)
STOP = RiskSettings(stop=StopSettings(rule="fraction", fraction=0.02))
SETTINGS = MomentumSettings(sizing=FIXED, horizon=100)


def long_at(*bars):
    return lambda i: Says(up=0.7, down=0.1) if i in bars else Says(up=0.2, down=0.2)


def kinds(played):
    return [type(o).__name__ for o in played.orders]


def test_entry_is_sized_by_its_stop_and_the_stop_stands_at_the_venue():
    played = play(SETTINGS, [100.0] * 6, long_at(2), risk=STOP)
    assert not played.failures
    assert played.actions() == ["none", "none", "enter", "hold", "hold", "hold"]
    entry = played.at(2)
    # 1 % of 10,000 over a 2 % stop on 100: 50 contracts.
    assert (entry["size"], entry["bound"], entry["bundle"]) == (50.0, "fixed_fractional", "bundle-a")
    (fill,) = played.fills
    assert (fill["qty"], fill["price"], fill["mid"], fill["maker"]) == (50.0, 100.1, 100.0, False)
    assert fill["fee"] == pytest.approx(-50 * 100.1 * 0.0005)
    (stop,) = played.open_orders
    assert stop.is_reduce_only
    assert stop.quantity.as_double() == 50.0
    assert stop.trigger_price.as_double() == 98.1  # 2 % under 100.1 is 98.098, rounded towards the entry
    assert stop.ts_init < entry["ts"] + S // 2  # at the fill, not at the next bar
    assert str(stop.client_order_id) in played.at(3)["client_order_ids"]


@pytest.mark.parametrize("trigger", ["last", "bid_ask", "mark"])
@pytest.mark.parametrize("feed", ["quotes", "bars", "book"])
@pytest.mark.parametrize("side", [1, -1])
def test_the_stop_works_at_the_venue(trigger, feed, side):
    prices = [100.0] * 5 + [100.0 - side * d for d in (1.0, 2.5, 3.0, 3.0)]
    instrument = linear_perpetual()
    data, book_type = None, {}
    if feed == "bars":
        data = minute_like_bars(instrument, prices)
    elif feed == "book":
        data = [*book(instrument, prices), *trades(instrument, prices)]
        book_type = {"book_type": BookType.L2_MBP}
    says = long_at(2) if side > 0 else lambda i: Says(up=0.1, down=0.7) if i == 2 else Says(up=0.2, down=0.2)
    settings = SETTINGS.model_copy(update={"stop_trigger": trigger})
    played = play(settings, prices, says, risk=STOP, data=data, **book_type)
    assert not played.failures
    assert played.fills[0]["side"] == side
    assert {f["side"] for f in played.fills[1:]} == {-side}
    assert played.net == 0
    assert played.open_orders == []
    stopped = played.fills[-1]
    stop_order = next(o for o in played.orders if str(o.client_order_id) == stopped["client_order_id"])
    assert type(stop_order).__name__ == "StopMarketOrder"
    assert "exit" not in played.actions()


def test_horizon_exit_cancels_the_stop_and_closes():
    played = play(SETTINGS.model_copy(update={"horizon": 3}), [100.0] * 9, long_at(2), risk=STOP)
    assert played.actions() == ["none", "none", "enter", "hold", "hold", "exit", "none", "none", "none"]
    assert played.at(5)["reason"] == "horizon reached"
    assert [f["side"] for f in played.fills] == [1, -1]
    assert played.net == 0
    assert played.open_orders == []
    assert [str(o.status) for o in played.orders].count("FILLED") == 2


def test_a_turned_forecast_ends_the_position_and_the_cooldown_delays_the_next():
    def says(i):
        return Says(up=0.1, down=0.7) if i >= 5 else Says(up=0.7, down=0.1)

    settings = SETTINGS.model_copy(update={"cooldown": 2})
    played = play(settings, [100.0] * 12, says, risk=STOP)
    assert played.at(0)["action"] == "enter"
    assert (played.at(5)["action"], played.at(5)["reason"]) == ("exit", "forecast turned")
    assert [played.at(i)["reason"] for i in (6, 7)] == ["cooling down"] * 2
    assert played.at(8)["action"] == "enter"
    assert played.net < 0


def test_a_position_stopped_within_its_first_bar_is_followed_by_the_cooldown():
    settings = SETTINGS.model_copy(update={"cooldown": 3, "stop_trigger": "bid_ask"})
    played = play(settings, [100.0] + [97.0] * 7, lambda i: Says(up=0.7, down=0.1), risk=STOP)
    assert not played.failures
    assert played.actions()[:5] == ["enter", "none", "none", "none", "enter"]


def test_a_stop_the_market_has_passed_is_closed_at_market():
    # The price falls through the stop while that is on its way to the venue, which rejects it.
    instrument = linear_perpetual()
    prices = [100.0, 100.0, 100.0, 97.0, 97.0, 97.0, 97.0]
    crash = START + 3 * S + S // 4  # between the fill and the stop's arrival
    fallen = QuoteTick(
        instrument.id,
        instrument.make_price(96.9),
        instrument.make_price(97.1),
        instrument.make_qty(1_000),
        instrument.make_qty(1_000),
        crash,
        crash,
    )
    data = [q for q in quotes(instrument, prices) if not START + 3 * S + S // 5 < q.ts_init < crash + S // 4]
    settings = SETTINGS.model_copy(update={"stop_trigger": "bid_ask"})
    played = play(settings, prices, long_at(2), risk=STOP, data=[*data, fallen])
    assert not played.failures
    assert "REJECTED" in [str(o.status) for o in played.orders]
    # At once, not at the next bar.
    assert played.at(3)["reason"].startswith("stop passed: closed at market")
    closed = next(o for o in played.orders if o.tags[0] == "exit")
    assert closed.ts_init < START + 4 * S
    assert len([o for o in played.orders if o.tags[0] == "stop"]) == 1
    assert played.net == 0


def test_what_a_thin_book_leaves_unfilled_is_given_up_and_the_rest_protected():
    instrument = linear_perpetual()
    prices = [100.0] * 6
    data = [*book(instrument, prices, size=1.0), *trades(instrument, prices)]  # three contracts a side
    played = play(SETTINGS, prices, long_at(1), risk=STOP, data=data, book_type=BookType.L2_MBP)
    assert not played.failures
    assert played.net == 3.0
    (stop,) = played.open_orders
    assert stop.quantity.as_double() == 3.0
    assert stop.ts_init < played.at(3)["ts"]
    assert stop.quantity.as_double() == 3.0


def test_a_stop_that_exhausts_the_book_is_followed_by_an_exit():
    instrument = linear_perpetual()
    prices = [100.0] * 4 + [97.0] * 6
    falls = START + 4 * S
    data = [d for d in book(instrument, prices, size=100.0) if d.ts_init < falls]
    data += [d for d in book(instrument, prices, size=5.0) if d.ts_init >= falls]
    data += trades(instrument, prices)
    played = play(SETTINGS, prices, long_at(1), risk=STOP, data=data, book_type=BookType.L2_MBP)
    assert not played.failures
    assert played.actions().count("exit") >= 2  # fifteen contracts at a time
    assert played.net == 0.0


def test_risk_off_means_a_wider_stop_and_a_smaller_size():
    def says(i):
        return Says(up=0.7, down=0.1, risk_on=False)

    played = play(SETTINGS, [100.0] * 5, says, risk=STOP)
    # The stop is 3 % wide: 33.333 contracts risk 1 %, half of them under risk-off.
    assert played.at(0)["size"] == 16.666
    (stop,) = played.open_orders
    assert stop.trigger_price.as_double() == 97.1
    none = play(SETTINGS.model_copy(update={"risk_off_size": 0.0}), [100.0] * 5, says, risk=STOP)
    assert set(none.actions()) == {"none"}
    assert none.at(0)["reason"] == "no entry while risk-off"


@pytest.mark.parametrize(
    ("risk", "bound", "size"),
    [
        (RiskSettings(exposure_cap=0.3), "exposure_cap", 30.0),
        (RiskSettings(leverage_risk_on=0.2), "leverage", 20.0),
        (RiskSettings(max_quantity=7.0), "max_quantity", 7.0),
    ],
)
def test_caps_bind_and_are_recorded(risk, bound, size):
    played = play(SETTINGS, [100.0] * 3, long_at(0), risk=risk)
    assert (played.at(0)["bound"], played.at(0)["size"]) == (bound, size)


def test_the_governors_factor_halves_the_size():
    played = play(SETTINGS, [100.0] * 3, lambda i: Says(up=0.7, down=0.1, size_factor=0.5), risk=STOP)
    assert played.at(0)["size"] == 25.0


def test_risk_off_has_a_leverage_of_its_own():
    risk = RiskSettings(leverage_risk_on=9.0, leverage_risk_off=0.05)
    played = play(SETTINGS, [100.0] * 3, lambda i: Says(up=0.7, down=0.1, risk_on=False), risk=risk)
    assert (played.at(0)["bound"], played.at(0)["size"]) == ("leverage", 5.0)


def test_the_governors_factor_halves_the_cap():
    risk = RiskSettings(exposure_cap=0.3)
    played = play(SETTINGS, [100.0] * 3, lambda i: Says(up=0.7, down=0.1, size_factor=0.5), risk=risk)
    assert (played.at(0)["bound"], played.at(0)["size"]) == ("exposure_cap", 15.0)


def test_no_entry_below_the_thresholds_or_without_a_forecast():
    def says(i):
        return (Says(up=0.49, down=0.1), Says(up=0.55, down=0.5), Says(up=math.nan, down=math.nan))[i]

    played = play(SETTINGS, [100.0] * 3, says)
    assert [d["reason"] for d in played.decisions] == ["probability under threshold"] * 2 + ["no forecast"]


def test_a_foreign_regime_keeps_it_out():
    played = play(SETTINGS, [100.0] * 3, lambda i: Says(regime=CHOP, up=0.9, down=0.0))
    assert [d["reason"] for d in played.decisions] == ["regime is chop"] * 3
    assert played.orders == []


def test_inverse_contracts_are_sized_and_paid_in_the_base_currency():
    instrument = inverse_perpetual()
    prices = [10_000.0] * 6

    def says(i):
        return Says(up=0.7, down=0.1, equity=2.0) if i == 1 else Says(up=0.2, down=0.2, equity=2.0)

    played = play(
        SETTINGS,
        prices,
        says,
        instrument=instrument,
        data=minute_like_bars(instrument, prices),
        balance="2 BTC",
        risk=STOP,
    )
    assert not played.failures
    # 1 % of 2 BTC lost between 10,000 and 9,800 at 2.0408e-6 BTC a contract: 9,800 contracts.
    assert played.at(1)["size"] == 9_800
    assert played.net == 9_800
    (stop,) = played.open_orders
    paid = (
        sum(f["qty"] * f["price"] for f in played.fills) / 9_800
    )  # the first lots at 10,000, the rest a tick worse
    assert stop.trigger_price.as_double() == math.ceil(paid * 0.98 * 2) / 2 == 9_800.5
