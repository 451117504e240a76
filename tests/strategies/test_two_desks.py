"""Two desks on one instrument, whose venue knows one net position."""

import pytest
from nautilus_trader.model import QuoteTick

from strategies.governor import RiskSettings, StopSettings
from strategies.grid import GridSettings
from strategies.momentum import MomentumSettings
from strategies.sizing import SizingSettings
from tests.strategies.tiny_market import CHOP, START, TREND, S, Says, linear_perpetual, play, quotes

FIXED = SizingSettings(risk_fraction=0.01, volatility_target=None, kelly_fraction=None)
GRID = GridSettings(
    sizing=FIXED, levels=2, fair_half_life=3.0, spacing_volatilities=1.0, skew=0.0, break_levels=2.0
)
MOMENTUM = MomentumSettings(sizing=FIXED, horizon=100, stop_trigger="bid_ask")
STOP = StopSettings(rule="fraction", fraction=0.02)


def _positions(played):
    return {name: desk.position for name, desk in played.trader.desks.items()}


def test_a_stop_closes_its_own_desks_position_and_no_other():
    def says(i):
        up = 0.7 if i == 0 else 0.2
        return Says(regime=TREND if i < 3 else CHOP, volatility=0.01, up=up, down=0.1 if i == 0 else 0.2)

    keeps = MOMENTUM.model_copy(update={"on_leave": "reduce_only"})
    prices = [100.0] * 5 + [98.9] * 2 + [97.0] * 6
    played = play([keeps, GRID], prices, says, risk=RiskSettings(exposure_cap=2.0, stop=STOP))
    assert not played.failures
    bought = [f["qty"] for f in played.fills if f["strategy"] == "s0" and f["side"] > 0]
    (stop,) = [o for o in played.orders if o.tags[:2] == ["stop", "s0"] and o.filled_qty.as_double() > 0]
    assert stop.filled_qty.as_double() == sum(bought)
    held = _positions(played)
    assert held["s0"] == 0.0
    assert held["s1"] > 0
    assert played.net == pytest.approx(held["s1"])


@pytest.mark.parametrize("jump", [98.8, 101.3], ids=["bids filled", "offers filled"])
def test_nothing_is_added_while_the_other_desks_quotes_may_still_fill(jump):
    instrument, balance, cap = linear_perpetual(), 10_000.0, 0.5
    prices = [100.0] * 8

    def tick(price, at):
        bid, ask = (instrument.make_price(price + d) for d in (-0.1, 0.1))
        return QuoteTick(
            instrument.id, bid, ask, instrument.make_qty(1000), instrument.make_qty(1000), at, at
        )

    # Trend begins at the fourth close: the grid's cancels take 5 ms, and the jump comes while they travel.
    jumped = START + 4 * S + S // 10 + 2_000_000
    data = [*quotes(instrument, prices), tick(jump, jumped), tick(100.0, jumped + 1_500_000)]
    most = SizingSettings(risk_fraction=None, volatility_target=1e6, kelly_fraction=None)
    both = [MOMENTUM.model_copy(update={"sizing": most}), GRID.model_copy(update={"sizing": most})]

    def says(i):
        return Says(regime=CHOP if i < 3 else TREND, up=0.7, down=0.1, volatility=0.01)

    played = play(both, prices, says, risk=RiskSettings(exposure_cap=cap, stop=STOP), data=data)
    assert not played.failures
    assert any(f["strategy"] == "s1" for f in played.fills)
    held = _positions(played)
    assert held["s0"] * held["s1"] >= 0
    assert abs(played.net) * 100.0 <= cap * balance
