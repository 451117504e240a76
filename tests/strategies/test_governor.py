"""The drawdown governor against equity paths worked by hand, and the three laws."""

import numpy as np
import pytest
from pydantic import ValidationError

from strategies.governor import DrawdownGovernor, RiskSettings, StopSettings
from tests.conformance import check_laws

DAY = 86_400.0
HALTED, REDUCE_ONLY, ACTIVE, LIQUIDATED = range(4)


def run(equity, lowest=None, liquidated=0.0, step=3_600.0, **levels):
    governor = DrawdownGovernor(**levels)
    lowest = equity if lowest is None else lowest
    ended = np.broadcast_to(liquidated, len(equity))
    return governor.run(np.column_stack((step * np.arange(len(equity)), equity, lowest, ended)))


def test_laws():
    rng = np.random.default_rng(3)
    equity = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal(300)))
    lowest = equity * (1 - 0.01 * rng.random(300))
    xs = np.column_stack((3_600.0 * np.arange(300), equity, lowest, np.arange(300) == 280))
    out = DrawdownGovernor().run(xs)
    assert {0.0, 2.0, 3.0} == set(out[:, 0])  # the path meets pauses and ends in liquidation
    assert {0.0, 0.5, 1.0} == set(out[:, 1])
    check_laws(DrawdownGovernor(), xs)


def test_half_size_from_five_per_cent_until_the_peak_is_back():
    out = run([100, 110, 104.6, 104.5, 108, 109.9, 110, 104.6])
    assert out[:, 0].tolist() == [ACTIVE] * 8
    assert out[:, 1].tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 1, 1]  # 104.5 is 5 % under 110
    assert out[3, 2] == pytest.approx(0.05)


def test_recovery_level_is_configured():
    out = run([100, 95, 97, 98, 96], recover_at=0.02)
    assert out[:, 1].tolist() == [1, 0.5, 0.5, 1, 1]


def test_ten_per_cent_pauses_a_day_and_then_starts_from_there():
    equity = [100.0, 90.0, *[80.0] * 23, 85.0, 84.0, 80.7]
    out = run(equity)
    assert out[0, 0] == ACTIVE
    assert out[1:25, 0].tolist() == [HALTED] * 24
    assert out[1:25, 1].tolist() == [0] * 24
    assert out[25, 0] == ACTIVE  # 24 h after the pause began
    assert out[25].tolist() == [ACTIVE, 1.0, 0.0]  # the peak is now 85
    assert out[26, 2] == pytest.approx(1 / 85)
    assert out[27, 1] == 0.5


def test_the_least_equity_of_a_bar_counts_from_the_highest_close_before_it():
    out = run([100, 110, 112, 100.5, 110], lowest=[90, 105, 106, 100.5, 104], recover_at=0.02)
    # 90 came before anything was known; 105 and 106 are measured by 100 and 110, not by the closes after.
    assert out[:, 2] == pytest.approx([0, 0, 1 - 106 / 110, 1 - 100.5 / 112, 1 - 104 / 112])
    assert out[:, 0].tolist() == [ACTIVE, ACTIVE, ACTIVE, HALTED, HALTED]
    out = run([100, 104, 100, 103, 104], lowest=[100, 94, 93, 103, 100], pause_at=0.2, recover_at=0.02)
    # A wick is enough to halve the size, closes alone restore it: within 2 % of the peak, 104.
    assert out[:, 1].tolist() == [1, 0.5, 0.5, 1, 1]
    out = run([100, 100, 100], lowest=[100, 89.9, 100])
    assert out[:, 0].tolist() == [ACTIVE, HALTED, HALTED]


def test_lost_capital_halts_for_good():
    out = run([100.0, -1.0, *[-1.0] * 60])
    assert out[1:, 0].tolist() == [HALTED] * 61


def test_liquidation_ends_trading_for_good():
    out = run([100.0, 99.0, 98.0, 99.0, 200.0], liquidated=[0, 0, 1, 0, 0])
    assert out[:, 0].tolist() == [ACTIVE, ACTIVE, LIQUIDATED, LIQUIDATED, LIQUIDATED]
    assert out[:, 1].tolist() == [1, 1, 0, 0, 0]


def test_missing_equity_carries_the_last_word_and_silence_comes_first():
    out = run([np.nan, 100, 94, np.nan])
    assert np.isnan(out[0]).all()
    assert out[3].tolist() == out[2].tolist()
    assert out[2, 1] == 0.5


def test_judge_speaks_the_message():
    governor = RiskSettings(pause="1h").governor()
    state = governor.initial_state()
    ts = 1_700_000_000 * 10**9
    assert governor.judge(state, ts, float("nan"), float("nan"))[:2] == ("halted", 0.0)
    assert governor.judge(state, ts, 100.0, 100.0) == ("active", 1.0, 100.0, 0.0)
    assert governor.judge(state, ts + 10**9, 89.0, 89.0).permit == "halted"
    assert governor.judge(state, ts + 3_600 * 10**9, 89.0, 89.0).permit == "halted"
    assert governor.judge(state, ts + 3_602 * 10**9, 89.0, 89.0).permit == "active"


def test_levels_must_ascend():
    with pytest.raises(ValidationError, match="must ascend"):
        RiskSettings(reduce_at=0.2)


def test_stop_distance():
    stop = StopSettings(fraction=0.02, volatilities=4)
    assert stop.distance(0.003) == pytest.approx(0.012)
    assert stop.distance(0.01) == 0.02
    assert stop.distance(float("nan")) == 0.02
    assert StopSettings(rule="volatility").distance(0.01) == pytest.approx(0.04)
    assert StopSettings(rule="volatility").distance(0.4) == 0.5
    assert StopSettings(rule="fraction").distance(0.001) == 0.02
