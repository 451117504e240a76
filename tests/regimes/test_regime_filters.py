"""Regime filters against hmmlearn, plain loops and hand-worked paths, and the three laws on each."""

import math
import warnings

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st

import regimes
from core.causal import Chain
from core.kinds import kinds_of
from core.messages import REGIMES
from core.table import FeatureTable
from regimes.hmm import HmmFilter, HmmSettings
from regimes.hysteresis import HysteresisFilter, HysteresisSettings
from regimes.naming import NamingSettings, name_states
from regimes.rules import RulesFilter, RulesSettings
from regimes.scores import accuracy, filter_of_path
from tests.conformance import check_laws

NAMES = ("trend", "trend", "chop", "stress")
REGIME_OF_STATE = np.array([REGIMES.index(name) for name in NAMES])
FEATURES = ("log_return_60", "realized_volatility_60", "cvd_change_60")
SETTINGS = HmmSettings(features=FEATURES, mirror=("log_return_60", "cvd_change_60"), starts=2)


def market(seed: int, n: int = 12_000, window: int = 60) -> tuple[FeatureTable, np.ndarray]:
    """One-second bars with a known path: trends up and down, chop, stress, under stochastic volatility."""
    rng = np.random.default_rng(seed)
    following = np.array(
        [[0.0, 0.2, 0.6, 0.2], [0.2, 0.0, 0.6, 0.2], [0.4, 0.4, 0.0, 0.2], [0.3, 0.3, 0.4, 0.0]]
    )
    dwell = np.array([500, 500, 700, 250])
    path = np.empty(n, dtype=np.int64)
    state, t = 2, 0
    while t < n:
        stay = max(60, int(rng.gamma(3, dwell[state] / 3)))
        path[t : t + stay] = state
        t += stay
        state = rng.choice(4, p=following[state])
    log_volatility = np.zeros(n)
    for i in range(1, n):
        log_volatility[i] = 0.98 * log_volatility[i - 1] + 0.03 * rng.standard_normal()
    level = np.array([1.2, 1.2, 0.8, 3.5])[path] * 1e-4
    drift = np.array([0.2, -0.2, 0.0, 0.0])[path] * level
    returns = drift + level * np.exp(log_volatility) * rng.standard_t(6, n) * math.sqrt(4 / 6)
    flow = np.array([0.3, -0.3, 0.0, 0.0])[path] + 0.7 * rng.standard_normal(n)

    def rolling(x: np.ndarray) -> np.ndarray:
        return np.append(
            np.full(window - 1, np.nan), np.lib.stride_tricks.sliding_window_view(x, window).mean(axis=1)
        )

    columns = (returns, rolling(returns) * window, np.sqrt(rolling(returns**2)), rolling(flow))
    return FeatureTable(np.arange(n) * 10**9, ("log_return_1", *FEATURES), np.column_stack(columns)), path


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    return market(1)[0]


@pytest.fixture(scope="module")
def fitted(table: FeatureTable) -> HmmFilter:
    return SETTINGS.fit_posterior(table, 7)


def hmmlearn_model(f: HmmFilter) -> GaussianHMM:
    model = GaussianHMM(len(f.names), "full", implementation="log")
    model.startprob_, model.transmat_, model.means_, model.covars_ = (
        f.start,
        f.transition,
        f.means,
        f.covariances,
    )
    return model


def random_filter(rng: np.random.Generator, k: int, d: int) -> HmmFilter:
    roots = rng.standard_normal((k, d, d)) + 2 * np.eye(d)
    return HmmFilter(
        inputs=tuple(f"x{j}" for j in range(d)),
        names=(*REGIMES, *rng.choice(REGIMES, k - 3)),
        start=rng.dirichlet(np.ones(k)),
        transition=rng.dirichlet(np.ones(k), k),
        means=3 * rng.standard_normal((k, d)),
        covariances=roots @ roots.transpose(0, 2, 1),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 5))
def test_posterior_is_hmmlearns_of_the_last_point_on_every_prefix(seed: int, k: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    f = random_filter(rng, k, d)
    xs = 3 * rng.standard_normal((25, d))
    ours = f.run(xs)
    model = hmmlearn_model(f)
    for t in range(len(xs)):
        states = model.predict_proba(xs[: t + 1])[-1]
        expected = [states[[name == regime for name in f.names]].sum() for regime in REGIMES]
        np.testing.assert_allclose(ours[t], expected, atol=1e-9)


def test_fitted_posterior_is_hmmlearns_on_prefixes(table: FeatureTable, fitted: HmmFilter) -> None:
    xs = table.columns(FEATURES)[100:1_600]
    ours = fitted.run(xs)
    assert fitted.scaler is not None
    model, z = hmmlearn_model(fitted), fitted.scaler(xs)
    for t in (0, 1, 2, 10, 99, 500, 1_000, 1_499):
        states = model.predict_proba(z[: t + 1])[-1]
        expected = [states[[name == regime for name in fitted.names]].sum() for regime in REGIMES]
        np.testing.assert_allclose(ours[t], expected, atol=1e-9)


def test_observations_far_out_neither_fail_nor_vanish() -> None:
    f = random_filter(np.random.default_rng(3), 4, 2)
    out = f.run(np.array([[0.0, 0.0], [1e6, -1e6], [1e150, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(out.sum(axis=1), 1.0)
    assert np.all(out >= 0)


def test_a_missing_row_carries_the_prediction() -> None:
    f = random_filter(np.random.default_rng(4), 4, 2)
    xs = np.random.default_rng(5).standard_normal((6, 2))
    xs[0] = np.nan
    xs[4, 1] = np.inf
    out = f.run(xs)
    assert np.all(np.isnan(out[0]))
    states = hmmlearn_model(f).predict_proba(xs[1:4])[-1] @ f.transition
    expected = [states[[name == regime for name in f.names]].sum() for regime in REGIMES]
    np.testing.assert_allclose(out[4], expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_states_are_named_right_on_ten_markets(seed: int) -> None:
    table, path = market(seed)
    fitted = SETTINGS.fit_posterior(table, 7)
    assert set(fitted.names) == set(REGIMES)
    # A name is right if, of the true regimes, the one it stands for is the commonest among its certain bars,
    # compared with how common that regime is anyway.
    posterior, truth = fitted.run(table.columns(FEATURES)), REGIME_OF_STATE[path]
    for regime in range(3):
        certain = posterior[:, regime] > 0.9
        lift = [np.mean(truth[certain] == r) / np.mean(truth == r) for r in range(3)]
        assert int(np.argmax(lift)) == regime


def test_fit_comes_near_the_filter_that_knows_the_path() -> None:
    ratios = []
    for seed in range(3):
        (table, path), (later, truth) = market(seed), market(100 + seed)
        known = Chain(filter_of_path(SETTINGS, table, path, NAMES), SETTINGS.hysteresis.build())
        scores = [
            accuracy(f.run(later.columns(FEATURES))[:, 3], REGIME_OF_STATE[truth])
            for f in (SETTINGS.fit(table, 7), known)
        ]
        ratios.append(scores[0] / scores[1])
    assert np.mean(ratios) > 0.9


def test_fit_is_the_same_twice_and_ignores_what_follows(table: FeatureTable, fitted: HmmFilter) -> None:
    again = SETTINGS.fit_posterior(table.between(0, int(table.ts[-1]) + 1), 7)
    np.testing.assert_array_equal(again.means, fitted.means)
    np.testing.assert_array_equal(again.transition, fitted.transition)


def test_three_states_and_diagonal_covariances_fit_too(table: FeatureTable) -> None:
    for changed in ({"n_states": 3}, {"n_states": 4, "covariance": "diag"}, {"n_states": 6}):
        fitted = HmmSettings(features=FEATURES, **changed).fit(table, 7)
        assert set(fitted.first.names) == set(REGIMES)


def test_holes_and_thinning(table: FeatureTable) -> None:
    values = table.values.copy()
    values[::97] = np.nan
    holed = FeatureTable(table.ts, table.names, values)
    fitted = HmmSettings(features=FEATURES, max_rows=5_000).fit(holed, 7)
    assert set(fitted.first.names) == set(REGIMES)


def test_a_market_without_stress_is_reported() -> None:
    rng = np.random.default_rng(1)
    values = np.column_stack((rng.standard_normal(3_000), 1 + 0.01 * rng.random(3_000)))
    table = FeatureTable(np.arange(3_000), ("log_return_60", "realized_volatility_60"), values)
    with pytest.warns(UserWarning, match="no stress"):
        HmmSettings(features=table.names).fit(table, 7)


def test_spans_that_cannot_be_fitted_are_refused(table: FeatureTable) -> None:
    with pytest.raises(ValueError, match="longer span"):
        SETTINGS.fit(table.between(0, 100 * 10**9), 7)
    values = table.values.copy()
    values[:, table.names.index("cvd_change_60")] = 0.25
    with pytest.raises(ValueError, match="'cvd_change_60' is constant"):
        SETTINGS.fit(FeatureTable(table.ts, table.names, values), 7)
    with pytest.raises(ValueError, match="not among features"):
        HmmSettings(features=("log_return_60",))


def test_naming_by_hand() -> None:
    # Five states of two bars each; drift ratios 1, 6, 5, 1.5 among the calm.
    weights = np.repeat(np.eye(5), 2, axis=0)
    level = np.array([1.0, 1.2, 1.1, 1.3, 6.0])
    drift = np.array([1.0, 6.0, 5.0, 1.5, 20.0])
    direction = np.repeat(drift * level, 2) * np.tile([1.0, -1.0], 5)
    names, problems = name_states(weights, direction, np.repeat(level, 2), NamingSettings())
    assert names == ("chop", "trend", "trend", "chop", "stress")
    assert problems == ()
    order = [4, 2, 0, 3, 1]
    shuffled, _ = name_states(weights[:, order], direction, np.repeat(level, 2), NamingSettings())
    assert shuffled == tuple(names[i] for i in order)


@pytest.mark.parametrize(
    ("second", "name"),
    # The states outside the highest have a mean of (1 + 1 + second) / 3; the middle between it and 8, in
    # logarithms, is 4.32 for a second of 5 and 3.92 for one of 3.75.
    [(5.0, "stress"), (3.75, "trend")],
)
def test_a_state_is_stress_that_is_nearer_to_the_highest_than_to_the_rest(second: float, name: str) -> None:
    level = np.array([1.0, 8.0, 1.0, second])
    drift_ratio = np.array([1.0, 1.0, 5.0, 5.0])
    direction = np.repeat(drift_ratio * level, 2) * np.tile([1.0, -1.0], 4)
    weights = np.repeat(np.eye(4), 2, axis=0)
    names, problems = name_states(weights, direction, np.repeat(level, 2), NamingSettings())
    assert names == ("chop", "stress", "trend", name)
    assert problems == ()


@pytest.mark.parametrize(("highest", "stressed"), [(1.49, False), (1.51, True)])
def test_stress_is_half_again_as_volatile_as_the_rest_unless_told_otherwise(
    highest: float, stressed: bool
) -> None:
    weights, level = np.repeat(np.eye(3), 2, axis=0), np.repeat([1.0, 1.0, highest], 2)
    direction = level * np.repeat([1.0, 5.0, 1.0], 2)
    names, _ = name_states(weights, direction, level, NamingSettings())
    assert names == ("chop", "trend", "stress" if stressed else "chop")
    told, _ = name_states(weights, direction, level, NamingSettings(stress_ratio=1.6))
    assert told == ("chop", "trend", "chop")


def test_naming_says_what_is_lacking() -> None:
    weights = np.repeat(np.eye(3), 2, axis=0)
    names, problems = name_states(weights, np.ones(6), np.ones(6), NamingSettings())
    assert names == ("chop", "chop", "chop")
    assert [problem.split(":")[0] for problem in problems] == ["no stress", "no trend"]


def test_hysteresis_by_hand() -> None:
    f = HysteresisFilter(enter=0.6, leave=0.3, dwell=3)
    rows = [
        (0.5, 0.4, 0.1, -1),  # nobody reaches enter
        (np.nan, 0.7, 0.3, -1),  # nothing is known
        (0.7, 0.2, 0.1, 0),  # first decision
        (0.1, 0.8, 0.1, 0),  # dwell
        (0.1, 0.8, 0.1, 0),
        (0.1, 0.8, 0.1, 1),  # three bars stood
        (0.1, 0.1, 0.8, 1),
        (0.1, 0.1, 0.8, 1),
        (0.5, 0.4, 0.1, 1),  # trend is likelier, but short of enter, and chop above leave
        (0.45, 0.3, 0.25, 0),  # chop fell to leave: the likeliest takes over
        (np.nan, np.nan, np.nan, 0),
    ]
    xs = np.array(rows)
    assert f.run(xs[:, :3])[:, 0].tolist() == xs[:, 3].tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_every_decision_stands_for_its_dwell(seed: int, dwell: int) -> None:
    posterior = np.random.default_rng(seed).dirichlet(np.full(3, 0.3), 300)
    labels = HysteresisSettings(dwell=dwell).build().run(posterior)[:, 0]
    changes = np.flatnonzero(np.diff(labels))
    assert np.all(np.diff(changes) >= dwell)


def test_hysteresis_thresholds_must_leave_room() -> None:
    with pytest.raises(ValueError, match="not below enter"):
        HysteresisSettings(enter=0.5, leave=0.5)


def naive_rules(returns: np.ndarray, f: RulesFilter) -> list[int]:
    """The rules with moving averages of the price itself, over the whole past, bar by bar."""
    price = np.concatenate(([0.0], np.cumsum(returns)))
    p, q = 1 - 2 / (f.fast + 1), 1 - 2 / (f.slow + 1)
    k = np.arange(1, 5_000)
    unit = math.sqrt(math.pi / 2 * np.sum((q**k - p**k) ** 2))  # response of the cross to one return, summed
    fast = slow = short = long = 0.0
    labels = []
    for n, (r, level) in enumerate(zip(returns, price[1:], strict=True), start=1):
        fast += (1 - p) * (level - fast)
        slow += (1 - q) * (level - slow)
        short += max(1 - p, 1 / n) * (abs(r) - short)
        long += max(0.1 * (1 - q), 1 / n) * (abs(r) - long)
        if n < f.slow:
            labels.append(-1)
        elif short > f.stress_multiple * long:
            labels.append(2)
        else:
            labels.append(0 if abs(fast - slow) > f.trend_threshold * unit * short else 1)
    return labels


def test_rules_equal_moving_averages_of_the_price(table: FeatureTable) -> None:
    f = RulesFilter(("log_return_1",), 10, 50, 2.0, 1.5)
    returns = table.column("log_return_1")[:3_000]
    out = f.run(returns[:, None])
    labels = [-1 if np.isnan(row[0]) else int(np.argmax(row)) for row in out]
    assert labels == naive_rules(returns, f)
    assert {0, 1, 2} <= set(labels)


def test_rules_see_the_regimes_of_a_clear_market() -> None:
    rng = np.random.default_rng(1)
    calm = rng.standard_normal(1_500)
    returns = np.concatenate((calm, calm[:300] + 1.0, 6 * rng.standard_normal(60))) * 1e-4
    table = FeatureTable(np.arange(len(returns)), ("log_return_1",), returns[:, None])
    labels = RulesSettings().fit(table, 0).run(returns[:, None])[:, 3]
    assert np.mean(labels[200:1_500] == REGIMES.index("chop")) > 0.7
    assert np.mean(labels[1_600:1_800] == REGIMES.index("trend")) > 0.9
    assert np.mean(labels[1_830:] == REGIMES.index("stress")) > 0.9


def test_laws_hold(table: FeatureTable, fitted: HmmFilter) -> None:
    xs = table.columns(FEATURES)[:600]
    check_laws(fitted, xs)
    check_laws(Chain(fitted, HysteresisSettings().build()), xs)
    check_laws(HysteresisSettings().build(), np.random.default_rng(1).dirichlet(np.full(3, 0.4), 400))
    rules = RulesSettings().fit(table, 0)
    assert rules.outputs == ("p_trend", "p_chop", "p_stress", "regime")
    check_laws(rules, table.columns(("log_return_1",))[:800])


def test_every_detector_is_known(table: FeatureTable) -> None:
    detectors = kinds_of(regimes.RegimeSettings)
    assert {d.model_fields["kind"].default for d in detectors} >= {"hmm", "rules"}
    for detector in (SETTINGS, RulesSettings()):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert detector.fit(table, 1).inputs == detector.columns


def test_mirrored_fit_is_the_same_for_the_market_upside_down() -> None:
    table, _ = market(2)
    signed = ("log_return_60", "cvd_change_60")
    mirrored = HmmSettings(features=FEATURES, mirror=signed, starts=1)
    turned = table.values * np.where(np.isin(table.names, signed), -1.0, 1.0)
    upside_down = FeatureTable(table.ts, table.names, turned)
    a, b = (mirrored.fit_posterior(t, 7) for t in (table, upside_down))
    ours, theirs = a.run(table.columns(FEATURES)), b.run(upside_down.columns(FEATURES))
    np.testing.assert_allclose(ours, theirs, atol=0.02, equal_nan=True)
    with pytest.raises(ValueError, match="mirror"):
        HmmSettings(features=FEATURES, mirror=("log_return_5",))
