"""The gated shell in a real backtest engine: permits, hand-over, records, failures, restart."""

import json
import math
from hashlib import blake2b

import numpy as np
import pytest

from core import records
from core.records import schema
from strategies import check_owners
from strategies.contracts import ContractSpec
from strategies.desk import Desk
from strategies.governor import RiskSettings, StopSettings
from strategies.grid import GridSettings
from strategies.momentum import MomentumSettings
from strategies.policy import Amend, Cancel, Decision, Place, PolicyContext
from strategies.sizing import SizingSettings
from tests.strategies.tiny_market import (
    CHOP,
    GRACE,
    START,
    STRESS,
    TREND,
    S,
    Says,
    play,
)

FIXED = SizingSettings(risk_fraction=0.01, volatility_target=None, kelly_fraction=None)
STOP = RiskSettings(stop=StopSettings(rule="fraction", fraction=0.02))
MOMENTUM = MomentumSettings(sizing=FIXED, horizon=100)
GRID = GridSettings(sizing=FIXED, fair_half_life=1, levels=2, spacing_volatilities=1.0)
UP = {"up": 0.7, "down": 0.1}


class Eager:
    """A policy that wants to buy ten contracts at every bar, and a resting bid besides."""

    def decide(self, view):
        return Decision(
            "enter", "always", (Place("entry", 1, 10.0), Place.passive("quote", 1, 1.0, view.price - 5.0))
        )

    def stop_price(self, position, entry_price):
        return math.nan  # two per cent of the entry

    def stopped(self, ts):
        pass

    def save(self):
        return {}

    def load(self, memory):
        pass


def test_every_bar_leaves_a_record_that_says_what_was_known():
    played = play(MOMENTUM, [100.0, 101.0, 102.0], lambda i: Says(volatility=0.02, **UP))
    assert [d["ts"] for d in played.decisions] == [START + (i + 1) * S for i in range(3)]
    first = played.decisions[0]
    assert list(first) == schema(records.Decision).names
    expected = {
        "strategy": "s0",
        "instrument": "BTCUSDT-PERP.SIM",
        "regime": "trend",
        "p_trend": 1.0,
        "p_chop": 0.0,
        "p_stress": 0.0,
        "volatility": 0.02,
        "risk_on": True,
        "p_up": 0.7,
        "p_down": 0.1,
        "features_hash": blake2b(np.array([0.0, 100.0]).tobytes(), digest_size=8).hexdigest(),
        "permit": "active",
        "size_factor": 1.0,
        "action": "enter",
        "position": 0.0,
        "price": 100.0,
        "bundle": "bundle-a",
    }
    assert {k: first[k] for k in expected} == expected
    assert first["client_order_ids"] == str(played.orders[0].client_order_id)


def test_reduce_only_lets_no_adding_order_pass_and_cancels_those_that_stand():
    def says(i):
        return Says(permit="active" if i < 2 else "reduce_only", **UP)

    played = play(MOMENTUM, [100.0] * 6, says, policy=Eager())
    assert played.net == 20.0  # bars 0 and 1
    late = [o for o in played.orders if o.ts_init > START + 3 * S]
    assert late == []
    (stop,) = played.open_orders
    assert (stop.tags[0], stop.quantity.as_double()) == ("stop", 20.0)
    assert played.at(2)["action"] == "cancel"
    assert [d["reason"] for d in played.decisions[2:]] == ["reduce only"] * 4


def test_halted_cancels_and_closes():
    played = play(
        MOMENTUM, [100.0] * 6, lambda i: Says(permit="active" if i < 2 else "halted", **UP), policy=Eager()
    )
    assert played.net == 0.0
    assert played.open_orders == []
    assert (played.at(2)["action"], played.at(2)["reason"]) == ("flatten", "trading halted")
    assert played.actions()[3:] == ["none"] * 3


def test_without_equity_nothing_adds():
    played = play(MOMENTUM, [100.0] * 3, lambda i: Says(equity=math.nan, **UP), policy=Eager())
    assert played.orders == []


def test_caps_hold_against_a_policy_that_never_stops():
    played = play(
        MOMENTUM, [100.0] * 12, lambda i: Says(**UP), policy=Eager(), risk=RiskSettings(exposure_cap=0.35)
    )
    most = 0.35 * 10_000 / 100
    assert 0 < played.net <= most
    standing = sum(o.quantity.as_double() for o in played.open_orders if o.tags[0] != "stop")
    assert played.net + standing <= most
    assert played.decisions[-1]["bound"] == "exposure_cap"
    assert played.decisions[-1]["reason"] == "enter refused: exposure_cap"


@pytest.mark.parametrize(
    ("told", "size"), [({}, 2.0), ({"risk_on": False}, 1.5), ({"size_factor": 0.25}, 0.5)]
)
def test_free_margin_cuts_what_equity_would_allow(told, size):
    # The account holds 100, whatever the governor says: at 2x that carries two contracts of 100.
    risk = RiskSettings(leverage_risk_on=2.0, leverage_risk_off=1.5, stop=STOP.stop)
    played = play(MOMENTUM, [100.0] * 3, lambda i: Says(**UP, **told), balance="100 USDT", risk=risk)
    assert (played.at(0)["size"], played.at(0)["bound"]) == (size, "margin")


def test_what_another_strategy_holds_uses_up_the_cap():
    def says(i):
        return Says(regime=TREND if i < 3 else CHOP, volatility=0.01, **UP)

    keeper = MOMENTUM.model_copy(update={"on_leave": "reduce_only"})
    played = play([keeper, GRID], [100.0] * 8, says, risk=RiskSettings(exposure_cap=0.5, stop=STOP.stop))
    held = sum(f["qty"] for f in played.fills)
    assert held == 50.0  # momentum took all of the exposure, and keeps it under its stop
    assert played.at(6, "s0")["action"] == "hold"
    assert {type(o).__name__ for o in played.open_orders} == {"StopMarketOrder"}
    assert played.at(6, "s1")["bound"] == "exposure_cap"


def test_nothing_is_opened_against_what_another_strategy_holds():
    def says(i):
        return Says(regime=TREND if i < 3 else CHOP, volatility=0.01, **UP)

    keeper = MOMENTUM.model_copy(update={"on_leave": "reduce_only"})
    played = play([keeper, GRID], [100.0] * 8, says, risk=RiskSettings(exposure_cap=2.0, stop=STOP.stop))
    assert not played.failures
    quotes = [o for o in played.open_orders if type(o).__name__ == "LimitOrder"]
    assert {str(o.side) for o in quotes} == {"BUY"}
    assert len(quotes) == 2
    assert played.at(3, "s1")["bound"] == "netting"
    assert played.trader.desks["s0"].position == played.net == 50.0


@pytest.mark.parametrize("label", [CHOP, STRESS])
def test_hand_over_flattens_and_the_next_takes_over(label):
    def says(i):
        return Says(regime=TREND if i < 3 else label, **UP)

    played = play([MOMENTUM, GRID], [100.0] * 8, says, risk=STOP)
    assert not played.failures
    assert played.at(3, "s0")["action"] == "flatten"
    assert played.at(3, "s0")["reason"] == ("regime is chop" if label == CHOP else "regime is stress")
    assert [(f["strategy"], f["side"]) for f in played.fills] == [("s0", 1), ("s0", -1)]
    assert played.net == 0.0
    stop = next(o for o in played.orders if type(o).__name__ == "StopMarketOrder")
    assert str(stop.status) == "CANCELED"
    quotes = [o for o in played.orders if type(o).__name__ == "LimitOrder"]
    assert len(quotes) == (4 if label == CHOP else 0)  # nobody owns stress
    assert all(o.ts_init > START + 4 * S for o in quotes)


def test_a_gap_between_bundles_takes_no_risk():
    played = play(MOMENTUM, [100.0] * 6, lambda i: Says(regime=-1 if i >= 3 else TREND, **UP), risk=STOP)
    assert (played.at(3)["action"], played.at(3)["reason"]) == ("flatten", "no valid model")
    assert played.at(4)["regime"] == "none"
    assert played.at(5)["reason"] == "no valid model"
    assert played.net == 0.0


def test_a_silent_regime_stage_is_no_valid_model():
    played = play(MOMENTUM, [100.0] * 4, lambda i: Says(regime=TREND if i < 2 else -1, **UP), risk=STOP)
    assert played.at(1)["regime"] == "trend"
    assert (played.at(2)["regime"], played.at(2)["reason"]) == ("none", "no valid model")


def test_warm_up_bars_neither_trade_nor_record():
    played = play(MOMENTUM, [100.0] * 5, lambda i: Says(**UP), risk=STOP, trade_from=START + 3 * S)
    assert [d["ts"] for d in played.decisions] == [START + 4 * S, START + 5 * S]
    assert played.decisions[0]["action"] == "enter"


def test_each_command_arrives_when_its_latency_is_over_though_no_event_comes():
    class Changes(Eager):
        """A resting bid, moved at the next bar, gone at the one after."""

        def decide(self, view):
            if not view.orders:
                intent = Place.passive("quote", 1, 1.0, view.price - 5.0)
            elif view.orders[0].price < view.price - 4.5:
                intent = Amend(view.orders[0].id, 1.0, view.price - 4.0)
            else:
                intent = Cancel(view.orders[0].id)
            return Decision("quote", "", (intent,))

    latency = 5_000_000  # the next event comes 100 ms after a decision
    played = play(MOMENTUM, [100.0] * 4, lambda i: Says(**UP), policy=Changes(), latency=latency)
    assert not played.failures
    order = played.orders[0]  # the end of a run hurries what is under way: another bar follows its cancel
    answers = ("OrderAccepted", "OrderUpdated", "OrderCanceled")
    came = [(type(e).__name__, e.ts_event) for e in order.events() if type(e).__name__ in answers]
    assert came == [(name, START + (i + 1) * S + GRACE + latency) for i, name in enumerate(answers)]


def test_a_failing_policy_is_recorded_and_ends_the_run():
    class Failing(Eager):
        def decide(self, view):
            if view.ts >= START + 3 * S:
                raise RuntimeError("the third bar is cursed")
            return super().decide(view)

    played = play(MOMENTUM, [100.0] * 10, lambda i: Says(**UP), policy=Failing())
    assert len(played.failures) == 1
    assert "the third bar is cursed" in played.failures[0]
    assert len(played.decisions) == 2


def test_a_failure_at_a_fill_is_recorded_too():
    class Failing(Eager):
        def stop_price(self, position, entry_price):
            raise RuntimeError("no protection")

    played = play(MOMENTUM, [100.0] * 5, lambda i: Says(**UP), policy=Failing())
    assert "no protection" in played.failures[0]


def test_a_restarted_session_finds_its_position_and_its_stop_in_the_cache():
    def restart(trader):
        before = trader.desks["s0"]
        after = trader.desks["s0"] = Desk(before.config, trader)
        trader.recover()
        recovered = (after.position, after.holding.entry, after.orders.working())
        assert recovered == (before.position, before.holding.entry, before.orders.working())
        seen.append(recovered)

    seen = []
    play(MOMENTUM, [100.0] * 5, lambda i: Says(**UP), risk=STOP, after=restart)
    ((position, entry, (stop,)),) = seen
    assert (position, entry) == (50.0, 100.1)
    assert (stop.role, stop.side, stop.quantity, stop.price, stop.reduce_only) == (
        "stop",
        -1,
        50.0,
        98.1,
        True,
    )


def test_two_runs_are_equal_to_the_last_order_id():
    rng = np.random.default_rng(2)
    prices = np.round(100 * np.exp(np.cumsum(0.001 * rng.standard_normal(400))), 1).tolist()
    regime = np.repeat(rng.integers(-1, 3, 20), 20).tolist()
    up = rng.random(400).tolist()

    def says(i):
        return Says(regime=regime[i], up=0.7 * up[i], down=0.7 - 0.7 * up[i], volatility=0.004)

    first, second = (play([MOMENTUM, GRID], prices, says) for _ in range(2))
    assert not first.failures
    assert len(first.fills) > 20
    assert repr(first.decisions) == repr(second.decisions)
    assert first.fills == second.fills


def test_memory_survives_a_restart():
    context = PolicyContext(ContractSpec(False, 1.0, 0.1, 0.001, 1, 3), RiskSettings(), 365.0, 1, 0.0002)
    first = MOMENTUM.policy(context)
    first.bars_held, first.cooldown, first.stop_distance = 7, 2, 0.013
    second = MOMENTUM.policy(context)
    second.load(json.loads(json.dumps(first.save())))
    assert second.save() == first.save() == {"bars_held": 7, "cooldown": 2, "stop_distance": 0.013}


def test_two_owners_of_one_regime_are_refused():
    check_owners({"a": MOMENTUM, "b": GRID})
    with pytest.raises(ValueError, match="'trend' belongs to both 'a' and 'b'"):
        check_owners({"a": MOMENTUM, "b": MOMENTUM})
