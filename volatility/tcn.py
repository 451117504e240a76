"""A causal temporal convolutional network for realized variance, trained with QLIKE, served as ONNX."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from core.settings import Count
from core.table import FeatureTable
from learners.onnx_window import OnnxWindow
from learners.training import (
    Progress,
    TrainingSettings,
    deterministic,
    export_onnx,
    time_slices,
    train_network,
    windows,
)
from volatility.base import OUTPUTS, VolatilitySettings, training_rows
from volatility.scores import realized_variance

_CLIP = 50.0  # returns beyond so many standard deviations are cut there
_SHARES = (0.85, 0.15)  # training and validation
_PROBES = 64
_LAYERS = range(2, 11)


class _Examples(NamedTuple):
    layers: int
    rows: np.ndarray
    realized: np.ndarray
    scale: float
    usable: np.ndarray  # whether a window ends at the row, and something is known of what came
    train: np.ndarray
    validation: np.ndarray


class TcnSettings(VolatilitySettings):
    """Temporal convolutional network (Bai, Kolter and Koltun 2018) on returns and the time of day."""

    kind: Literal["tcn"] = "tcn"
    layers: Count | None = Field(default=None, ge=2, le=14)
    """Dilated convolutions of width two: the network sees the last ``2 ** layers`` bars; without a number, as
    many as leave room to validate on the training span, ten at most."""
    channels: Count = Field(default=8, ge=1, le=256)
    """Width of each layer."""
    clock: tuple[str, str] | None = ("time_of_day_sin", "time_of_day_cos")
    """Features with the sine and cosine of the time of day."""
    training: TrainingSettings = TrainingSettings()
    """How the network is trained."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.returns, *(self.clock or ()))

    def check(self, table: FeatureTable) -> None:
        self._examples(table)

    def _examples(self, table: FeatureTable) -> "_Examples":
        """What the network learns from; raises ValueError where the span is too short for it."""
        rows = training_rows(table, self)
        layers = self.layers or _layers(len(rows), self.horizon)
        window = 2**layers
        rows = training_rows(table, self, least=2 * window)
        realized = realized_variance(rows[:, 0], self.horizon)
        train, validation = time_slices(len(rows), _SHARES, purge=window + self.horizon)
        usable = (realized > 0) & (np.arange(len(rows)) >= window - 1)
        scale = math.sqrt(float(np.mean(rows[train, 0] ** 2)))
        train, validation = train[usable[train]], validation[usable[validation]]
        if not len(train) or not len(validation) or not scale > 0:
            raise ValueError(
                f"tcn: {len(train)} training and {len(validation)} validation windows of {window} bars; "
                "train on a longer span, or lower volatility.layers"
            )
        return _Examples(layers, rows, realized, scale, usable, train, validation)

    def fit(self, table: FeatureTable, seed: int, progress: Progress | None = None) -> OnnxWindow:
        """The network trained on the earlier 85 % of the span, stopped by the QLIKE of the rest.

        Raises
        ------
        ValueError
            If the span is too short for the window and horizon.
        ModuleNotFoundError
            If torch is not installed.
        """
        layers, rows, realized, scale, usable, train, validation = self._examples(table)
        window = 2**layers
        level = float(np.mean(realized[train]))  # variance over the horizon
        ratio = np.where(usable, realized / level, 1.0).astype(np.float32)
        stds = (scale, *(1.0 for _ in self.columns[1:]))
        scaled = np.clip(rows / np.array(stds), -_CLIP, _CLIP).astype(np.float32)
        squares = scaled[train, 0] ** 2
        floor = float(squares[squares > 0].min()) / window  # less than any window that moved at all
        bounds = (math.log(float(ratio[train].min()) / 4), math.log(float(ratio[train].max())))
        with deterministic(seed) as torch:
            network = _network(torch, layers, len(self.columns), self.channels, floor)
            train_network(
                torch,
                network,
                lambda log_ratio, target: _qlike(torch, log_ratio, target),
                scaled,
                ratio,
                window,
                train,
                validation,
                self.training,
                progress,
            )
            probe = validation[np.linspace(0, len(validation) - 1, _PROBES).astype(np.int64)]
            graph = export_onnx(
                torch,
                _forecast(torch, network, level, bounds, self.horizon),
                windows(torch, scaled, window)(probe).contiguous().numpy(),
            )
        return OnnxWindow(
            inputs=self.columns,
            outputs=OUTPUTS,
            mean=(0.0,) * len(self.columns),
            std=stds,
            clip=_CLIP,
            window=window,
            network=graph,
        )


def _layers(rows: int, horizon: int) -> int:
    """The most layers whose window, with the horizon, takes up at most half of the validation slice."""
    room = _SHARES[1] * rows
    return max((n for n in _LAYERS if 2 * (2**n + horizon) <= room), default=_LAYERS[0])


def _qlike(torch: Any, log_ratio: Any, target: Any) -> Any:
    """QLIKE of ``exp(log_ratio)`` as forecast of ``target``, both variances over the sample variance."""
    x = target * torch.exp(-log_ratio)
    return (x - torch.log(x) - 1).mean()


def _network(torch: Any, layers: int, inputs: int, channels: int, floor: float) -> Any:
    """A network from windows (m, 2 ** layers, inputs) to the log ratio of forecast to sample variance, shape
    (m,).

    Two parts are added. A linear one reads the logs of the mean squared return over the last 1, 2, 4, … bars,
    as a heterogeneous autoregression does. The convolutional one is a residual stack, ``y[t] = x[t] +
    relu(conv(x[t - d], x[t]))`` with dilation d doubling a layer; of it only what the last bar depends on is
    computed, which is every second position of the layer below. Both start at zero, so the forecast starts at
    the sample variance.
    """
    length = 2**layers
    averages = np.zeros((length, layers + 1), dtype=np.float32)
    for j in range(layers + 1):
        averages[length - 2**j :, j] = 2.0**-j

    class Tcn(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("averages", torch.from_numpy(averages))
            self.enter = torch.nn.Conv1d(inputs + 1, channels, 1)
            self.convolutions = torch.nn.ModuleList(
                torch.nn.Conv1d(channels, channels, 2, stride=2) for _ in range(layers)
            )
            self.head = torch.nn.Linear(layers + 1 + channels + inputs - 1, 1)
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

        def forward(self, window: Any) -> Any:
            squares = window[:, :, 0] ** 2
            measures = torch.log(squares @ self.averages + floor)
            y = torch.cat((window, torch.log(squares + 0.01).unsqueeze(2)), 2).transpose(1, 2)
            y = self.enter(y)
            for convolution in self.convolutions:
                y = y[:, :, 1::2] + torch.relu(convolution(y))
            return self.head(torch.cat((measures, y[:, :, 0], window[:, -1, 1:]), 1))[:, 0]

    return Tcn()


def _forecast(torch: Any, network: Any, level: float, bounds: tuple[float, float], horizon: int) -> Any:
    """``network`` with its output in the units of ``OUTPUTS``, kept near what the training span realized."""

    class Forecast(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, window: Any) -> Any:
            log_ratio = torch.clamp(self.network(window), *bounds).unsqueeze(1)
            volatility = math.sqrt(level) * torch.exp(0.5 * log_ratio)
            return torch.cat((volatility, volatility / math.sqrt(horizon)), 1)

    return Forecast()
