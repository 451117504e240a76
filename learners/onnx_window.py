"""A fixed-window network served by ONNX Runtime as a causal filter."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import numba
import numpy as np
import onnxruntime

from core import checks
from core.causal import Params, State

NETWORK_FILE = "network.onnx"
_LONGEST = 65_536  # bars that no network looks back on


@dataclasses.dataclass(frozen=True)
class OnnxWindow(Params):
    """A network that looks at the last ``window`` complete rows, scaled, and starts from nothing at every
    bar.

    Row ``x`` enters as ``clip((x - mean) / std, -clip, clip)`` in float32. A row with a missing value is left
    out: the window stays and the last outputs are repeated. Outputs are NaN until ``window`` rows were
    seen.

    Inference is one row at a time also in ``run``: a batched matrix product sums in another order and would
    differ in the last bits. ONNX Runtime works on one thread, sequentially, so that a number does not depend
    on the process.

    Parameters
    ----------
    inputs : tuple of str
        Columns, in the order of the network's last axis.
    outputs : tuple of str
        Names of the network's outputs. Activation, calibration and units are part of the graph.
    mean, std : tuple of float, one an input
        Scaler, fitted on the rows that the network was trained on.
    clip : float
        Bound on scaled values.
    window : int
        Rows that the network sees.
    network : bytes
        ONNX graph with one float32 input of shape (1, window, len(inputs)) and one float32 output of shape
        (1, len(outputs)).

    Raises
    ------
    ValueError
        If the graph's shapes are not these, or a ``std`` is not positive.
    """

    kind: ClassVar[str] = "onnx_window"

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float
    window: int
    network: bytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.inputs) == len(self.mean) == len(self.std):
            raise ValueError(
                f"network: {len(self.inputs)} inputs, {len(self.mean)} means and "
                f"{len(self.std)} standard deviations"
            )
        if min(self.std) <= 0:
            raise ValueError(f"network: standard deviations must be positive, they are {self.std}")
        checks.names("network: inputs", self.inputs)
        checks.names("network: outputs", self.outputs)
        checks.numbers("network: mean", self.mean, (len(self.inputs),))
        checks.numbers("network: std", self.std, (len(self.inputs),))
        checks.number("network: clip", self.clip, 1e-9)
        checks.whole("network: window", self.window, 1, _LONGEST)
        try:
            session = inference_session(self.network)
            (source,), (result,) = session.get_inputs(), session.get_outputs()
        except Exception as error:  # onnxruntime has one for every way in which bytes are no graph
            raise ValueError(f"network: not a graph that ONNX Runtime reads ({error})") from None
        shapes = [1, self.window, len(self.inputs)], [1, len(self.outputs)]
        if [source.shape, result.shape] != [*shapes]:
            raise ValueError(
                f"network: the graph maps {source.shape} to {result.shape}; its window, inputs and outputs "
                f"ask for {shapes[0]} to {shapes[1]}"
            )
        probes = [np.full((1, self.window, len(self.inputs)), x, np.float32) for x in (0.0, -1.0, 1.0)]
        try:
            given = np.concatenate([session.run([result.name], {source.name: probe})[0] for probe in probes])
        except Exception as error:
            raise ValueError(f"network: the graph does not run ({error})") from None
        if given.dtype != np.float32 or not np.isfinite(given).all():
            raise ValueError(
                f"network: of plain windows the graph gives {given.tolist()}, not finite numbers"
            )
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_names", (source.name, [result.name]))
        object.__setattr__(self, "_scaler", np.array([self.mean, self.std], np.float64))

    def initial_state(self) -> State:
        return {
            "window": np.zeros(
                (self.window, len(self.inputs)), dtype=np.float32
            ),  # the last scaled rows, in order
            "seen": np.zeros(1, dtype=np.int64),
            "last": np.full(len(self.outputs), np.nan),
        }

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        window, seen, last = state["window"], state["seen"], state["last"]
        infer, (source, results) = self._session.run, self._names  # type: ignore[attr-defined]
        feed = {source: window[None]}  # a view: the session reads the rows where they lie
        scaler = self._scaler  # type: ignore[attr-defined]
        out = np.empty((len(xs), len(self.outputs)))
        for i in range(len(xs)):
            if _push(window, seen, xs[i], scaler, self.clip):
                last[:] = infer(results, feed)[0][0]
            out[i] = last
        return out

    def save(self, folder: Path) -> None:
        """Write ``params.json`` and ``network.onnx`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NETWORK_FILE).write_bytes(self.network)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["network"] = hashlib.sha256(self.network).hexdigest()
        (folder / "params.json").write_text(json.dumps({"kind": self.kind, **fields}, indent=1))

    @classmethod
    def restore(cls, folder: Path, fields: dict[str, Any]) -> Self:
        """Rebuild from the fields of ``params.json`` and the graph beside it.

        Raises
        ------
        ValueError
            If the graph is not the one that was saved with these fields.
        """
        network = (folder / NETWORK_FILE).read_bytes()
        found = hashlib.sha256(network).hexdigest()
        if found != fields["network"]:
            raise ValueError(
                f"{folder / NETWORK_FILE}: sha256 is {found}, params.json expects {fields['network']}; "
                "the two files do not belong together, restore the folder or train again"
            )
        return cls(**{**fields, "network": network})


@numba.njit(cache=True, error_model="numpy")
def _push(window, seen, x, scaler, clip):  # type: ignore[no-untyped-def]
    """Move a complete row ``x`` into the window, scaled; whether there is now a full window to look at."""
    for j in range(len(x)):
        if not math.isfinite(x[j]):
            return False
    last = len(window) - 1
    for i in range(last):
        for j in range(len(x)):
            window[i, j] = window[i + 1, j]
    for j in range(len(x)):
        window[last, j] = np.float32(min(max((x[j] - scaler[0, j]) / scaler[1, j], -clip), clip))
    seen[0] += 1
    return seen[0] > last


def inference_session(network: bytes) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one thread, whose numbers are the same in every process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors only
    # A fallback would print, to try the same provider again.
    return onnxruntime.InferenceSession(
        network, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )
