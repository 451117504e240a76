"""Exits, stops and refusals in a real backtest engine: what its risk engine and its venue do not take."""

import dataclasses
import json
import math
from decimal import Decimal

import pytest
from nautilus_trader.model import BookType, CryptoPerpetual, Money, Price, Quantity

from strategies.contracts import ContractSpec
from strategies.governor import RiskSettings, StopSettings
from strategies.grid import GridSettings
from strategies.momentum import MomentumSettings
from strategies.policy import Decision, Place
from strategies.sizing import SizingSettings
from tests.strategies.tiny_market import (
    BTC,
    CHOP,
    TREND,
    USDT,
    Says,
    book,
    linear_perpetual,
    play,
)

FIXED = SizingSettings(risk_fraction=0.01, volatility_target=None, kelly_fraction=None)
STOP = RiskSettings(stop=StopSettings(rule="fraction", fraction=0.02))
MOMENTUM = MomentumSettings(sizing=FIXED, horizon=3)
GRID = GridSettings(sizing=FIXED, levels=2, fair_half_life=1.0, spacing_volatilities=1.0, requote=1e6)


def perpetual(**limits):
    """``linear_perpetual`` with the venue's ``limits``."""
    like = linear_perpetual()
    return CryptoPerpetual(
        like.id,
        like.raw_symbol,
        BTC,
        USDT,
        USDT,
        False,
        1,
        3,
        Price.from_str("0.1"),
        Quantity.from_str("0.001"),
        0,
        0,
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.025"),
        **limits,
    )


class Steps:
    """A policy that wants what a script says of each bar, and a stop two per cent from the entry."""

    def __init__(self, *wishes):
        self._wishes = list(wishes)
        self.reached = []

    def decide(self, view):
        wish = self._wishes.pop(0) if self._wishes else ()
        return Decision("go" if wish else "hold", "as told", tuple(wish))

    def stop_price(self, position, entry_price):
        return math.nan

    def stopped(self, ts):
        self.reached.append(ts)


def buy(quantity):
    return [Place("entry", 1, quantity)]


def sell_all(quantity):
    return [Place("exit", -1, quantity, reduce_only=True)]


def quantities(played, role):
    return [o.quantity.as_double() for o in played.orders if o.tags[0] == role]


def statuses(played, role):
    return [str(o.status) for o in played.orders if o.tags[0] == role]


@pytest.mark.parametrize(
    "limits", [{"max_quantity": Quantity.from_str("20.000")}, {"max_notional": Money.from_str("2100 USDT")}]
)
def test_a_position_above_the_largest_order_is_protected_and_closed_by_several(limits):
    policy = Steps(buy(20.0), buy(20.0), buy(10.0), (), sell_all(50.0))
    risk = STOP.model_copy(update={"max_quantity": 100.0})
    played = play(
        MOMENTUM, [100.0] * 8, lambda i: Says(), instrument=perpetual(**limits), policy=policy, risk=risk
    )
    assert not played.failures
    assert quantities(played, "entry") == [20.0, 20.0, 10.0]
    assert statuses(played, "exit") == ["FILLED"] * 3
    assert sum(quantities(played, "exit")) == 50.0
    assert max(quantities(played, "exit")) <= 20.8
    assert "DENIED" not in statuses(played, "stop")
    assert played.net == 0
    assert played.open_orders == []


def test_a_rest_under_the_minimum_quantity_is_protected_and_closed():
    # Three of 50 are left: of these a thin book takes 2.997 at first.
    instrument = perpetual(min_quantity=Quantity.from_str("1.000"), min_notional=Money.from_str("200 USDT"))
    policy = Steps(buy(3.0), (), [Place("exit", -1, 2.5, reduce_only=True)], (), sell_all(0.5))
    played = play(MOMENTUM, [100.0] * 8, lambda i: Says(), instrument=instrument, policy=policy, risk=STOP)
    assert not played.failures
    sold = [f["qty"] for f in played.fills if f["side"] < 0]
    assert sum(sold) == 3.0
    assert sold[-1] == 0.5
    assert set(statuses(played, "exit")) == {"FILLED"}
    assert set(statuses(played, "stop")) == {"CANCELED"}
    assert played.net == 0


def test_a_market_known_by_its_book_alone_is_entered_and_left():
    # Without a quote or a trade in the cache Nautilus denies market orders on the spot, book or no book.
    prices = [100.0] * 4 + [99.5] * 4
    deltas = book(linear_perpetual(), prices)
    says = lambda i: Says(up=0.7, down=0.1) if i == 0 else Says(up=0.2, down=0.2)  # noqa: E731
    played = play(MOMENTUM, prices, says, data=deltas, book_type=BookType.L2_MBP, risk=STOP)
    assert not played.failures
    assert [f["side"] for f in played.fills if f["side"] > 0] == [1]
    assert played.net == 0
    assert statuses(played, "entry") + statuses(played, "exit") == ["FILLED"] * 2


def test_a_stop_works_in_a_market_without_trades():
    prices = [100.0] * 4 + [97.0] * 4
    deltas = book(linear_perpetual(), prices)
    says = lambda i: Says(up=0.7, down=0.1) if i == 0 else Says(up=0.2, down=0.2)  # noqa: E731
    settings = MOMENTUM.model_copy(update={"horizon": 100})
    played = play(settings, prices, says, data=deltas, book_type=BookType.L2_MBP, risk=STOP)
    assert not played.failures
    assert statuses(played, "stop") == ["FILLED"]
    assert played.net == 0


def _unaware(instrument):
    """A desk's view of the contract that does not know what the venue demands."""
    spec = ContractSpec.of(instrument)
    return dataclasses.replace(spec, min_quantity=0.0, min_notional=0.0, max_quantity=math.inf)


def test_refused_entries_are_tried_again_after_one_two_four_bars():
    instrument = perpetual(max_quantity=Quantity.from_str("1.000"))
    played = play(
        MOMENTUM,
        [100.0] * 10,
        lambda i: Says(up=0.7, down=0.1),
        instrument=instrument,
        spec=_unaware(instrument),
        risk=STOP,
    )
    assert not played.failures
    tried = [i for i, action in enumerate(played.actions()) if action == "enter"]
    assert tried == [0, 1, 3, 7]
    assert statuses(played, "entry") == ["DENIED"] * 4
    waited = {d["reason"] for d in played.decisions if d["action"] == "none"}
    assert waited == {"enter put off after a refusal: QUANTITY_EXCEEDS_MAXIMUM"}
    key = str(played.orders[0].client_order_id)
    assert played.trader.orders.known[key].reason.startswith("QUANTITY_EXCEEDS_MAXIMUM: effective=50")


def test_the_wait_goes_on_in_the_next_session():
    instrument = perpetual(max_quantity=Quantity.from_str("1.000"))
    seen = []
    play(
        MOMENTUM,
        [100.0] * 5,
        lambda i: Says(up=0.7, down=0.1),
        instrument=instrument,
        spec=_unaware(instrument),
        risk=STOP,
        after=lambda trader: seen.append(trader.save()),
    )
    (memory,) = seen
    wait = json.loads(memory["s0"])["refusals"]["adding"]
    assert (wait["count"], wait["reason"]) == (3, "QUANTITY_EXCEEDS_MAXIMUM")
    assert wait["left"] > 0


def test_two_desks_each_stand_under_a_stop_of_their_own():
    def says(i):
        up = 0.7 if i == 0 else 0.2
        return Says(regime=TREND if i < 3 else CHOP, volatility=0.01, up=up, down=0.1 if i == 0 else 0.2)

    keeps = MOMENTUM.model_copy(update={"on_leave": "reduce_only", "horizon": 100})
    prices = [100.0] * 5 + [98.9] * 6
    played = play([keeps, GRID], prices, says, risk=RiskSettings(exposure_cap=2.0, stop=STOP.stop))
    assert not played.failures
    held = {name: desk.position for name, desk in played.trader.desks.items()}
    assert all(position > 0 for position in held.values())
    standing = {o.tags[1]: o for o in played.open_orders if o.tags[0] == "stop"}
    assert {name: o.quantity.as_double() for name, o in standing.items()} == held
    assert standing["s0"].trigger_price.as_double() == 98.1  # two per cent under 100.1
    grid = played.trader.desks["s1"].policy
    assert standing["s1"].trigger_price.as_double() == math.ceil(grid.stop * 10 - 1e-6) / 10
    # Beside each other neither may be told as reduce-only: Nautilus would resize it to both positions.
    assert not any(o.is_reduce_only for o in standing.values())


def test_an_exit_beside_another_desk_waits_until_its_stop_is_gone():
    def says(i):
        up = 0.7 if i == 0 else 0.2
        label = TREND if i < 3 else CHOP
        return Says(regime=label, volatility=0.01, up=up, down=0.1 if i == 0 else 0.2)

    keeps = MOMENTUM.model_copy(update={"on_leave": "reduce_only", "horizon": 8})
    prices = [100.0] * 5 + [98.9] * 8
    played = play([keeps, GRID], prices, says, risk=RiskSettings(exposure_cap=2.0, stop=STOP.stop))
    assert not played.failures
    (exit_,) = [o for o in played.orders if o.tags[:2] == ["exit", "s0"]]
    stop = [o for o in played.orders if o.tags[:2] == ["stop", "s0"]][-1]
    gone = next(e.ts_event for e in stop.events() if type(e).__name__ == "OrderCanceled")
    assert exit_.ts_init >= gone
    assert played.trader.desks["s0"].position == 0
    assert played.net == pytest.approx(played.trader.desks["s1"].position)
    assert played.net > 0


def test_a_policy_that_fails_is_named_with_its_bar():
    class Failing(Steps):
        def decide(self, view):
            raise ValueError("of a mind")

    played = play(MOMENTUM, [100.0] * 3, lambda i: Says(), policy=Failing())
    assert played.failures[0].startswith("strategies.s0 (momentum) failed at bar 2023-11-14")
    assert played.failures[0].endswith(": ValueError: of a mind")
