"""The TCN: its network against a dense dilated convolution, and what it learns from a planted volatility."""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.kinds import by_kind
from core.table import FeatureTable
from learners.networks import TrainingSettings, deterministic
from learners.tcn import TcnSettings
from tests.conformance import check_laws
from volatility import VolatilitySettings
from volatility.garch import GarchSettings
from volatility.learned import VarianceTask
from volatility.scores import qlike, realized_variance

torch = pytest.importorskip("torch", reason="training needs the 'train' extra")
pytest.importorskip("onnx", reason="training needs the 'train' extra")

TcnVolatility = by_kind(VolatilitySettings)["tcn"]
SETTINGS = TcnVolatility(
    returns="r",
    clock=None,
    horizon=10,
    layers=5,
    channels=4,
    training=TrainingSettings(epochs=6, samples=2048, batch=64, learning_rate=5e-3),
)
N_TRAIN = 6_000
WINDOW = 2**5


def market(n: int, seed: int, clustered: bool) -> tuple[FeatureTable, np.ndarray]:
    """Returns whose log variance is an AR(1), or constant, and the variance that each was drawn with."""
    rng = np.random.default_rng(seed)
    h = np.zeros(n)
    for i in range(1, n):
        h[i] = 0.99 * h[i - 1] + 0.15 * rng.normal()
    variance = 1e-6 * np.exp(h) if clustered else np.full(n, 1e-6)
    r = np.sqrt(variance) * rng.normal(size=n)
    return FeatureTable(np.arange(n) * 60 * 10**9, ("r",), r[:, None]), variance


@pytest.fixture(scope="module")
def clustered():
    table, variance = market(12_000, 4, clustered=True)
    train = FeatureTable(table.ts[:N_TRAIN], table.names, table.values[:N_TRAIN])
    return table, variance, SETTINGS.fit(train, seed=3)


def test_laws(clustered):
    table, _, model = clustered
    check_laws(model, table.values[:150])


def test_beats_the_sample_variance_and_comes_near_the_true_variance_out_of_sample(clustered):
    table, variance, model = clustered
    r = table.column("r")
    out = model.run(table.values)
    assert model.outputs == ("volatility", "bar_volatility")
    realized = realized_variance(r, 10)[N_TRAIN:]
    constant = qlike(np.full(len(realized), 10 * np.mean(r[:N_TRAIN] ** 2)), realized)
    oracle = qlike(10 * variance[N_TRAIN:], realized)
    learned = qlike(out[N_TRAIN:, 0] ** 2, realized)
    assert learned < oracle + 0.4 * (constant - oracle)
    np.testing.assert_allclose(out[:, 1], out[:, 0] / math.sqrt(10), rtol=1e-5)


def test_on_returns_of_constant_variance_it_says_the_sample_variance():
    table, _ = market(N_TRAIN, 6, clustered=False)
    out = SETTINGS.fit(table, seed=3).run(table.values)[WINDOW:, 0]
    true = math.sqrt(10 * 1e-6)
    assert np.median(out) == pytest.approx(true, rel=0.05)
    assert np.std(out) < 0.1 * true


def test_doubling_every_return_doubles_the_forecast(clustered):
    table, _, model = clustered
    doubled = SETTINGS.fit(FeatureTable(table.ts[:N_TRAIN], ("r",), 2 * table.values[:N_TRAIN]), seed=3)
    np.testing.assert_allclose(doubled.run(2 * table.values), 2 * model.run(table.values), rtol=1e-5)


def test_two_fits_give_the_same_graph(clustered):
    table, _, model = clustered
    assert SETTINGS.fit(FeatureTable(table.ts[:N_TRAIN], ("r",), table.values[:N_TRAIN]), seed=3) == model


def test_scaler_knows_the_training_slice_alone(clustered):
    table, _, model = clustered
    slice_ = table.column("r")[: round(0.85 * N_TRAIN)]
    assert model.mean == (0.0,)
    assert model.std[0] == pytest.approx(math.sqrt(np.mean(slice_**2)), rel=1e-12)


def test_forecast_stays_within_what_the_training_slice_realized():
    table, _ = market(N_TRAIN, 4, clustered=True)
    cut = round(0.85 * N_TRAIN)
    realized = realized_variance(table.column("r"), 10)[WINDOW - 1 : cut]
    table.values[cut + 600 : cut + 612] = 1e-5  # the validation slice goes beyond both ends
    table.values[-1] = math.sqrt(2 * realized.max())
    model = SETTINGS.fit(table, seed=3)
    extreme = np.concatenate((table.values[:100], np.full((100, 1), 1.0), np.full((100, 1), 1e-9)))
    said = model.run(extreme)[:, 0] ** 2
    assert np.nanmax(said) == pytest.approx(realized.max(), rel=1e-4)
    assert np.nanmin(said) == pytest.approx(realized.min() / 4, rel=1e-4)


def test_network_is_a_dilated_causal_convolution_beside_rolling_means():
    layers, channels, floor = 4, 3, 1e-3
    nothing = np.empty(0, np.int64)
    task = VarianceTask(
        inputs=("r", "x"), rows=np.empty((0, 2)), mean=np.zeros(2), std=np.ones(2), clip=9.0,
        window=2**layers, targets=nothing, train=nothing, validation=nothing, calibration=nothing,
        horizon=10, level=1.0, floor=floor, bounds=(-9.0, 9.0),
    )  # fmt: skip
    with deterministic(1) as _:
        body = TcnSettings(layers=layers, channels=channels).body(torch, task.channels, task.window)
        network = task.network(torch, body, channels)
        torch.nn.init.normal_(network.head.weight)
        window = torch.randn(1, 2**layers, 2)
        with torch.no_grad():
            said = float(network(window))
            z = window[0, :, 0].numpy().astype(float)
            y = torch.cat((window, torch.log(window[:, :, :1] ** 2 + 0.01)), 2).transpose(1, 2)
            y = body.enter(y)
            for level, layer in enumerate(
                body.convolutions
            ):  # dense: every position, zeros before the window
                past = torch.nn.functional.pad(y, (2**level, 0))
                conv = torch.nn.functional.conv1d(past, layer.weight, layer.bias, dilation=2**level)
                y = y + torch.relu(conv)
    means = [pd.Series(z**2).rolling(2**j).mean().iloc[-1] for j in range(layers + 1)]
    top = np.concatenate((np.log(np.array(means) + floor), y[0, :, -1].numpy(), window[0, -1, 1:].numpy()))
    expected = float(top @ network.head.weight[0].detach().numpy() + network.head.bias.item())
    assert said == pytest.approx(expected, rel=1e-4)


def test_a_span_shorter_than_the_window_says_so():
    table, _ = market(300, 1, clustered=True)
    with pytest.raises(ValueError, match="train on a longer span"):
        TcnVolatility(returns="r", clock=None, horizon=10, layers=8).fit(table, seed=1)


REPO = Path(__file__).resolve().parents[2]
DATA = (REPO / os.environ.get("BEAUFORT_REAL_DATA", "../shared/data")).resolve()


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA} (BEAUFORT_REAL_DATA)")
def test_on_bitmex_minutes_it_beats_garch_and_the_sample_variance_out_of_sample():
    path = DATA / "bars/bitmex_xbtusd_perp_1m/xbtusd_1m_2017-01_2019-06.parquet"
    bars = pq.read_table(path, columns=["ts_open", "close"]).to_pandas()
    bars = bars[(bars.ts_open >= "2018-04-01") & (bars.ts_open < "2018-07-15")]
    angle = 2 * np.pi * (bars.ts_open.dt.hour * 60 + bars.ts_open.dt.minute).to_numpy() / 1440
    r = np.log(bars.close).diff().to_numpy()
    ts = bars.ts_open.astype("datetime64[ns, UTC]").astype(np.int64).to_numpy() + 60 * 10**9
    names = ("log_return_1", "time_of_day_sin", "time_of_day_cos")
    table = FeatureTable(ts, names, np.column_stack((r, np.sin(angle), np.cos(angle))))
    cut = int(np.searchsorted(bars.ts_open, pd.Timestamp("2018-06-15", tz="UTC")))
    train = FeatureTable(ts[:cut], names, table.values[:cut])
    settings = TcnVolatility(layers=8, training=TrainingSettings(epochs=6, patience=2))
    realized = realized_variance(r, 60)[cut:]

    def loss(model) -> float:
        return qlike(model.run(table.columns(model.inputs))[cut:, 0] ** 2, realized)

    learned = loss(settings.fit(train, seed=1))
    assert learned < loss(GarchSettings().fit(train, seed=1))
    assert learned < 0.9 * qlike(np.full(len(realized), np.nanmean(realized_variance(r[:cut], 60))), realized)
