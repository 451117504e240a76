"""A long short-term memory network that forecasts direction, trained in torch, served as ONNX."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from core.settings import Bars, Count, Number, unit
from core.table import FeatureTable
from learners.onnx_window import OnnxWindow
from learners.training import (
    Progress,
    TrainingSettings,
    deterministic,
    export_onnx,
    predict,
    train_network,
    windows,
)
from strategies.forecasters.base import CLASSES, OUTPUTS, ForecastSettings, examples
from strategies.forecasters.calibration import calibrate

_PROBES = 64


class LstmSettings(ForecastSettings):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) over a fixed window, from zero state at every
    bar.
    """

    kind: Literal["lstm"] = "lstm"
    window: Bars = Field(default=60, ge=1, le=2_000)
    """How far back the network sees."""
    hidden: Count = Field(default=32, ge=1, le=512)
    """Size of its memory."""
    clip: Annotated[Number, unit("standard deviations")] = Field(default=5.0, gt=0, le=1e6)
    """Where standardised features are cut."""
    training: TrainingSettings = TrainingSettings()
    """How the network is trained."""

    def fit(
        self, table: FeatureTable, price: np.ndarray, seed: int, progress: Progress | None = None
    ) -> OnnxWindow:
        """The network trained on the first slice of the span, stopped on the second, calibrated on the third.

        Raises
        ------
        ValueError
            If the span is too short, or too few moves go beyond the threshold.
        ModuleNotFoundError
            If torch is not installed.
        """
        data = examples(self, table, price, self.window)
        rows = data.scaled(self.clip).astype(np.float32)
        with deterministic(seed) as torch:
            network = _network(torch, len(data.inputs), self.hidden)
            train_network(
                torch,
                network,
                torch.nn.functional.cross_entropy,
                rows,
                data.labels,
                self.window,
                data.train,
                data.validation,
                self.training,
                progress,
            )
            logits = predict(torch, network, rows, self.window, data.calibration)
            calibration = calibrate(logits, data.labels[data.calibration])
            head = network.head
            weight, bias = calibration.fold(head.weight.detach().numpy(), head.bias.detach().numpy())
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(weight))
                head.bias.copy_(torch.from_numpy(bias))
            probe = data.calibration[np.linspace(0, len(data.calibration) - 1, _PROBES).astype(np.int64)]
            graph = export_onnx(
                torch,
                _forecast(torch, network),
                windows(torch, rows, self.window)(probe).contiguous().numpy(),
            )
        return OnnxWindow(
            inputs=data.inputs,
            outputs=OUTPUTS,
            mean=tuple(data.mean.tolist()),
            std=tuple(data.std.tolist()),
            clip=self.clip,
            window=self.window,
            network=graph,
        )


def _network(torch: Any, inputs: int, hidden: int) -> Any:
    """A network from windows (m, window, inputs) to logits in the order of ``CLASSES``, shape (m, 3)."""

    class Lstm(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(inputs, hidden, batch_first=True)
            self.head = torch.nn.Linear(hidden, len(CLASSES))

        def forward(self, window: Any) -> Any:
            memory, _ = self.lstm(window)
            return self.head(memory[:, -1])

    return Lstm()


def _forecast(torch: Any, network: Any) -> Any:
    """``network`` with probabilities of up and down as its output."""

    class Forecast(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, window: Any) -> Any:
            return torch.softmax(self.network(window), 1)[:, : len(OUTPUTS)]

    return Forecast()
