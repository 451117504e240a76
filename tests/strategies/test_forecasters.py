"""Labels, slices, calibration and logistic regression, against pandas, scikit-learn and worked examples."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from core.causal import load_filter
from core.kinds import by_kind
from core.table import FeatureTable
from strategies.forecasters import ForecastSettings, learned
from strategies.forecasters.base import forward_returns, labels
from strategies.forecasters.calibration import Calibration, calibrate, softmax
from strategies.forecasters.scores import auc, calibration_error
from tests.conformance import check_laws

LogisticForecast = by_kind(ForecastSettings)["logistic"]
SETTINGS = LogisticForecast(horizon=5, cost_bps=10)


def market(n: int, seed: int, signal: float) -> tuple[FeatureTable, np.ndarray]:
    """Three features, the first of which drifts the price over the bar to come, and the price."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x[:, 0] = pd.Series(x[:, 0]).ewm(span=10).mean() * 3
    r = 8e-4 * rng.normal(size=n)
    r[1:] += signal * x[:-1, 0]
    return FeatureTable(np.arange(n) * 10**9, ("a", "b", "c"), x), 100 * np.exp(np.cumsum(r))


def head(table: FeatureTable, n: int) -> FeatureTable:
    return FeatureTable(table.ts[:n], table.names, table.values[:n])


def test_forward_returns_and_labels_of_a_worked_example():
    price = np.array([100.0, 110.0, np.nan, 99.0, 110.0, 110.0])
    returns = forward_returns(price, 2)
    nan = np.nan
    np.testing.assert_allclose(returns, [nan, np.log(99 / 110), nan, np.log(110 / 99), nan, nan])
    np.testing.assert_array_equal(labels(returns, 0.1), [-1, 1, -1, 0, -1, -1])
    np.testing.assert_array_equal(labels(np.array([0.05, -0.05, 0.1, nan]), 0.1), [2, 2, 2, -1])


def test_forward_returns_beyond_the_data_are_unknown():
    assert np.isnan(forward_returns(np.array([1.0, 2.0]), 2)).all()


def test_the_threshold_is_a_multiple_of_the_round_trip():
    assert LogisticForecast(cost_bps=8, cost_multiple=1.5).threshold == pytest.approx(0.0012)


def test_examples_are_slices_in_time_that_share_no_row_and_no_price():
    table, price = market(2_000, 1, signal=0)
    table.values[100:110, 1] = np.nan
    price[500:503] = np.nan
    window, horizon = 8, SETTINGS.horizon
    data = by_kind(ForecastSettings)["lstm"](window=window, horizon=5).task(table, price)
    kept = np.delete(np.arange(2_000), range(100, 110))
    np.testing.assert_array_equal(data.rows, table.values[kept])
    expected = labels(forward_returns(price, horizon), SETTINGS.threshold)[kept]
    np.testing.assert_array_equal(data.targets, expected)
    for earlier, later in ((data.train, data.validation), (data.validation, data.calibration)):
        assert earlier[-1] + horizon < later[0] - (window - 1)
    for chosen in (data.train, data.validation, data.calibration):
        assert (data.targets[chosen] >= 0).all()
    assert data.train[0] == window - 1
    assert data.calibration[-1] == kept.size - 1 - horizon
    fitted_on = table.values[kept][: round(0.7 * kept.size)]
    np.testing.assert_allclose(data.mean, fitted_on.mean(axis=0))
    np.testing.assert_allclose(data.std, fitted_on.std(axis=0))


def test_examples_take_the_last_rows_and_the_named_columns():
    table, price = market(3_000, 1, signal=0)
    data = LogisticForecast(features=("c", "a"), horizon=5, max_rows=1_000).task(table, price)
    assert data.inputs == ("c", "a")
    np.testing.assert_array_equal(data.rows, table.values[-1_000:, [2, 0]])


def test_a_market_that_never_moves_beyond_the_cost_is_refused_with_numbers():
    table, price = market(2_000, 1, signal=0)
    with pytest.raises(ValueError, match=r"0 go up and 0 down by more than 500 bps within 5 bars"):
        LogisticForecast(horizon=5, cost_bps=500).fit(table, price, seed=1)


def test_prices_that_are_not_one_a_bar_are_refused():
    table, price = market(2_000, 1, signal=0)
    with pytest.raises(ValueError, match=r"2000 bars and prices of shape \(1999,\)"):
        SETTINGS.fit(table, price[1:], seed=1)


def draw(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Classes with the probabilities that the logits stand for."""
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)


def test_calibration_finds_the_slope_and_shift_that_a_model_got_wrong():
    rng = np.random.default_rng(2)
    true = rng.normal(size=(40_000, 3))
    found = calibrate(3 * true + np.array([1.5, 1.5, 0.0]), draw(true, rng))
    assert found.slope == pytest.approx(1 / 3, rel=0.05)
    assert found.shift == pytest.approx(-0.5, abs=0.05)


def test_calibration_of_a_model_that_knows_nothing_gives_the_base_rates():
    rng = np.random.default_rng(3)
    logits = 4 * rng.normal(size=(20_000, 3))
    rates = np.array((0.15, 0.15, 0.7))
    found = calibrate(logits, rng.choice(3, size=20_000, p=rates))
    weight, bias = found.fold(np.eye(3), np.zeros(3))
    p = softmax(logits @ weight.T + bias)
    np.testing.assert_allclose(p, np.broadcast_to(rates, p.shape), atol=0.03)


def test_a_slice_in_which_everything_went_up_gives_down_the_same_shift():
    logits = np.zeros((500, 3))
    weight, bias = calibrate(logits, np.zeros(500, dtype=np.int64)).fold(np.zeros((3, 1)), np.zeros(3))
    assert bias[0] == bias[1] > 0 == bias[2]
    np.testing.assert_array_equal(weight, 0)


def test_calibration_on_a_slice_that_never_moved_stays_finite():
    found = calibrate(np.random.default_rng(1).normal(size=(500, 3)), np.full(500, 2))
    assert -20 < found.shift < 0
    assert np.isfinite(found.slope)


def test_folding_into_a_layer_equals_calibrating_its_logits():
    rng = np.random.default_rng(4)
    rows, weight, bias = rng.normal(size=(50, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)
    found = calibrate(rows @ weight.T + bias, rng.integers(0, 3, 50))
    folded_weight, folded_bias = found.fold(weight, bias)
    expected = found.slope * (rows @ weight.T + bias) + found.shift * np.array([1, 1, 0])
    np.testing.assert_allclose(rows @ folded_weight.T + folded_bias, expected)


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_before_calibration_its_coefficients_minimise_the_penalised_log_loss(penalty, monkeypatch):
    """Against the gradient of the objective, written out: zero there, and larger beside it."""
    monkeypatch.setattr(learned, "calibrate", lambda scores, targets: Calibration(1.0, 0.0))
    table, price = market(4_000, 6, signal=3e-4)
    settings = LogisticForecast(horizon=5, cost_bps=10, penalty=penalty)
    task, model = settings.task(table, price), settings.fit(table, price, seed=1)
    rows, happened = task.scaled()[task.train], np.eye(3)[task.targets[task.train]]

    def gradient(weight: np.ndarray) -> float:
        error = softmax(rows @ weight.T + np.array(model.bias)) - happened
        return np.abs(error.T @ rows / len(rows) + penalty * weight).max()

    assert gradient(np.array(model.weight)) < 1e-5
    assert gradient(1.01 * np.array(model.weight)) > 1e-4


def test_the_penalty_is_that_of_the_lowest_log_loss_on_the_validation_slice():
    table, price = market(4_000, 9, signal=3e-4)
    task = SETTINGS.task(table, price)
    rows, happened = task.scaled(), task.targets
    losses = {}
    for penalty in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        model = LogisticForecast(horizon=5, cost_bps=10, penalty=penalty).fit(table, price, seed=1)
        theirs = LogisticRegression(C=1 / (penalty * len(task.train)), tol=1e-6, max_iter=1_000)
        theirs.fit(rows[task.train], happened[task.train])
        p = theirs.predict_proba(rows[task.validation])
        losses[-np.log(p[np.arange(len(p)), happened[task.validation]]).mean()] = model
    assert SETTINGS.fit(table, price, seed=1) == losses[min(losses)]


def test_a_class_that_the_training_slice_has_none_of_is_all_but_excluded():
    table, price = market(4_000, 6, signal=3e-4)
    settings = LogisticForecast(horizon=5, cost_bps=0)  # every bar moves beyond a cost of nothing
    assert (settings.task(table, price).targets != 2).all()
    p = settings.fit(table, price, seed=1).run(table.values)
    assert (p.sum(axis=1) > 0.99).all()
    assert auc(p[:-5, 0], labels(forward_returns(price, 5), 0.0)[:-5] == 0) > 0.65


@pytest.fixture(scope="module")
def fitted():
    table, price = market(24_000, 7, signal=3e-4)
    return table, price, SETTINGS.fit(head(table, 12_000), price[:12_000], seed=1)


def test_laws(fitted):
    table, _, model = fitted
    check_laws(model, table.values[:150])


def test_finds_a_planted_signal_out_of_sample_with_honest_probabilities(fitted):
    table, price, model = fitted
    p = model.run(table.values)[12_000:]
    happened = labels(forward_returns(price, 5), SETTINGS.threshold)[12_000:]
    p, happened = p[happened >= 0], happened[happened >= 0]
    assert auc(p[:, 0], happened == 0) > 0.7
    assert auc(p[:, 1], happened == 1) > 0.7
    assert calibration_error(p[:, 0], happened == 0) < 0.04


def test_finds_nothing_in_noise_and_says_the_base_rate():
    table, price = market(24_000, 8, signal=0)
    p = SETTINGS.fit(head(table, 12_000), price[:12_000], seed=1).run(table.values)[12_000:]
    happened = labels(forward_returns(price, 5), SETTINGS.threshold)[12_000:]
    known = happened >= 0
    assert auc(p[known, 0], happened[known] == 0) == pytest.approx(0.5, abs=0.03)
    assert np.abs(p[:, 0] - np.mean(happened[known] == 0)).max() < 0.06


def test_its_loop_equals_a_softmax_of_clipped_scaled_rows_and_repeats_on_missing_ones(fitted):
    table, _, model = fitted
    rows = table.values[:300].copy()
    rows[5] *= 100  # clipped
    rows[0] = np.nan
    rows[200:205, 1] = np.inf
    scaled = np.clip((rows - model.mean) / model.std, -model.clip, model.clip)
    expected = pd.DataFrame(softmax(scaled @ np.array(model.weight).T + model.bias)[:, :2])
    expected[~np.isfinite(rows).all(axis=1)] = np.nan
    np.testing.assert_allclose(model.run(rows), expected.ffill(), rtol=1e-12)
    assert np.isnan(model.run(rows)[0]).all()


def test_logistic_saved_and_loaded_is_the_same(fitted, tmp_path):
    fitted[2].save(tmp_path)
    assert load_filter(tmp_path) == fitted[2]
