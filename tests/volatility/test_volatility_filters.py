"""Volatility recursions against arch, closed forms against simulation, and the three laws on every filter."""

import dataclasses
import math
import typing

import numpy as np
import pytest
from arch.univariate import EGARCH, GARCH, EWMAVariance, StudentsT, ZeroMean

from core.causal import Chain
from core.kinds import kinds_of
from core.table import FeatureTable
from tests.conformance import check_laws
from volatility.base import NEUTRAL, Level, VolatilitySettings, calibrated, training_rows
from volatility.egarch import EgarchFilter, EgarchSettings, shock_moments
from volatility.ewma import EwmaSettings
from volatility.garch import GarchFilter, GarchSettings
from volatility.gate import GateFilter, GateSettings
from volatility.har import HarSettings
from volatility.scores import qlike, realized_variance

EVERY_KIND = [
    EgarchSettings(horizon=12),
    GarchSettings(horizon=12),
    EwmaSettings(horizon=12),
    HarSettings(horizon=12),
]
SCALE = 1e-3  # returns of arch's unit-variance simulations become log returns of a liquid market
MINUTE = 60 * 10**9


def egarch_returns(n: int = 6_000, seed: int = 1) -> np.ndarray:
    model = ZeroMean(volatility=EGARCH(1, 1, 1), distribution=StudentsT(seed=np.random.default_rng(seed)))
    return model.simulate([-0.02, 0.15, -0.06, 0.97, 6.0], n)["data"].to_numpy() * SCALE


def table_of(returns: np.ndarray) -> FeatureTable:
    ts = np.arange(1, len(returns) + 1) * MINUTE
    angle = 2 * np.pi * (ts % (86_400 * 10**9)) / (86_400 * 10**9)
    columns = (returns, np.sin(angle), np.cos(angle))
    return FeatureTable(ts, ("log_return_1", "time_of_day_sin", "time_of_day_cos"), np.column_stack(columns))


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    return table_of(egarch_returns())


@pytest.fixture(scope="module")
def egarch(table: FeatureTable) -> EgarchFilter:
    return EgarchSettings(horizon=20).fit(table, 0)


def arch_volatility(model: typing.Any, parameters: list[float]) -> np.ndarray:
    return np.asarray(model.fix(parameters).conditional_volatility) * SCALE


def scaled_parameters(f: EgarchFilter) -> list[float]:
    """The filter's parameters for returns divided by SCALE, as arch takes them."""
    return [f.omega - (1 - f.beta) * 2 * math.log(SCALE), f.alpha, f.gamma, f.beta, f.nu]


def test_egarch_fit_recovers_the_parameters(egarch: EgarchFilter) -> None:
    assert egarch.alpha == pytest.approx(0.15, abs=0.05)
    assert egarch.gamma == pytest.approx(-0.06, abs=0.03)
    assert egarch.beta == pytest.approx(0.97, abs=0.02)
    assert egarch.nu == pytest.approx(6.0, abs=2.0)


@pytest.mark.parametrize("appended", [0, 1_000])
def test_egarch_equals_archs_conditional_volatility(
    table: FeatureTable, egarch: EgarchFilter, appended: int
) -> None:
    returns = np.concatenate((table.column("log_return_1"), egarch_returns(appended + 1, seed=2)[:appended]))
    model = ZeroMean(returns / SCALE, volatility=EGARCH(1, 1, 1), distribution=StudentsT(), rescale=False)
    expected = arch_volatility(model, scaled_parameters(egarch))
    ours = egarch.run(returns[:, None])[:, egarch.outputs.index("bar_volatility")]
    np.testing.assert_allclose(ours[:-1], expected[1:], rtol=1e-8)
    np.testing.assert_allclose(math.exp(egarch.first_log_variance / 2), expected[0], rtol=1e-8)


def test_egarch_horizon_equals_archs_simulation(table: FeatureTable) -> None:
    # Innovations of a known discrete distribution: the expectation is finite and arch can draw from it.
    rng = np.random.default_rng(5)
    z = np.clip(rng.standard_t(6, 5_000) * math.sqrt(4 / 6), -6, 6)
    z /= math.sqrt(np.mean(z * z))
    omega, alpha, gamma, beta, horizon = -0.4, 0.2, -0.1, 0.97, 25
    mean_shock, growth = shock_moments(alpha, gamma, beta, horizon, z, np.full(len(z), 1 / len(z)))
    returns = table.column("log_return_1")
    model = ZeroMean(returns / SCALE, volatility=EGARCH(1, 1, 1), distribution=StudentsT(), rescale=False)
    result = model.fix([omega - (1 - beta) * 2 * math.log(SCALE), alpha, gamma, beta, 6.0])
    ours = EgarchFilter(
        inputs=("log_return_1",),
        horizon=horizon,
        omega=omega,
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        nu=6.0,
        mean_shock=mean_shock,
        growth=growth,
        first_log_variance=2 * math.log(float(result.conditional_volatility[0]) * SCALE),
        least_log_variance=-40.0,
        most_log_variance=0.0,
    ).run(returns[:, None])
    forecast = result.forecast(
        horizon=horizon,
        start=len(returns) - 3,
        method="simulation",
        simulations=20_000,
        rng=lambda size: rng.choice(z, size),
        reindex=False,
    )
    expected = forecast.variance.sum(axis=1).to_numpy() * SCALE**2
    np.testing.assert_allclose(ours[-3:, 0] ** 2, expected, rtol=0.03)


def test_egarch_fit_stands_flat_runs_and_freak_prints() -> None:
    rng = np.random.default_rng(3)
    returns = egarch_returns()
    returns[rng.random(len(returns)) < 0.15] = 0.0
    returns[1_000:1_250] = 0.0
    returns[[500, 2_000, 4_000]] = [0.2, -0.15, 0.1]
    fitted = EgarchSettings(horizon=20).fit(table_of(returns), 0)
    forecast = fitted.run(returns[:, None])
    realized = realized_variance(returns, 20)
    assert np.all(np.isfinite(forecast))
    constant = np.full(len(returns), np.nanmean(realized))
    assert qlike(forecast[:, 0] ** 2, realized) < qlike(constant, realized)


def test_egarch_leaves_zero_returns_out_of_its_likelihood(table: FeatureTable, egarch: EgarchFilter) -> None:
    returns = table.column("log_return_1")
    still = np.insert(returns, np.random.default_rng(3).integers(0, len(returns), 2_000), 0.0)
    fitted = EgarchSettings(horizon=20).fit(table_of(still), 0)
    names = ("omega", "alpha", "gamma", "beta", "nu")
    assert [getattr(fitted, n) for n in names] == [getattr(egarch, n) for n in names]


def test_egarch_goes_ten_times_beyond_the_training_spans_extremes_and_no_further(
    table: FeatureTable, egarch: EgarchFilter
) -> None:
    returns = table.column("log_return_1")
    model = ZeroMean(returns / SCALE, volatility=EGARCH(1, 1, 1), distribution=StudentsT(), rescale=False)
    seen = arch_volatility(model, scaled_parameters(egarch))
    freak = np.array([[0.0], [0.9], [-0.9]])
    np.testing.assert_allclose(egarch.run(freak)[1:, 1], 10 * seen.max(), rtol=1e-8)
    calm = dataclasses.replace(egarch, omega=egarch.omega - 1.0)  # comes to rest far below what was seen
    np.testing.assert_allclose(calm.run(np.zeros((2_000, 1)))[-1, 1], seen.min() / 10, rtol=1e-8)


def test_garch_equals_arch_and_its_analytic_forecast(table: FeatureTable) -> None:
    returns = table.column("log_return_1")
    fitted = GarchSettings(horizon=15).fit(table, 0)
    model = ZeroMean(returns / SCALE, volatility=GARCH(1, 0, 1), rescale=False)
    result = model.fix([fitted.omega / SCALE**2, fitted.alpha, fitted.beta])
    plain = GarchFilter(fitted.inputs, 15, fitted.omega, fitted.alpha, fitted.beta, fitted.first_variance)
    out = plain.run(returns[:, None])
    np.testing.assert_allclose(out[:-1, 1], np.asarray(result.conditional_volatility)[1:] * SCALE, rtol=1e-8)
    expected = result.forecast(horizon=15, start=0, reindex=False).variance.sum(axis=1).to_numpy() * SCALE**2
    np.testing.assert_allclose(out[:, 0] ** 2, expected, rtol=1e-8)


def test_ewma_equals_arch(table: FeatureTable) -> None:
    returns = table.column("log_return_1")
    fitted = EwmaSettings(horizon=10, decay=0.94).fit(table, 0)
    model = ZeroMean(returns / SCALE, volatility=EWMAVariance(0.94), rescale=False)
    expected = np.asarray(model.fix([]).conditional_volatility) * SCALE
    ours = fitted.run(returns[:, None])[:, 1]
    np.testing.assert_allclose(ours[500:-1], expected[501:], rtol=1e-6)  # the start is forgotten by then


def test_ewma_takes_the_decay_with_the_lowest_loss(table: FeatureTable) -> None:
    returns, realized = table.column("log_return_1"), realized_variance(table.column("log_return_1"), 20)
    losses = [
        qlike(EwmaSettings(horizon=20, decay=d).fit(table, 0).run(returns[:, None])[:, 0] ** 2, realized)
        for d in (None, 0.8, 0.94, 0.999)
    ]
    assert losses[0] <= min(losses[1:])


def test_har_regressors_equal_naive_means(table: FeatureTable) -> None:
    fitted = HarSettings(horizon=10, windows=(3, 10, 60)).fit(table, 0)
    rows = table.columns(fitted.inputs)
    design = fitted.design(rows)
    for t in (60, 61, 119, 120, 121, 3_333):
        for column, w in enumerate((3, 10, 60), start=1):
            assert design[t, column] == pytest.approx(
                math.log(np.mean(rows[t - w + 1 : t + 1, 0] ** 2)), rel=1e-9
            )
        angle = math.atan2(rows[t, 1], rows[t, 2])
        waves = [f(k * angle) for k in range(1, 5) for f in (math.sin, math.cos)]
        np.testing.assert_allclose(design[t, 4:], waves, atol=1e-12)


def test_har_learns_the_time_of_day() -> None:
    rng = np.random.default_rng(4)
    n = 1_440 * 12
    table = table_of(rng.standard_normal(n) * SCALE)
    volume = np.exp(0.8 * table.column("time_of_day_sin"))
    table = table_of(table.column("log_return_1") * volume)
    realized = realized_variance(table.column("log_return_1"), 60)
    forecast = {}
    for clock in (("time_of_day_sin", "time_of_day_cos"), None):
        fitted = HarSettings(clock=clock).fit(table, 0)
        forecast[clock is None] = fitted.run(table.columns(fitted.inputs))[:, 0] ** 2
    assert qlike(forecast[False], realized) < 0.9 * qlike(forecast[True], realized)


def test_level_is_the_factor_with_the_lowest_loss(table: FeatureTable) -> None:
    returns, realized = table.column("log_return_1"), realized_variance(table.column("log_return_1"), 15)
    fitted = GarchSettings(horizon=15).fit(table, 0)
    forecast = fitted.run(returns[:, None])[:, 0] ** 2
    assert qlike(forecast, realized) < min(qlike(0.97 * forecast, realized), qlike(1.03 * forecast, realized))


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda s: s.kind)
def test_forecast_is_kept_within_what_training_realized(
    table: FeatureTable, settings: VolatilitySettings
) -> None:
    fitted: typing.Any = settings.fit(table, 0)
    rows = table.columns(fitted.inputs)
    realized = np.array([np.sum(rows[t + 1 : t + 13, 0] ** 2) for t in range(len(rows) - 12)])
    least, most = realized.min() / 4, realized.max()

    def raw(xs: np.ndarray) -> np.ndarray:
        return dataclasses.replace(fitted, level=NEUTRAL).run(xs)[:, 0] ** 2

    factor = np.nanmean(realized / raw(rows)[:-12])  # which stays within them here
    wild = rows[:3_000].copy()
    wild[500:520, 0] = 0.5
    wild[1_000:, 0] = 0.0
    before = raw(wild)
    assert np.nanmax(before) > most
    np.testing.assert_allclose(fitted.run(wild)[:, 0] ** 2, factor * np.clip(before, least, most), rtol=1e-9)
    if settings.kind in ("ewma", "har"):  # the others come to rest within them
        assert np.nanmin(before) < least


def test_the_level_is_measured_on_forecasts_kept_within_bounds() -> None:
    returns = np.array([1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0]) * SCALE
    fitted = calibrated(GarchFilter(("r",), 1, 0.0, 1.0, 0.0, SCALE**2), returns[:, None])
    # The forecast is the last square, and what came lies between 1 and 16, so nothing is cut.
    expected = np.mean([1, 1, 16, 1 / 16, 1, 1, 1])
    assert fitted.level == pytest.approx((expected, SCALE**2 / 4, 16 * SCALE**2))
    twice = calibrated(GarchFilter(("r",), 1, SCALE**2, 1.0, 0.0, SCALE**2), returns[:, None])
    # One more than the last square would be 17; it is cut to 16.
    expected = np.mean([1 / 2, 1 / 2, 16 / 2, 1 / 16, 1 / 2, 1 / 2, 1 / 2])
    assert twice.level == pytest.approx((expected, SCALE**2 / 4, 16 * SCALE**2))


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda s: s.kind)
def test_both_forecasts_of_white_returns_are_their_deviation(settings: VolatilitySettings) -> None:
    table = table_of(np.random.default_rng(6).standard_normal(6_000) * SCALE)
    fitted = settings.fit(table, 0)
    horizon, bar = np.median(fitted.run(table.columns(fitted.inputs))[2_000:], axis=0)
    assert horizon == pytest.approx(SCALE * math.sqrt(12), rel=0.05)
    assert bar == pytest.approx(SCALE, rel=0.05)


def test_the_fit_is_on_the_last_rows() -> None:
    returns = egarch_returns(3_000)
    returns[-5] = np.nan
    rows = training_rows(table_of(returns), GarchSettings(max_rows=1_000))
    np.testing.assert_array_equal(rows[:, 0], np.delete(returns[-1_000:], -5))


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda s: s.kind)
def test_laws_hold(table: FeatureTable, settings: VolatilitySettings) -> None:
    fitted = settings.fit(table, 0)
    assert fitted.inputs == settings.columns
    check_laws(fitted, table.columns(fitted.inputs)[:700])
    gated = Chain(fitted, GateSettings().fit(fitted, table, settings.horizon))
    assert gated.outputs == ("volatility", "bar_volatility", "risk_on")
    check_laws(gated, table.columns(fitted.inputs)[:700], examples=5)


def test_a_missing_return_carries_the_prediction(egarch: EgarchFilter) -> None:
    returns = egarch_returns(300, seed=9)
    returns[:4] = np.nan
    returns[100:200] = np.nan
    out = egarch.run(returns[:, None])
    assert np.all(np.isnan(out[:4]))
    assert np.all(np.isfinite(out[4:]))
    # The one-step forecast goes to the fixed point of the recursion without news.
    fixed = (egarch.omega + egarch.mean_shock) / (1 - egarch.beta)
    distance = np.abs(2 * np.log(out[99:200, 1]) - fixed)
    np.testing.assert_allclose(distance[1:], egarch.beta * distance[:-1], rtol=1e-6)


def test_gate_by_hand() -> None:
    gate = GateFilter(off=2.0, on=1.0)
    forecasts = [np.nan, 1.5, 2.0, 2.1, 1.5, np.nan, 1.0, 0.9, 1.5, 3.0]
    expected = [0, 1, 1, 0, 0, 0, 0, 1, 1, 0]
    assert gate.run(np.array(forecasts)[:, None])[:, 0].tolist() == expected


def test_gate_thresholds_are_training_quantiles_or_annualised(table: FeatureTable) -> None:
    forecaster = GarchFilter(("log_return_1",), 10, 1e-8, 0.1, 0.88, 1e-6, Level())
    forecasts = forecaster.run(table.columns(forecaster.inputs))[:, 0]
    gate = GateSettings(off_quantile=0.9, on_quantile=0.5).fit(forecaster, table, 10)
    assert np.mean(forecasts > gate.off) == pytest.approx(0.1, abs=1e-3)
    assert np.mean(forecasts < gate.on) == pytest.approx(0.5, abs=1e-3)
    absolute = GateSettings(off_annualised=1.0, on_annualised=0.5).fit(forecaster, table, 10)
    assert absolute.off == pytest.approx(math.sqrt(10 / (365 * 1_440)))
    assert absolute.on == pytest.approx(absolute.off / 2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"off_quantile": 0.5, "on_quantile": 0.6}, "swap"),
        ({"off_annualised": 0.5}, "both or neither"),
        ({"off_annualised": 0.5, "on_annualised": 0.6}, "swap"),
    ],
)
def test_gate_settings_that_contradict_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GateSettings(**values)


@pytest.mark.parametrize("settings", [EgarchSettings(), GarchSettings(), EwmaSettings(), HarSettings()])
def test_spans_that_cannot_be_fitted_are_refused(settings: VolatilitySettings) -> None:
    with pytest.raises(ValueError, match="longer span"):
        settings.fit(table_of(egarch_returns(200)), 0)
    few = np.zeros(20_000)
    few[7::2_500] = 0.01
    for returns, words in ((few, "8 are not zero"), (np.full(20_000, 1e-3), "that is not zero is 0.001")):
        for attempt in (settings.check, lambda table: settings.fit(table, 0)):
            with pytest.raises(ValueError, match=words):
                attempt(table_of(returns))


def test_every_model_is_known() -> None:
    kinds = {model.model_fields["kind"].default for model in kinds_of(VolatilitySettings)}
    assert kinds >= {"egarch", "garch", "ewma", "har"}
