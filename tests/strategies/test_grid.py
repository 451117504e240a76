"""The grid in a real backtest engine: ladder, fills, inventory, requotes, broken range, hand-over."""

from types import SimpleNamespace

import numpy as np
import pytest
from nautilus_trader.model import QuoteTick

from strategies.contracts import ContractSpec
from strategies.governor import RiskSettings
from strategies.grid import GridSettings
from strategies.policy import PolicyContext, WorkingOrder
from strategies.sizing import SizingSettings
from tests.strategies.tiny_market import (
    CHOP,
    START,
    TREND,
    S,
    Says,
    linear_perpetual,
    minute_like_bars,
    play,
    quotes,
)

FIXED = SizingSettings(risk_fraction=0.01, volatility_target=None, kelly_fraction=None)
GRID = GridSettings(
    sizing=FIXED, levels=2, fair_half_life=1e-9, spacing_volatilities=1.0, skew=0.0, break_levels=2.0
)
STILL = GRID.model_copy(update={"fair_half_life": 1.0, "requote": 1e6})  # the ladder stays where it was drawn


def chop(i, **kw):
    return Says(regime=CHOP, volatility=0.01, **kw)


def test_the_ladder_stands_around_the_fair_value():
    played = play(STILL, [100.0] * 4, chop)
    assert not played.failures
    assert played.actions() == ["ladder", "hold", "hold", "hold"]
    # Spacing 1 % of 100. Losing 100 over (0.5 * (2 - 1) + 2) spacings is 40 contracts, 20 a level.
    standing = sorted((o.price.as_double(), str(o.side), o.quantity.as_double()) for o in played.open_orders)
    assert standing == [
        (98.0, "BUY", 20.0),
        (99.0, "BUY", 20.0),
        (101.0, "SELL", 20.0),
        (102.0, "SELL", 20.0),
    ]
    assert all(o.is_post_only for o in played.open_orders)
    assert (played.at(0)["bound"], played.at(0)["size"]) == ("fixed_fractional", 80.0)


def test_a_filled_level_is_answered_by_the_order_that_closes_it():
    prices = [100.0, 100.0, 98.8, 98.8, 98.8, 100.3, 100.3, 100.3]
    played = play(STILL, prices, chop)
    assert not played.failures
    assert [(f["side"], f["price"], f["qty"], f["maker"]) for f in played.fills] == [
        (1, 99.0, 20.0, True),
        (-1, 100.0, 20.0, True),
    ]
    # One fill, one new order and the stop, which went with the position; nothing else was touched.
    assert played.at(2)["client_order_ids"].count("O-") == 2
    assert played.net == 0.0
    (stop,) = [o for o in played.orders if o.tags[0] == "stop"]
    # Two levels and two more, of 1.0 each, under the fair value of 99.7 at the fill.
    assert (stop.quantity.as_double(), str(stop.status)) == (20.0, "CANCELED")
    standing = sorted(o.price.as_double() for o in played.open_orders)
    assert standing == [98.0, 99.0, 101.0, 102.0]


def test_every_fill_is_a_maker_and_inventory_stays_bounded():
    rng = np.random.default_rng(5)
    prices = np.round(100 + 1.5 * np.sin(np.arange(300) / 9) + 0.4 * rng.standard_normal(300), 1).tolist()
    greedy = SizingSettings(risk_fraction=None, volatility_target=1e6, kelly_fraction=None)
    shape = {"fair_half_life": 30.0, "levels": 3, "break_levels": 50.0, "skew": 0.5, "sizing": greedy}
    settings = GRID.model_copy(update=shape)
    played = play(settings, prices, chop, risk=RiskSettings(exposure_cap=0.3))
    assert not played.failures
    assert len(played.fills) > 20
    assert all(f["maker"] for f in played.fills)
    inventory = np.cumsum([f["side"] * f["qty"] for f in played.fills])
    assert np.abs(inventory).max() <= 0.3 * 10_000 / min(prices)
    assert np.abs(inventory).max() > 0.2 * 10_000 / max(prices)
    assert len(played.decisions) == 300


def test_few_commands_while_the_fair_value_hardly_moves():
    prices = [round(100 + 0.2 * (i % 2), 1) for i in range(40)]
    played = play(GRID.model_copy(update={"fair_half_life": 20.0}), prices, chop)
    drawn = [i for i, a in enumerate(played.actions()) if a == "ladder"]
    assert len(drawn) == 1
    assert len(played.orders) == 4


def test_the_ladder_follows_by_moving_its_orders():
    prices = [100.0] * 3 + [100.9] * 6
    played = play(GRID, prices, chop)  # the fair value is the price
    assert not played.failures
    assert len(played.orders) == 4  # moved, not cancelled and sent anew
    assert sorted(o.price.as_double() for o in played.open_orders) == [98.8, 99.8, 102.0, 103.0]


def test_the_spacing_covers_the_fees_and_some_ticks():
    calm = play(GRID, [100.0] * 3, lambda i: Says(regime=CHOP, volatility=1e-6))
    asks = sorted(o.price.as_double() for o in calm.open_orders if str(o.side) == "SELL")
    assert asks == [100.2, 100.4]  # two ticks; one and a half fee round trips are 0.06


def test_risk_off_widens_the_spacing_and_halves_the_size():
    played = play(STILL, [100.0] * 3, lambda i: chop(i, risk_on=False))
    standing = sorted((o.price.as_double(), o.quantity.as_double()) for o in played.open_orders)
    # Twice the spacing halves what the stop allows, the risk-off factor halves it again: 5 a level.
    assert standing == [(96.0, 5.0), (98.0, 5.0), (102.0, 5.0), (104.0, 5.0)]


def test_a_broken_range_closes_and_pauses():
    prices = [100.0] * 3 + [98.9, 97.9] + [93.0] * 4 + [93.0] * 6
    settings = GRID.model_copy(update={"fair_half_life": 3.0, "requote": 1e6, "pause": 4 * 10**9})
    played = play(settings, prices, chop)
    assert not played.failures
    stopped = played.actions().index("stop")
    # The stop at the venue, where the range breaks: 4 spacings of 1.0 under the fair value of 99.4.
    assert played.decisions[stopped]["reason"] == "stop filled; range broken, pausing"
    assert played.decisions[stopped + 1]["reason"] == "range broken, pausing"
    (stop,) = [o for o in played.orders if o.tags[0] == "stop"]
    assert (stop.quantity.as_double(), str(stop.status)) == (40.0, "FILLED")
    taker = [f for f in played.fills if not f["maker"]]
    assert {f["side"] for f in taker} == {-1}
    assert sum(f["side"] * f["qty"] for f in played.fills) == pytest.approx(0, abs=1e-9)
    again = played.actions().index("ladder", stopped)
    assert again - stopped == 4


@pytest.mark.parametrize("permit", ["active", "reduce_only"])
def test_leaving_works_the_position_out_reduce_only(permit):
    prices = [100.0, 100.0, 98.8, 98.8, 98.8, 98.8, 98.8, 100.3, 100.3, 100.3]

    def says(i):
        if i < 4:
            return chop(i)
        return (
            chop(i, permit="reduce_only") if permit == "reduce_only" else Says(regime=TREND, volatility=0.01)
        )

    played = play(STILL.model_copy(update={"fair_half_life": 1.5, "skew": 0.0}), prices, says)
    assert not played.failures
    late = [o for o in played.orders if o.ts_init > played.at(4)["ts"]]
    assert late
    assert all(o.is_reduce_only and str(o.side) == "SELL" for o in late)
    assert [(f["side"], f["maker"]) for f in played.fills] == [(1, True), (-1, True)]
    assert played.net == 0.0
    assert played.open_orders == []


def test_leaving_by_flattening():
    prices = [100.0, 100.0, 98.8, 98.8, 98.8, 98.8]
    says = lambda i: chop(i) if i < 3 else Says(regime=TREND, volatility=0.01)  # noqa: E731
    played = play(STILL.model_copy(update={"on_leave": "flatten"}), prices, says)
    assert played.at(3)["action"] == "flatten"
    assert played.net == 0.0
    assert played.open_orders == []


def test_a_rejected_quote_is_tried_again_at_a_passive_price():
    # The market jumps up through a sell level after the bar closed, before the ladder arrives.
    instrument = linear_perpetual()
    prices = [100.0, 101.5, 101.5, 101.5]
    at = START + S + S // 5 - 1
    jump = QuoteTick(
        instrument.id,
        instrument.make_price(101.4),
        instrument.make_price(101.6),
        instrument.make_qty(1_000),
        instrument.make_qty(1_000),
        at,
        at,
    )
    data = [q for q in quotes(instrument, prices) if not at < q.ts_init < START + S + S // 2]
    played = play(STILL, prices, chop, data=[*data, jump])
    assert not played.failures
    assert [str(o.status) for o in played.orders].count("REJECTED") == 1
    assert all(f["maker"] for f in played.fills)
    assert sorted(o.price.as_double() for o in played.open_orders if str(o.side) == "SELL") == [101.5, 102.0]


def test_bars_alone_fill_the_ladder():
    # With queue positions the engine would wait for trades at the level, which bars do not show.
    instrument = linear_perpetual()
    prices = [100.0] * 3 + [98.8] * 4 + [100.6] * 4
    data = minute_like_bars(instrument, prices)
    played = play(STILL, prices, chop, data=data, queue_position=False)
    assert not played.failures
    assert [(f["side"], f["price"], f["maker"]) for f in played.fills] == [(1, 99.0, True), (-1, 100.0, True)]


def test_a_ladder_held_back_from_taking_does_not_chase_every_tick():
    prices = [104.2, 104.2, 104.1, 104.0, 104.0, 103.4, 103.4]  # both sells belong at 101 and 102
    instrument = linear_perpetual()
    settings = STILL.model_copy(update={"requote": 0.4, "fair_half_life": 1e3, "break_levels": 9.0})
    policy = settings.policy(PolicyContext(ContractSpec.of(instrument), RiskSettings(), 365.0, 1, 0.0002))
    policy.fair, policy.bars_seen = 100.0, 10**6
    played = play(settings, prices, chop, data=quotes(instrument, prices), policy=policy)
    assert not played.failures
    assert played.actions() == ["ladder", "hold", "hold", "hold", "hold", "ladder", "hold"]
    asks = [o.price.as_double() for o in played.open_orders if str(o.side) == "SELL"]
    assert asks == [103.4, 103.4]  # the tick above the best bid


def test_no_forecast_no_ladder():
    played = play(GRID, [100.0] * 3, lambda i: Says(regime=CHOP, volatility=float("nan")))
    assert [d["reason"] for d in played.decisions] == ["no volatility forecast"] * 3
    assert played.orders == []


def test_a_position_is_led_home_and_watched_without_a_forecast():
    def says(i):
        return Says(regime=CHOP, volatility=0.01 if i < 3 else float("nan"))

    settings = GRID.model_copy(update={"fair_half_life": 1000.0})
    spec = ContractSpec.of(linear_perpetual())

    def known():  # the fair value, for long
        policy = settings.policy(PolicyContext(spec, RiskSettings(), 365.0, 1, 0.0002))
        policy.fair, policy.bars_seen = 100.0, 10**6
        return policy

    home = play(settings, [100.0, 100.0, 98.8, 98.8, 98.8, 100.5, 100.5], says, policy=known())
    assert home.net == 0.0
    assert all(fill["maker"] for fill in home.fills)
    # Two levels and two more, of 1.0 each: below 96 the range is broken.
    broken = play(settings, [100.0, 100.0, 98.8, 98.8, 97.0, 95.0, 90.0, 60.0], says, policy=known())
    assert not broken.failures
    (stop,) = [o for o in broken.orders if o.tags[0] == "stop"]
    assert (stop.trigger_price.as_double(), str(stop.status)) == (96.0, "FILLED")
    assert broken.net == 0.0
    assert broken.open_orders == []


def test_a_halved_size_is_drawn_at_once_and_a_whole_one_again():
    played = play(GRID, [100.0] * 8, lambda i: chop(i, size_factor=0.5 if 3 <= i < 6 else 1.0))
    sizes = [d["size"] for d in played.decisions if d["action"] == "ladder"]
    standing = {o.quantity.as_double() for o in played.open_orders}
    assert [d["ts"] for d in played.decisions if d["action"] == "ladder"] == [
        played.at(i)["ts"] for i in (0, 3, 6)
    ]
    assert standing == {20.0}  # as in the whole ladder above
    assert sizes[1] == pytest.approx(0.5 * sizes[0])


def test_back_from_a_leave_the_size_is_that_of_the_new_volatility():
    def says(i, leaves):
        return Says(regime=TREND if leaves and i in (6, 7) else CHOP, volatility=0.01 if i < 6 else 0.03)

    prices = [100.0] * 4 + [98.8] * 8
    settings = GRID.model_copy(update={"fair_half_life": 3.0, "requote": 0.9})
    left, stayed = (
        play(settings, prices, lambda i, leaves=leaves: says(i, leaves)) for leaves in (True, False)
    )
    assert left.net > 0
    standing = [
        sorted((str(o.side), round(o.quantity.as_double(), 1)) for o in p.open_orders) for p in (left, stayed)
    ]
    assert standing[0] == standing[1]


def test_inventory_shifts_the_ladder_against_itself_and_the_range_stays_with_the_fair_value():
    settings = GRID.model_copy(update={"skew": 1.2, "fair_half_life": 1000.0, "break_levels": 1.0})
    policy = settings.policy(
        PolicyContext(ContractSpec.of(linear_perpetual()), RiskSettings(), 365.0, 1, 0.0002)
    )
    policy.fair, policy.bars_seen = 100.0, 10**6
    played = play(settings, [100.0, 100.0, 98.8, 98.8, 98.8], chop, policy=policy)
    # Half of the inventory is full: the centre is 0.6 spacings of 0.99 under 100.
    assert sum(f["side"] * f["qty"] for f in played.fills) > 0
    bids = [o.price.as_double() for o in played.open_orders if str(o.side) == "BUY"]
    quotes = [o for o in played.open_orders if o.tags[0] == "quote"]
    asks = [o.price.as_double() for o in quotes if str(o.side) == "SELL"]
    # The unit grew a little when the ladder was drawn anew: what it grew by stands on the level filled.
    assert bids == pytest.approx([99.4 - 0.99, 99.4 - 2 * 0.99], abs=0.11)
    assert sorted(asks) == pytest.approx([99.4, 99.4 + 0.99, 99.4 + 2 * 0.99], abs=0.11)
    # Three spacings from the fair value the range breaks: at 97.0, where the centre is only 2.4 away.
    assert policy.center == pytest.approx(99.4, abs=0.05)
    inside, outside = (
        policy._broken(_view(price))
        for price in (97.1, 96.9)  # spacing 0.988: 2.96 from 100
    )
    assert (inside, outside) == (False, True)


def test_a_pause_is_neither_broken_into_nor_made_longer():
    """With an exit that the book has not filled, and the price still far out."""
    settings = GRID.model_copy(update={"fair_half_life": 1000.0, "pause": 4 * S})
    policy = settings.policy(
        PolicyContext(ContractSpec.of(linear_perpetual()), RiskSettings(), 365.0, 1, 0.0002)
    )
    policy.fair, policy.bars_seen, policy.spacing, policy.center = 100.0, 10**6, 1.0, 100.0
    leaving = WorkingOrder("O-1", "exit", "market", -1, 5.0, np.nan, True, False)
    said = []
    for i in range(6):
        view = SimpleNamespace(
            ts=START + i * S, price=90.0, position=5.0, orders=(leaving,), volatility=0.01, risk_on=True
        )
        said.append(policy.decide(view).reason)
    pausing = "range broken, pausing"
    assert said == ["range broken", pausing, pausing, pausing, "range broken", pausing]


def test_a_range_with_nothing_in_it_does_not_break():
    settings = GRID.model_copy(update={"fair_half_life": 1000.0})
    policy = settings.policy(
        PolicyContext(ContractSpec.of(linear_perpetual()), RiskSettings(), 365.0, 1, 0.0002)
    )
    policy.fair, policy.bars_seen, policy.spacing = 100.0, 10**6, 1.0
    assert not policy._broken(SimpleNamespace(price=90.0, position=0.0, orders=()))


def _view(price):
    return SimpleNamespace(price=price, position=1.0, orders=())
