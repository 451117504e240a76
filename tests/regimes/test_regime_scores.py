"""Scores of detectors against hand-worked examples."""

import numpy as np
import pytest

from regimes.scores import accuracy, detection_lags, moments_by_regime, switches_per_day

TRUTH = np.array([1, 1, 1, 0, 0, 0, 0, 2, 2, 1])
LABELS = np.array([-1, 1, 1, 1, 1, 0, 0, 0, 0, 1.0])


def test_accuracy_and_lags_by_hand() -> None:
    assert accuracy(LABELS, TRUTH) == pytest.approx(5 / 9)
    assert detection_lags(LABELS, TRUTH).tolist() == [2.0, np.inf, 0.0]


def test_switches_per_day_by_hand() -> None:
    ts = np.arange(10) * 3_600 * 10**9
    assert switches_per_day(LABELS, ts) == pytest.approx(2 / (8 / 24))
    assert switches_per_day(np.full(10, -1.0), ts) == 0.0


def test_moments_are_of_the_next_bar() -> None:
    returns = np.array([0.0, 1.0, 3.0, 5.0, -2.0, 2.0, -2.0, 7.0, 9.0, 4.0])
    moments = moments_by_regime(LABELS, returns)
    assert moments["chop"]["share"] == pytest.approx(5 / 9)
    # The last bar has no next.
    assert moments["chop"]["mean_bps"] == pytest.approx(1e4 * np.mean([3.0, 5.0, -2.0, 2.0]))
    assert moments["trend"]["volatility_bps"] == pytest.approx(1e4 * np.std([-2.0, 7.0, 9.0, 4.0]))
    assert moments["chop"]["dwell_bars"] == pytest.approx(2.5)
    assert moments["stress"]["share"] == 0.0
    assert np.isnan(moments["stress"]["mean_bps"])
