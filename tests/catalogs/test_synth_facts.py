"""The synthetic market looks like a market: stylised facts (Cont 2001) and its own truth, on three seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis

from catalogs.synthetic.path import initial_path_state, path_params, simulate_path
from catalogs.synthetic.settings import BP
from catalogs.synthetic.writing import SynthSettings, simulate, true_parameters

SECOND = 1_000_000_000
HOURS = 4
TREND, CHOP, STRESS = 0, 1, 2


class Market:
    """Four hours: returns in basis points and trades, second by second, beside the truth."""

    def __init__(self, seed):
        self.settings = SynthSettings(seed=seed, duration=f"{HOURS}h")
        (stretch,) = simulate(self.settings, self.settings.seconds)
        flow, truth = stretch.perpetual, stretch.truth
        self.flow, self.seconds = flow, self.settings.seconds
        self.regime, self.direction, self.volatility, self.price = truth.value.T
        self.returns = np.diff(np.log(flow.mid), prepend=np.log(self.settings.base_price)) / BP
        self.side = flow.trades["side"].astype(float)
        self.second = np.minimum((flow.trades["ts"] - self.settings.start) // SECOND, self.seconds - 1)
        self.count = np.bincount(self.second, minlength=self.seconds)
        self.signed = np.bincount(self.second, weights=self.side, minlength=self.seconds)

    def spread_and_depth(self):
        """Spread (bp) and lots of the five best levels, as the deltas' last state of each second says."""
        deltas = self.flow.deltas
        deltas = deltas[deltas["ts"] < self.settings.start + 3600 * SECOND]
        book, rows = {1: {}, -1: {}}, {}
        second = (deltas["ts"] - self.settings.start) // SECOND
        ends = np.append(np.diff(second) > 0, True)
        columns = (deltas[name].tolist() for name in ("side", "price", "size"))
        for side, price, size, at, end in zip(*columns, second.tolist(), ends.tolist(), strict=True):
            if side and size:
                book[side][price] = size
            elif side:
                del book[side][price]
            if end:
                bids, asks = sorted(book[1], reverse=True)[:5], sorted(book[-1])[:5]
                lots = sum(book[1][p] for p in bids) + sum(book[-1][p] for p in asks)
                rows[at] = ((asks[0] - bids[0]) / bids[0] / BP, lots)
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["spread", "depth"])
        return table.assign(regime=self.regime[table.index])


@pytest.fixture(scope="module", params=[1, 2, 3])
def market(request):
    return Market(request.param)


def _acf(x, lag, where=None):
    """Autocorrelation at ``lag`` of the pairs that lie in ``where``."""
    where = np.ones(len(x), bool) if where is None else where
    x = x - x[where].mean()
    pairs = where[lag:] & where[:-lag]
    return (x[lag:] * x[:-lag])[pairs].mean() / (x[where] ** 2).mean()


def _within(mask, size):
    """Stretches of ``size`` seconds that lie wholly in ``mask``."""
    return mask.reshape(-1, size).all(axis=1)


class TestReturns:
    def test_fat_tails_that_thin_with_the_horizon(self, market):
        minutes = market.returns.reshape(-1, 60).sum(axis=1)
        assert kurtosis(market.returns) > 5
        assert 0.5 < kurtosis(minutes) < kurtosis(market.returns)
        assert kurtosis(market.returns[market.regime == CHOP]) > 1  # not only because regimes are mixed

    def test_volatility_clusters(self, market):
        size = np.abs(market.returns)
        assert all(_acf(size, lag) > 0.1 for lag in (1, 2, 5, 10, 20, 40))
        chop = market.regime == CHOP
        assert np.mean([_acf(size, lag, chop) for lag in range(1, 21)]) > 0.02

    def test_chop_returns_are_hardly_autocorrelated(self, market):
        chop = market.regime == CHOP
        assert max(abs(_acf(market.returns, lag, chop)) for lag in range(1, 11)) < 0.06
        tens = market.returns.reshape(-1, 10).sum(axis=1)
        assert abs(_acf(tens, 1, _within(chop, 10))) < 0.12  # the standard error is 0.04

    def test_falls_raise_volatility(self, market):
        size, cause = np.abs(market.returns), market.returns
        effect = [np.corrcoef(cause[:-lag], size[lag:])[0, 1] for lag in range(1, 11)]
        before = [np.corrcoef(cause[lag:], size[:-lag])[0, 1] for lag in range(1, 11)]
        assert np.mean(effect) < -0.01
        assert np.mean(effect) < np.mean(before) - 0.005


class TestFlow:
    def test_spread_and_depth_move_with_stress(self, market):
        table = market.spread_and_depth()
        if (table["regime"] == STRESS).sum() < 60:
            pytest.skip("no stress in the first hour of this seed")
        by_regime = table.groupby("regime").mean()
        assert by_regime["spread"][STRESS] > 1.8 * by_regime["spread"][CHOP]
        assert by_regime["depth"][STRESS] < 0.6 * by_regime["depth"][CHOP]
        assert (table["spread"] > 0).all()
        assert np.corrcoef(np.log(table["spread"]), np.log(market.volatility[table.index]))[0, 1] > 0.3

    def test_signs_persist(self, market):
        assert _acf(market.side, 1) > 0.15
        assert _acf(market.side, 20) > 0.01

    def test_arrivals_are_overdispersed(self, market):
        waits = np.diff(np.unique(market.flow.trades["ts"]))
        assert waits.std() > 1.2 * waits.mean()
        chop = market.count[market.regime == CHOP]
        assert chop.var() > 1.5 * chop.mean()  # a Poisson process has 1

    def test_flow_moves_with_price_and_leads_trends(self, market):
        assert np.corrcoef(market.signed, market.returns)[0, 1] > 0.2
        lean = pd.Series(market.signed).rolling(60).sum() / pd.Series(market.count).rolling(60).sum()
        ahead = pd.Series(market.returns).rolling(60).sum().shift(-60)
        trend = (pd.Series(market.regime == TREND).rolling(60).min() == 1) & ahead.notna()
        told = np.corrcoef(lean[trend], ahead[trend])[0, 1]
        assert 0.1 < told < 0.7

    def test_sizes_are_heavy_tailed(self, market):
        size = market.flow.trades["size"]
        assert size.mean() > 1.7 * np.median(size)
        assert np.quantile(size, 0.999) > 20 * np.median(size)

    def test_events_a_second(self, market):
        events = len(market.flow.deltas) + len(market.flow.trades)
        assert 90 < events / market.seconds < 250


class TestTruth:
    def test_true_volatility_is_that_of_the_efficient_price(self, market):
        moves = np.diff(np.log(market.price))
        for regime in (TREND, CHOP, STRESS):
            here = (market.regime == regime)[1:]
            ratio = np.sqrt(((moves / market.volatility[1:])[here] ** 2).mean())
            assert 0.85 < ratio < 1.15

    def test_the_mid_follows_the_efficient_price(self, market):
        gap = np.log(market.flow.mid / market.price) / BP
        assert abs(gap.mean()) < 0.05
        assert gap.std() < 0.5

    def test_trends_go_their_way(self, market):
        sign = market.direction[market.regime == TREND]
        moves = market.returns[market.regime == TREND] * sign
        drift = true_parameters(market.settings)["drift"][TREND] / BP
        assert moves.mean() == pytest.approx(drift, abs=3.5 * moves.std() / np.sqrt(len(moves)))
        assert moves.mean() > 0

    def test_regimes_show_but_do_not_shout(self, market):
        """A threshold on volatility tells trend from chop better in a minute than in a second."""

        def accuracy(window):
            rough = pd.Series(market.returns**2).rolling(window).mean()
            known = (pd.Series(market.regime).rolling(window).std() == 0) if window > 1 else rough.notna()
            keep = known & (market.regime != STRESS)
            rough, trend = rough[keep].to_numpy(), (market.regime == TREND)[keep]
            cuts = np.quantile(rough, np.linspace(0.1, 0.9, 33))
            return max(np.mean((rough > cut) == trend) for cut in cuts)

        assert accuracy(1) < 0.78
        assert accuracy(1) + 0.05 < accuracy(60) < 0.99


def test_long_run_of_the_path():
    """Stays, transitions and volatility of 400 hours against the settings, without a dwell_minimum."""
    settings = SynthSettings(seed=4, dwell_minimum="1s")
    params = path_params(settings)
    rng = np.random.Generator(np.random.PCG64(4))
    path = simulate_path(params, initial_path_state(settings), rng, 400 * 3600)
    code = path.regime.astype(int)
    # A stress that ends begins something else, so every stay is a run of one regime.
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    lengths, names = np.diff(np.append(starts, len(code)))[:-1], code[starts]
    told = true_parameters(settings)
    for regime in (TREND, CHOP, STRESS):
        stays = lengths[names[:-1] == regime]
        assert stays.mean() == pytest.approx(told["dwell"][regime], rel=0.1)
        assert stays.std() / stays.mean() == pytest.approx(1 / np.sqrt(settings.dwell_shape), rel=0.15)
        after = names[1:][names[:-1] == regime]
        shares = np.bincount(after, minlength=3) / len(after)
        assert shares == pytest.approx(params.next_regime[regime], abs=0.06)
        sigma = path.volatility.reshape(-1, 10)[code == regime]
        assert np.sqrt((sigma**2).mean()) == pytest.approx(params.volatility[regime], rel=0.05)
    assert np.bincount(code, minlength=3) / len(code) == pytest.approx(told["stationary"], abs=0.03)
    up = (path.direction > 0).sum() / (code == TREND).sum()
    assert up == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("fast", "slow", "seconds"), [(0.2, 0.0, 20.0), (0.0, 0.12, 900.0)])
def test_what_volatility_does_next_correlates_with_the_return_as_told(fast, slow, seconds):
    settings = SynthSettings(volatility_fast=fast, volatility_slow=slow, leverage=-0.6, tail=1e6, jumps=0.0)
    state = initial_path_state(settings)
    state["remaining"] = 10_000
    rng = np.random.Generator(np.random.PCG64(8))
    path = simulate_path(path_params(settings), state, rng, 10_000)
    shock = np.diff(path.log_price) / path.volatility[1:]
    level = np.log(path.volatility[1:])
    news = level[1:] - np.exp(-0.1 / seconds) * level[:-1]  # of an Ornstein-Uhlenbeck process
    assert np.corrcoef(shock[:-1], news)[0, 1] == pytest.approx(-0.6, abs=0.01)
    assert news.std() == pytest.approx(max(fast, slow) * np.sqrt(1 - np.exp(-0.2 / seconds)), rel=0.02)


def test_rate_brings_more_events_and_no_more_volume():
    calm = {"duration": "20m", "seed": 9}
    (base,), (fast,) = (list(simulate(SynthSettings(**calm, rate=rate))) for rate in (1.0, 6.0))
    assert (len(fast.perpetual.deltas) + len(fast.perpetual.trades)) / 1200 > 450
    assert fast.perpetual.volume.sum() == pytest.approx(base.perpetual.volume.sum(), rel=0.4)


def test_chop_feeds_a_grid_before_fees():
    """Sixty hours of nothing but chop: variance grows slower than time, and selling what stands high pays."""
    settings = SynthSettings(seed=6)
    state = initial_path_state(settings)
    state["remaining"] = 60 * 3600
    rng = np.random.Generator(np.random.PCG64(6))
    path = simulate_path(path_params(settings), state, rng, 60 * 3600)
    assert set(path.regime) == {CHOP}
    price = pd.Series(path.log_price[9::10]) / BP
    growth = price.diff(600).var() / (600 * price.diff().var())
    assert 0.1 < growth < 0.6  # 1 for a martingale
    held = -(price - price.ewm(span=600).mean()).shift()
    earned = (held * price.diff()).to_numpy()[1:]
    hours = np.array([part.sum() for part in np.array_split(earned, 60)])
    assert hours.mean() > 4 * hours.std() / np.sqrt(len(hours))
