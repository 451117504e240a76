"""Sizing rules and caps against hand-worked numbers, for linear and inverse contracts."""

import dataclasses
import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.contracts import ContractSpec
from strategies.sizing import Bet, Sized, SizingRule, SizingSettings, cap, smallest
from strategies.sizing.fixed_fractional import fixed_fractional
from strategies.sizing.kelly import fractional_kelly, kelly_leverage
from strategies.sizing.volatility_target import volatility_target

LINEAR = ContractSpec(
    False, 1.0, 0.1, 0.001, 1, 3, min_quantity=0.001, max_quantity=1_000.0, min_notional=5.0
)
INVERSE = ContractSpec(True, 1.0, 0.5, 100.0, 1, 0, min_quantity=100.0)  # as BitMEX XBTUSD

price = st.floats(1.0, 1e5)
equity = st.floats(1.0, 1e7)


def test_linear_contract_is_worth_price_times_multiplier():
    assert LINEAR.value(50_000) == 50_000
    assert LINEAR.profit(50_000, 49_000) == -1_000


def test_inverse_contract_pays_in_the_base_currency():
    assert INVERSE.value(10_000) == pytest.approx(1e-4)
    # 10,000 contracts bought at 10,000 and sold at 12,500: 1 BTC paid for 0.8 BTC, 0.2 BTC made.
    assert 10_000 * INVERSE.profit(10_000, 12_500) == pytest.approx(0.2)


def test_the_average_entry_of_an_inverse_contract_is_the_harmonic_mean():
    assert LINEAR.average(10_000, 1, 12_000, 3) == pytest.approx(11_500)
    # 1,000 contracts cost 0.1 BTC, 1,000 more 0.083333: 2,000 for 0.183333, and at 11,000 they make 0.001515.
    entry = INVERSE.average(10_000, 1_000, 12_000, 1_000)
    assert entry == pytest.approx(10_909.0909)
    assert 2_000 * INVERSE.profit(entry, 11_000) == pytest.approx(0.1 + 1_000 / 12_000 - 2_000 / 11_000)


def test_fixed_fractional_loses_the_fraction_at_the_stop():
    # 1 % of 10,000 is 100; a 2 % stop on 50,000 costs 1,000 a coin: a tenth of a coin.
    assert fixed_fractional(10_000, 0.01, 50_000, 49_000, LINEAR) == pytest.approx(0.1)
    # Inverse long, 10,000 -> 9,800: 1/9,800 - 1/10,000 = 2.0408e-6 BTC a contract; 0.01 BTC may be lost.
    assert fixed_fractional(1.0, 0.01, 10_000, 9_800, INVERSE) == pytest.approx(4_900)


@pytest.mark.parametrize("spec", [LINEAR, INVERSE])
def test_fixed_fractional_of_a_short_counts_the_loss_above(spec):
    contracts = fixed_fractional(10.0, 0.02, 8_000, 8_400, spec)
    assert -contracts * spec.profit(8_000, 8_400) == pytest.approx(-0.2)


def test_volatility_target_scales_notional_by_target_over_forecast():
    # 40 % wanted of an 80 % market: half of equity in notional.
    assert volatility_target(10_000, 0.4, 0.8, 50_000, LINEAR) == pytest.approx(0.1)
    assert volatility_target(1.0, 0.4, 0.8, 10_000, INVERSE) == pytest.approx(5_000)
    assert volatility_target(1.0, 0.4, math.nan, 10_000, INVERSE) == 0.0


def test_kelly_of_an_even_bet():
    # Evens, 60:40, all staked on a loss of 100 %: the textbook 20 %.
    assert kelly_leverage(0.6, 0.4, 1.0, 1.0) == pytest.approx(0.2)
    # The same edge on a 2 % move: fifty times as much.
    assert kelly_leverage(0.6, 0.4, 0.02, 0.02) == pytest.approx(10.0)
    assert kelly_leverage(0.4, 0.6, 1.0, 1.0) == 0.0
    assert kelly_leverage(math.nan, 0.4, 1.0, 1.0) == 0.0


@given(st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.floats(0.005, 0.1), st.floats(0.005, 0.1))
@settings(max_examples=25, deadline=None)
def test_kelly_maximises_expected_log_growth(win, loss, gain, stop):
    win, loss = win / 2, loss / 2  # leaves room for the outcome in between

    def growth(f):
        return win * math.log1p(f * gain) + loss * math.log1p(-f * stop)

    best = kelly_leverage(win, loss, gain, stop)
    assert best < 1 / stop
    for other in (best * 0.9, best * 1.1, best + 0.01):
        assert growth(best) >= growth(min(other, 0.999 / stop)) - 1e-12


def test_fractional_kelly_bets_its_fraction_of_the_leverage():
    # p 0.5 : 0.3, stop 2 %, win 1.5 times that: f = (0.5/0.02 - 0.3/0.03) / 0.8 = 18.75; a tenth of it.
    contracts = fractional_kelly(10_000, 0.1, 0.5, 0.3, 1.5, 50_000, 49_000, LINEAR)
    assert contracts == pytest.approx(1.875 * 10_000 / 50_000)


def test_the_smallest_answer_binds_and_is_named():
    assert smallest([Sized(3, "a"), Sized(2, "b"), Sized(2, "c")]) == (2, "b")
    assert smallest([Sized(3, "a"), Sized(math.nan, "b")]) == (0.0, "b")
    assert smallest([Sized(-1, "a")]) == (0.0, "a")
    with pytest.raises(ValueError, match="no rule"):
        smallest([])


MOST = Sized(100.0, "exposure_cap")


def test_rules_speak_as_configured():
    full = SizingSettings(risk_fraction=0.01, volatility_target=0.4, kelly_fraction=0.1)
    bet = Bet(LINEAR, 10_000, 50_000, 49_000, 0.8, win=0.5, loss=0.3)
    assert [rule.kind for rule in full.speaking] == ["fixed_fractional", "volatility_target", "kelly"]
    assert [rule.contracts(bet) for rule in full.speaking] == pytest.approx([0.1, 0.1, 0.375])
    assert full.speaking[2].contracts(bet._replace(win=None, loss=None)) is None
    none = full.model_copy(update=dict.fromkeys(("risk_fraction", "volatility_target", "kelly_fraction")))
    assert none.size(bet, MOST) == MOST


def test_the_smallest_of_rules_and_caps_binds_and_is_named():
    bet = Bet(LINEAR, 10_000, 50_000, 49_000, 0.8, win=0.5, loss=0.3)
    sizing = SizingSettings(risk_fraction=0.02, volatility_target=0.4, kelly_fraction=0.1)
    assert sizing.size(bet, MOST) == (pytest.approx(0.1), "volatility_target")
    # Governor and gate scale what rules say, not the caps.
    assert sizing.size(bet, MOST, 0.5) == (pytest.approx(0.05), "volatility_target")
    assert sizing.size(bet, Sized(0.08, "leverage"), 0.5) == (pytest.approx(0.05), "volatility_target")
    assert sizing.size(bet, Sized(0.04, "leverage"), 0.5) == (0.04, "leverage")


class OwnRule(SizingRule):
    """Three hundredths of a contract: a rule of somebody's own."""

    kind: Literal["tested"] = "tested"

    def contracts(self, bet):
        return 0.03


def test_a_rule_of_ones_own_speaks_by_its_kind():
    sizing = SizingSettings.model_validate(
        {"volatility_target": None, "kelly_fraction": None, "rules": [{"kind": "tested"}, {"kind": "kelly"}]}
    )
    assert [rule.kind for rule in sizing.speaking] == ["fixed_fractional", "tested", "kelly"]
    bet = Bet(LINEAR, 10_000, 50_000, 49_000, 0.8)
    assert sizing.size(bet, MOST) == (0.03, "tested")
    with pytest.raises(ValueError, match="untested"):
        SizingSettings.model_validate({"rules": [{"kind": "untested"}]})


def test_caps_by_hand():
    # Equity 10,000, price 50,000: 5x leverage is one coin, 2x exposure 0.4.
    assert cap(LINEAR, 10_000, 50_000, 5, 2, None) == (pytest.approx(0.4), "exposure_cap")
    assert cap(LINEAR, 10_000, 50_000, 1, 2, None) == (pytest.approx(0.2), "leverage")
    assert cap(LINEAR, 10_000, 50_000, 5, 2, 0.3) == (0.3, "max_quantity")
    assert cap(LINEAR, 1e12, 50_000, 5, 2, None) == (1_000.0, "max_quantity")  # the venue's own
    assert cap(INVERSE, 2.0, 10_000, 5, 2, None) == (pytest.approx(40_000), "exposure_cap")


@pytest.mark.parametrize("spec", [LINEAR, INVERSE])
@given(q=st.floats(0, 1e6), p=price)
@settings(max_examples=25, deadline=None)
def test_rounding_never_adds_and_prices_stay_passive(spec, q, p):
    assert spec.floor_quantity(q) <= q * (1 + 1e-9) + spec.size_increment * 1e-6
    assert q - spec.floor_quantity(q) < spec.size_increment * (1 + 2e-6) or q > spec.max_quantity
    slack = spec.price_increment * 2e-6
    assert spec.floor_price(p) <= p + slack
    assert spec.ceil_price(p) >= p - slack
    assert spec.ceil_price(p) - spec.floor_price(p) <= spec.price_increment * (1 + 2e-6)


def test_rounding_keeps_exact_multiples():
    assert LINEAR.floor_quantity(0.3) == 0.3  # 0.3 / 0.001 is 299.99999999999994 in binary
    assert LINEAR.floor_quantity(0.1 + 0.2) == 0.3
    assert INVERSE.floor_quantity(399.9) == 300
    assert LINEAR.floor_price(100.1) == LINEAR.ceil_price(100.1) == 100.1


def test_minimums():
    assert LINEAR.below_minimum(0.0, 50_000) == "min_quantity"
    assert LINEAR.below_minimum(0.001, 4_000) == "min_notional"
    assert LINEAR.below_minimum(0.001, 5_000) == ""
    assert INVERSE.below_minimum(100, 10_000) == ""
    # A contract of 1 USD: 400 of them are 400 USD at any price, though 0.04 BTC at one and 0.01 at another.
    inverse = dataclasses.replace(INVERSE, min_notional=400.0)
    for price in (0.5, 10_000, 40_000):
        assert inverse.below_minimum(300, price) == "min_notional"
        assert inverse.below_minimum(400, price) == ""
    assert dataclasses.replace(inverse, multiplier=10.0).below_minimum(100, 10_000) == ""


@given(equity, price, st.floats(0.01, 0.3), st.floats(0.1, 3), st.floats(0.2, 0.5), st.floats(0.05, 0.2))
@settings(max_examples=25, deadline=None)
def test_more_equity_never_means_less_and_more_volatility_never_means_more(e, p, stop, vol, win, loss):
    def size(e, vol):
        bet = Bet(LINEAR, e, p, p * (1 - stop), vol, win, loss)
        return SizingSettings().size(bet, cap(LINEAR, e, p, 10, 2, None)).quantity

    assert size(e * 2, vol) >= size(e, vol)
    assert size(e, vol * 2) <= size(e, vol)
    assert size(e, vol) * LINEAR.value(p) <= 2 * e * (1 + 1e-9)
