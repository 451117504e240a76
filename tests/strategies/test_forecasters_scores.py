"""Scores against scikit-learn and worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

from strategies.forecasters.scores import Decile, auc, brier, calibration_error, confidence_deciles

forecasts = st.lists(
    st.tuples(st.integers(0, 8).map(lambda i: i / 8), st.booleans()), min_size=4, max_size=60
)


@given(forecasts)
@settings(max_examples=25, deadline=None)
def test_auc_and_brier_equal_scikit_learn_with_ties(pairs):
    p, happened = np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])
    assert brier(p, happened) == pytest.approx(brier_score_loss(happened, p, pos_label=True))
    if 0 < happened.sum() < len(happened):
        assert auc(p, happened) == pytest.approx(roc_auc_score(happened, p))
    else:
        assert np.isnan(auc(p, happened))


def test_calibration_error_equals_scikit_learns_curve_of_equal_groups():
    rng = np.random.default_rng(1)
    p = rng.permutation(np.arange(1, 1_001) / 1_001)
    happened = rng.random(1_000) < p**2
    observed, forecast = calibration_curve(happened, p, n_bins=10, strategy="quantile")
    assert calibration_error(p, happened) == pytest.approx(np.abs(observed - forecast).mean(), abs=2e-3)


def test_calibration_error_of_a_worked_example():
    p = np.array([0.1, 0.3, 0.6, 0.8])
    happened = np.array([False, True, True, True])
    assert calibration_error(p, happened, bins=2) == pytest.approx((abs(0.2 - 0.5) + abs(0.7 - 1.0)) / 2)


def test_bars_without_a_forecast_are_left_out():
    p = np.array([np.nan, 0.2, 0.9, np.nan])
    happened = np.array([True, False, True, False])
    assert auc(p, happened) == 1.0
    assert brier(p, happened) == pytest.approx((0.04 + 0.01) / 2)


def test_deciles_of_a_worked_example():
    p_up = np.array([0.9, 0.1, 0.3, np.nan, 0.2])
    p_down = np.array([0.05, 0.6, 0.2, 0.1, 0.1])
    returns = np.array([0.01, -0.02, -0.01, 0.5, np.nan])
    low, high = confidence_deciles(p_up, p_down, returns, cost=0.002, groups=2)
    # least sure: up at 0.3 and down at 0.6; surest: up at 0.9
    assert low == Decile(pytest.approx(0.45), 2, 0.5, pytest.approx((-0.012 + 0.018) / 2))
    assert high == Decile(pytest.approx(0.9), 1, 1.0, pytest.approx(0.008))


def test_no_forecast_at_all_has_no_deciles():
    nothing = np.full(3, np.nan)
    assert confidence_deciles(nothing, nothing, np.zeros(3), cost=0.0) == []
    assert np.isnan(brier(nothing, np.ones(3)))
    assert np.isnan(calibration_error(nothing, np.ones(3)))
