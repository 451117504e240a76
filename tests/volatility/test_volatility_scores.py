"""Scores against hand-worked examples and plain loops."""

import math

import numpy as np
import pytest

from volatility.scores import diebold_mariano, log_error, qlike, qlike_losses, realized_variance


def test_realized_variance_is_of_the_bars_that_follow() -> None:
    returns = np.array([9.0, 1.0, 2.0, 3.0, np.nan, 1.0])
    np.testing.assert_array_equal(realized_variance(returns, 2), [5.0, 13.0, np.nan, np.nan, np.nan, np.nan])
    assert np.all(np.isnan(realized_variance(returns, 6)))


def test_qlike_by_hand() -> None:
    forecast, realized = np.array([1.0, 2.0, 1.0, np.nan]), np.array([1.0, 1.0, 0.0, 1.0])
    expected = 0.5 - math.log(0.5) - 1
    np.testing.assert_allclose(qlike_losses(forecast, realized), [0.0, expected, np.nan, np.nan])
    assert qlike(forecast, realized) == pytest.approx(expected / 2)
    assert log_error(forecast, realized) == pytest.approx(math.log(2) ** 2 / 2)


def test_qlike_is_lowest_at_the_true_variance() -> None:
    realized = np.random.default_rng(1).chisquare(5, 20_000) / 5
    losses = [qlike(np.full(len(realized), level), realized) for level in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)


def test_diebold_mariano_against_the_plain_t_statistic_and_under_the_null() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(5_000) + 0.1, rng.standard_normal(5_000)
    statistic, p = diebold_mariano(a, b, 1)
    plain = (a - b).mean() / ((a - b).std() / math.sqrt(5_000))
    assert statistic == pytest.approx(plain, rel=0.05)
    assert p < 0.01
    # Losses that hang together: a naive t-test rejects the true null in most samples, this one seldom.
    rejected = 0
    for _ in range(200):
        d = np.convolve(rng.standard_normal(1_029), np.ones(30), mode="valid")
        rejected += diebold_mariano(d, np.zeros(1_000), 30)[1] < 0.05
    assert rejected < 40


@pytest.mark.parametrize("horizon", [1, 4, 90])
def test_diebold_mariano_is_the_mean_over_its_newey_west_error(horizon: int) -> None:
    rng = np.random.default_rng(4)
    a, b = np.convolve(rng.standard_normal(63), np.ones(4), mode="valid") + 0.5, rng.standard_normal(60)
    d = a - b
    # The variance of a mean is the sum over all pairs; a pair `lag` bars apart has the weight of Bartlett.
    lag = np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    weight = np.clip(1 - lag / (horizon + 1), 0, None)
    error = math.sqrt((d - d.mean()) @ weight @ (d - d.mean())) / 60
    statistic, p = diebold_mariano(np.append(a, np.nan), np.append(b, 1.0), horizon)
    assert statistic == pytest.approx(d.mean() / error)
    assert p == pytest.approx(math.erfc(abs(d.mean() / error) / math.sqrt(2)))
