"""OnnxWindow against a pandas rolling window: the graph here is a mean over the window, then a matrix."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from core.causal import load_filter
from learners.onnx_window import OnnxWindow
from tests.conformance import check_laws

onnx = pytest.importorskip("onnx", reason="building a graph needs the 'train' extra")

WINDOW, INPUTS = 5, ("a", "b", "c")
MEAN, STD, CLIP = (0.5, -1.0, 0.0), (2.0, 0.5, 1.0), 2.0
WEIGHTS = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], dtype=np.float32)


def graph(window: int = WINDOW, weights: np.ndarray = WEIGHTS) -> bytes:
    h = onnx.helper
    floats = onnx.TensorProto.FLOAT
    nodes = [
        h.make_node("ReduceMean", ["window"], ["mean"], axes=[1], keepdims=0),
        h.make_node("MatMul", ["mean", "weights"], ["outputs"]),
    ]
    made = h.make_graph(
        nodes,
        "mean",
        [h.make_tensor_value_info("window", floats, [1, window, weights.shape[0]])],
        [h.make_tensor_value_info("outputs", floats, [1, weights.shape[1]])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    return h.make_model(made, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()


def network(**changes) -> OnnxWindow:
    fields = {
        "inputs": INPUTS,
        "outputs": ("x", "y"),
        "mean": MEAN,
        "std": STD,
        "clip": CLIP,
        "window": WINDOW,
    }
    return OnnxWindow(**{**fields, "network": graph(), **changes})


@pytest.fixture
def rows() -> np.ndarray:
    made = np.random.default_rng(3).normal(size=(60, 3)) * 2
    made[7, 1] = np.nan
    made[20:24] = np.inf
    made[2, 0] = np.nan
    return made


def test_equals_a_rolling_window_over_complete_rows(rows):
    frame = pd.DataFrame(rows)[np.isfinite(rows).all(axis=1)]
    scaled = ((frame - np.array(MEAN)) / np.array(STD)).clip(-CLIP, CLIP)
    expected = (scaled.rolling(WINDOW).mean() @ WEIGHTS.astype(float)).reindex(range(len(rows))).ffill()
    np.testing.assert_allclose(network().run(rows), expected.to_numpy(), rtol=1e-5, atol=1e-6)


def test_speaks_first_when_the_window_is_full_and_repeats_itself_on_a_missing_row(rows):
    out = network().run(rows)
    assert np.isnan(out[:WINDOW]).all()  # one of the first five rows is missing
    assert np.isfinite(out[WINDOW:]).all()
    np.testing.assert_array_equal(out[20:24], np.repeat(out[19:20], 4, axis=0))


def test_laws(rows):
    check_laws(network(), rows)


def test_loaded_it_is_equal(tmp_path):
    network().save(tmp_path)
    assert load_filter(tmp_path) == network()


def test_another_process_without_torch_and_onnx_says_the_same_bits(rows, tmp_path):
    network().save(tmp_path)
    np.save(tmp_path / "rows.npy", rows)
    code = """
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
from pathlib import Path
import numpy as np
import learners, volatility, strategies.forecasters
from core.causal import load_filter
folder = Path(sys.argv[1])
sys.stdout.buffer.write(load_filter(folder).run(np.load(folder / "rows.npy")).tobytes())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, check=True, env=environment
    )
    assert done.stdout == network().run(rows).tobytes()


def test_refuses_a_graph_that_was_changed_after_saving(tmp_path):
    network().save(tmp_path)
    (tmp_path / "network.onnx").write_bytes(graph(weights=2 * WEIGHTS))
    with pytest.raises(ValueError, match="do not belong together"):
        load_filter(tmp_path)


def test_params_file_holds_no_network(tmp_path):
    network().save(tmp_path)
    fields = json.loads((tmp_path / "params.json").read_text())
    assert fields["kind"] == "onnx_window"
    assert len(fields["network"]) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 6}, r"maps \[1, 5, 3\] to \[1, 2\]"),
        ({"outputs": ("x",)}, r"ask for \[1, 5, 3\] to \[1, 1\]"),
        ({"std": (1.0, 0.0, 1.0)}, "must be positive"),
        ({"mean": (1.0,)}, "3 inputs, 1 means"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        network(**changes)
