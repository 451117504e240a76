"""The LSTM forecaster: a signal that needs memory, noise, calibration, determinism, and the cell in numpy."""

import numpy as np
import pytest

from core.kinds import by_kind
from core.table import FeatureTable
from learners.networks import TrainingSettings
from strategies.forecasters import ForecastSettings
from strategies.forecasters.base import forward_returns, labels
from strategies.forecasters.scores import auc, calibration_error
from tests.conformance import check_laws

pytest.importorskip("torch", reason="training needs the 'train' extra")
pytest.importorskip("onnx", reason="training needs the 'train' extra")

FORECASTERS = by_kind(ForecastSettings)
SETTINGS = FORECASTERS["lstm"](
    horizon=4,
    cost_bps=10,
    window=6,
    hidden=6,
    training=TrainingSettings(epochs=10, samples=4_096, batch=64, learning_rate=1e-2),
)
N_TRAIN = 12_000


def market(n: int, seed: int, signal: float) -> tuple[FeatureTable, np.ndarray]:
    """Two white features and the price, which moves with the first one's last two values: half of it
    is in the bar before the last."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    r = 5e-4 * rng.normal(size=n)
    r[2:] += signal * np.tanh(x[1:-1, 0] + x[:-2, 0])
    return FeatureTable(np.arange(n) * 10**9, ("a", "b"), x), 100 * np.exp(np.cumsum(r))


def fit(settings, table: FeatureTable, price: np.ndarray, seed: int = 1):
    head = FeatureTable(table.ts[:N_TRAIN], table.names, table.values[:N_TRAIN])
    return settings.fit(head, price[:N_TRAIN], seed)


def held_out(model, table: FeatureTable, price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = model.run(table.values)[N_TRAIN:]
    happened = labels(forward_returns(price, SETTINGS.horizon), SETTINGS.threshold)[N_TRAIN:]
    return p[happened >= 0], happened[happened >= 0]


@pytest.fixture(scope="module")
def fitted():
    table, price = market(20_000, 11, signal=1e-3)
    return table, price, fit(SETTINGS, table, price)


def test_laws(fitted):
    table, _, model = fitted
    check_laws(model, table.values[:150])


def test_finds_a_planted_signal_of_which_the_last_bar_shows_half(fitted):
    table, price, model = fitted
    assert model.outputs == ("p_up", "p_down")
    p, happened = held_out(model, table, price)
    linear, _ = held_out(fit(FORECASTERS["logistic"](horizon=4, cost_bps=10), table, price), table, price)
    for side in (0, 1):
        score = auc(p[:, side], happened == side)
        assert score > 0.6
        assert score > auc(linear[:, side], happened == side) + 0.02
        assert calibration_error(p[:, side], happened == side) < 0.04


def test_finds_nothing_in_noise_and_says_the_base_rate():
    table, price = market(20_000, 12, signal=0)
    p, happened = held_out(fit(SETTINGS, table, price), table, price)
    assert auc(p[:, 0], happened == 0) == pytest.approx(0.5, abs=0.03)
    assert np.abs(p[:, 0] - np.mean(happened == 0)).max() < 0.08


def test_two_fits_give_the_same_graph_and_another_seed_another(fitted):
    table, price, model = fitted
    assert fit(SETTINGS, table, price) == model
    assert fit(SETTINGS, table, price, seed=2) != model


def test_scaler_has_seen_the_training_slice_alone(fitted):
    table, _, model = fitted
    training_slice = table.values[: round(0.7 * N_TRAIN)]
    np.testing.assert_allclose(model.mean, training_slice.mean(axis=0))
    np.testing.assert_allclose(model.std, training_slice.std(axis=0))


def test_the_latest_slice_of_the_span_calibrates_and_teaches_nothing_else():
    table, price = market(N_TRAIN, 13, signal=1e-3)
    late = round(0.85 * N_TRAIN) + SETTINGS.horizon
    wilder = price.copy()
    wilder[late:] = price[late] * (price[late:] / price[late]) ** 2
    quick = SETTINGS.model_copy(update={"training": TrainingSettings(epochs=2, samples=2_048, batch=64)})
    rates, odds = [], []
    for prices in (price, wilder):
        p = fit(quick, table, prices).run(table.values)
        happened = labels(forward_returns(prices, quick.horizon), quick.threshold)
        slice_ = np.arange(late + quick.window, N_TRAIN - quick.horizon)
        # Maximum likelihood makes the mean probability of a move the share of moves in the slice, nearly so
        # with a little ridge.
        rates.append(np.isin(happened[slice_], (0, 1)).mean())
        assert p[slice_].sum(axis=1).mean() == pytest.approx(rates[-1], abs=0.01)
        odds.append(np.log(p[quick.window :, 0] / p[quick.window :, 1]))
    assert rates[1] > rates[0] + 0.1
    # What was learned is the same: logits differ by the slope of the calibration alone.
    slope = odds[1] @ odds[0] / (odds[0] @ odds[0])
    np.testing.assert_allclose(odds[1], slope * odds[0], atol=1e-3)
    assert slope != pytest.approx(1.0, abs=0.02)


def test_the_graph_is_an_lstm_in_numpy(fitted):
    """Against the equations of the cell, with the weights read out of the graph."""
    import onnx

    _, _, model = fitted
    graph = onnx.load_from_string(model.network).graph
    tensors = {t.name: onnx.numpy_helper.to_array(t).astype(float) for t in graph.initializer}
    tensors |= {
        n.output[0]: onnx.numpy_helper.to_array(n.attribute[0].t).astype(float)
        for n in graph.node
        if n.op_type == "Constant" and n.attribute[0].type == onnx.AttributeProto.TENSOR
    }
    (cell,) = (n for n in graph.node if n.op_type == "LSTM")
    (linear,) = (n for n in graph.node if n.op_type == "Gemm")
    w, r, b = (tensors[name][0] for name in cell.input[1:4])
    weight, bias = tensors[linear.input[1]], tensors[linear.input[2]]
    rows = np.random.default_rng(1).normal(size=(6, 2))
    h = c = np.zeros(6)
    for x in np.clip((rows - model.mean) / model.std, -model.clip, model.clip):
        i, o, f, g = np.split(w @ x + r @ h + b[:24] + b[24:], 4)  # ONNX's order of gates
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
    e = np.exp(weight @ h + bias)
    np.testing.assert_allclose(model.run(rows)[-1], (e / e.sum())[:2], rtol=1e-5)
