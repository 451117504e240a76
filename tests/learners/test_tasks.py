"""Task x learner: what each learns of a task it was not written for, and a learner from outside the rooms."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.causal import load_filter
from core.kinds import by_kind
from core.table import FeatureTable
from learners.linear_filter import LogLinearFilter
from learners.networks import TrainingSettings
from strategies.forecasters import ForecastSettings
from strategies.forecasters.base import forward_returns, labels
from strategies.forecasters.scores import auc, calibration_error
from tests.conformance import check_laws
from volatility import VolatilitySettings
from volatility.scores import qlike, realized_variance

VOLATILITY, FORECAST = by_kind(VolatilitySettings), by_kind(ForecastSettings)
N, TRAINED, HORIZON = 12_000, 6_000, 10


def _head(table: FeatureTable, n: int) -> FeatureTable:
    return FeatureTable(table.ts[:n], table.names, table.values[:n])


@pytest.fixture(scope="module")
def clustered() -> tuple[FeatureTable, np.ndarray]:
    """Returns whose log variance is an AR(1) of which a feature tells the present value, and the variance."""
    rng = np.random.default_rng(4)
    h = np.zeros(N)
    for i in range(1, N):
        h[i] = 0.99 * h[i - 1] + 0.15 * rng.normal()
    variance = 1e-6 * np.exp(h)
    r = np.sqrt(variance) * rng.normal(size=N)
    columns = np.column_stack((r, h, rng.normal(size=N)))
    return FeatureTable(np.arange(N) * 60 * 10**9, ("r", "h", "noise"), columns), variance


def _linear(**changes):
    settings = {"returns": "r", "clock": None, "horizon": HORIZON, "features": ("h", "noise")}
    return VOLATILITY["linear"](**{**settings, **changes})


def _skill(model, table: FeatureTable, variance: np.ndarray) -> float:
    """Of the QLIKE that separates the sample's variance from the true one, the share that is gained."""
    r = table.column("r")
    realized = realized_variance(r, HORIZON)[TRAINED:]
    constant = qlike(np.full(len(realized), HORIZON * np.mean(r[:TRAINED] ** 2)), realized)
    oracle = qlike(HORIZON * variance[TRAINED:], realized)
    said = model.run(table.columns(model.inputs))[TRAINED:, 0] ** 2
    return (constant - qlike(said, realized)) / (constant - oracle)


@pytest.fixture(scope="module")
def fitted(clustered) -> LogLinearFilter:
    return _linear().fit(_head(clustered[0], TRAINED), seed=1)


class TestLogLinear:
    def test_laws(self, fitted, clustered):
        check_laws(fitted, clustered[0].columns(fitted.inputs)[:150])

    def test_finds_the_feature_that_tells_the_variance(self, fitted, clustered):
        assert _skill(fitted, *clustered) > 0.9
        (_, h, noise), _ = fitted.weight
        assert abs(noise) < 0.1 * h

    def test_its_coefficients_minimise_the_penalised_qlike(self, clustered):
        penalty = 1e-2
        table = _head(clustered[0], TRAINED)
        model = _linear(penalty=penalty).fit(table, seed=1)
        cut = round(0.85 * TRAINED)
        rows = table.columns(model.inputs)
        scaled = (rows - model.mean) / model.std
        realized = realized_variance(rows[:, 0], HORIZON)[:cut]
        level = realized.mean()  # every window of the slice has moved

        def gradient(weight: np.ndarray) -> float:
            log_ratio = 2 * (scaled[:cut] @ weight + model.bias[0]) - np.log(level)
            slope = 1 - realized / level / np.exp(log_ratio)  # of QLIKE, by the log of the forecast
            return np.abs(slope @ scaled[:cut] / cut + penalty * 2 * weight).max()

        weight = np.array(model.weight[0])
        assert gradient(weight) < 1e-4
        assert gradient(1.02 * weight) > 1e-3

    def test_its_loop_equals_an_exponential_of_clipped_scaled_rows(self, fitted, clustered):
        rows = clustered[0].columns(fitted.inputs)[:300].copy()
        rows[5:7, 1] = 1e4, -1e4  # clipped, and beyond the bounds
        rows[[0, 200], 1] = np.nan, np.inf
        scaled = np.clip((rows - fitted.mean) / fitted.std, -fitted.clip, fitted.clip)
        scores = scaled @ np.array(fitted.weight).T + fitted.bias
        expected = pd.DataFrame(np.exp(np.clip(scores, fitted.least, fitted.most)))
        expected[~np.isfinite(rows).all(axis=1)] = np.nan
        np.testing.assert_allclose(fitted.run(rows), expected.ffill(), rtol=1e-12)
        np.testing.assert_allclose(fitted.run(rows)[5:7, 0], np.exp((fitted.most[0], fitted.least[0])))
        np.testing.assert_allclose(fitted.run(rows)[1:, 1] * np.sqrt(HORIZON), fitted.run(rows)[1:, 0])

    def test_stays_within_what_the_training_slice_realized(self, fitted, clustered):
        realized = realized_variance(clustered[0].column("r"), HORIZON)[: round(0.85 * TRAINED)]
        assert np.exp(2 * fitted.most[0]) == pytest.approx(realized.max(), rel=1e-5)
        assert np.exp(2 * fitted.least[0]) == pytest.approx(realized.min() / 4, rel=1e-5)

    def test_without_features_it_reads_the_log_volatility_of_several_horizons(self):
        settings = VOLATILITY["linear"](horizon=60)
        assert settings.columns == (
            "log_return_1", "log_volatility_15", "log_volatility_60", "log_volatility_360",
            "time_of_day_sin", "time_of_day_cos",
        )  # fmt: skip
        assert VOLATILITY["tcn"]().columns == ("log_return_1", "time_of_day_sin", "time_of_day_cos")

    def test_saved_and_loaded_is_the_same(self, fitted, tmp_path):
        fitted.save(tmp_path)
        assert load_filter(tmp_path) == fitted

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"least": (1.0, 1.0), "most": (0.0, 2.0)}, "is above most"),
            ({"most": (1.0, 1e9)}, "within -300 .. 300"),
            ({"bias": (0.0,)}, r"shape \(1,\), not \(2,\)"),
            ({"std": (1.0, 0.0, 1.0)}, "std are not all finite and within"),
        ],
    )
    def test_parameters_of_none_are_refused(self, changes, message):
        fields = {
            "inputs": ("a", "b", "c"), "outputs": ("x", "y"), "mean": (0.0,) * 3, "std": (1.0,) * 3,
            "clip": 5.0, "weight": ((1.0, 0.0, 0.0),) * 2, "bias": (0.0, 0.0),
            "least": (-1.0, -1.0), "most": (1.0, 1.0),
        }  # fmt: skip
        with pytest.raises(ValueError, match=message):
            LogLinearFilter(**{**fields, **changes})


class TestNetworks:
    @pytest.fixture(autouse=True)
    def _torch(self):
        pytest.importorskip("torch", reason="training needs the 'train' extra")
        pytest.importorskip("onnx", reason="training needs the 'train' extra")

    def test_an_lstm_forecasts_variance(self, clustered):
        table, variance = clustered
        settings = VOLATILITY["lstm"](
            returns="r", clock=None, horizon=HORIZON, window=24, hidden=4,
            training=TrainingSettings(epochs=6, samples=2048, batch=64, learning_rate=5e-3),
        )  # fmt: skip
        model = settings.fit(_head(table, TRAINED), seed=3)
        assert (model.window, model.inputs, model.outputs) == (24, ("r",), ("volatility", "bar_volatility"))
        assert _skill(model, table, variance) > 0.6
        check_laws(model, table.columns(model.inputs)[:100], examples=5)

    def test_further_features_reach_a_network_of_variance(self, clustered):
        table, variance = clustered
        settings = {
            "returns": "r", "clock": None, "horizon": HORIZON, "layers": 3, "channels": 4,
            "training": TrainingSettings(epochs=6, samples=2048, batch=64, learning_rate=5e-3),
        }  # fmt: skip
        blind, told = (
            VOLATILITY["tcn"](**settings, features=features).fit(_head(table, TRAINED), seed=3)
            for features in ((), ("h",))
        )
        assert told.inputs == ("r", "h")
        assert _skill(told, table, variance) > _skill(blind, table, variance) + 0.1

    def test_a_tcn_forecasts_a_direction_of_which_the_last_bar_shows_half(self):
        rng = np.random.default_rng(11)
        x = rng.normal(size=(20_000, 2))
        r = 5e-4 * rng.normal(size=20_000)
        r[2:] += 1e-3 * np.tanh(x[1:-1, 0] + x[:-2, 0])
        table, price = FeatureTable(np.arange(20_000) * 10**9, ("a", "b"), x), 100 * np.exp(np.cumsum(r))
        happened = labels(forward_returns(price, 4), 1e-3)[N:-4]
        network = FORECAST["tcn"](
            horizon=4, cost_bps=10, layers=3, channels=6,
            training=TrainingSettings(epochs=8, samples=4_096, batch=64, learning_rate=1e-2),
        )  # fmt: skip
        p, linear = (
            settings.fit(_head(table, N), price[:N], seed=1).run(table.values)[N:-4]
            for settings in (network, FORECAST["logistic"](horizon=4, cost_bps=10))
        )
        for side in (0, 1):
            assert auc(p[:, side], happened == side) > auc(linear[:, side], happened == side) + 0.02
            assert calibration_error(p[:, side], happened == side) < 0.04


USE = """
import sys
import numpy as np
from core.kinds import by_kind
from core.plugins import import_plugins
from core.table import FeatureTable
from engine.config import RunConfig
from strategies.forecasters import ForecastSettings
from volatility import VolatilitySettings

sys.path.append(sys.argv[1])
import_plugins((sys.argv[2],))
rng = np.random.default_rng(1)
r = 1e-3 * rng.normal(size=6_000)
table, price = FeatureTable(np.arange(6_000) * 10**9, ("r",), r[:, None]), 100 * np.exp(np.cumsum(r))
settings = by_kind(VolatilitySettings)["mean"](returns="r", features=("r",), clock=None, horizon=9)
said = settings.fit(table, 1).run(table.values)[-1, 0]
assert abs(said / 3e-3 - 1) < 0.05, said
settings = by_kind(ForecastSettings)["mean"](horizon=9, cost_bps=20)
said = settings.fit(table, price, 1).run(table.values)[-1]
moves = price[9:] / price[:-9] - 1
assert np.allclose(said, [(moves > 0.002).mean(), (moves < -0.002).mean()], atol=0.05), said
listed = RunConfig.model_json_schema()["$defs"]
print(sorted(name for name in listed if name.startswith("Mean")))
"""
HOUSE = Path(__file__).parents[2]


def _use(folder: Path, plugin: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", USE, str(folder), plugin]
    return subprocess.run(command, capture_output=True, text=True, cwd=HOUSE)


def test_a_learner_is_one_file_for_both_tasks() -> None:
    done = _use(HOUSE / "tests", "plugin_example")
    assert done.stdout.strip() == "['MeanForecastSettings', 'MeanVolatilitySettings']", done.stderr


def test_a_learner_that_cannot_learn_is_named(tmp_path: Path) -> None:
    source = (HOUSE / "tests/plugin_example/learner.py").read_text()
    (tmp_path / "lame.py").write_text(source.partition("    def learn")[0])
    assert "lame.MeanSettings: has no 'learn'; write it as LearnerSettings.learn says" in (
        _use(tmp_path, "lame").stderr
    )
