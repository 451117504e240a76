"""Learners that are networks over a window: trained in torch, bit for bit the same, served as ONNX.

torch is imported when a network is trained and never to run one.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from core.fitting import Epoch, OnEpoch, warn_fit
from core.settings import Integer, Number, Settings, unit
from learners.base import LearnerSettings, Task
from learners.onnx_window import OnnxWindow, inference_session

OPSET = 17
_EVALUATION_BATCH = 1024
_PROBES = 64


class TrainingSettings(Settings):
    """How a network is trained: AdamW on mini-batches of windows, until a later slice of time no longer
    improves.
    """

    epochs: Annotated[Integer, unit("epochs")] = Field(default=30, ge=1, le=10_000)
    """Most passes over the samples."""
    samples: Annotated[Integer, unit("windows")] = Field(default=16_384, ge=1, le=10_000_000)
    """Windows drawn at random for an epoch; neighbouring windows are nearly the same."""
    batch: Annotated[Integer, unit("windows")] = Field(default=256, ge=1, le=65_536)
    """Windows a step of the optimiser sees."""
    learning_rate: Annotated[Number, unit("a step")] = Field(default=1e-3, gt=0, le=1)
    """Of AdamW."""
    weight_decay: Annotated[Number, unit("a step, times learning_rate")] = Field(default=1e-2, ge=0, le=10)
    """Of AdamW: pulls weights towards zero."""
    gradient_norm: Annotated[Number, unit("Euclidean norm")] = Field(default=1.0, gt=0, le=1e6)
    """Longer gradients are scaled down to it."""
    patience: Annotated[Integer, unit("epochs")] = Field(default=5, ge=1, le=10_000)
    """Epochs without improvement after which training stops; the best epoch's weights are kept."""


class NetworkSettings(LearnerSettings):
    """A network over the last bars; a subclass says how many it sees and what its body is."""

    training: TrainingSettings = TrainingSettings()
    """How the network is trained."""

    @property
    def width(self) -> int:
        """How many numbers the body gives of a window."""
        raise NotImplementedError

    def body(self, torch: Any, channels: int, window: int) -> Any:
        """A torch module from (m, window, channels) to (m, width)."""
        raise NotImplementedError

    def learn(self, task: Task, seed: int, on_epoch: OnEpoch | None = None) -> OnnxWindow:
        """The network trained on the first slice, stopped on the second, put right on the third.

        Raises
        ------
        ValueError
            If the loss is never a number.
        ModuleNotFoundError
            If torch is not installed.
        """
        rows = task.scaled().astype(np.float32)
        with deterministic(seed) as torch:
            body = self.body(torch, task.channels, task.window)
            network = task.network(torch, body, self.width)
            train_network(torch, network, task, rows, self.training, on_epoch)
            if len(task.calibration):
                scores = predict(torch, network, rows, task.window, task.calibration)
                head = network.head
                folded = task.calibrated(head.weight.detach().numpy(), head.bias.detach().numpy(), scores)
                with torch.no_grad():
                    for parameter, value in zip((head.weight, head.bias), folded, strict=True):
                        parameter.copy_(torch.from_numpy(value))
            probe = task.validation[np.linspace(0, len(task.validation) - 1, _PROBES).astype(np.int64)]
            cut = windows(torch, rows, task.window)
            graph = export_onnx(torch, task.served(torch, network), cut(probe).contiguous().numpy())
        return OnnxWindow(
            inputs=task.inputs,
            outputs=task.outputs,
            mean=tuple(task.mean.tolist()),
            std=tuple(task.std.tolist()),
            clip=task.clip,
            window=task.window,
            network=graph,
        )


def require_torch() -> Any:
    """The torch module.

    Raises
    ------
    ModuleNotFoundError
        If torch or onnx is not installed, saying how to install them.
    """
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"training needs the 'train' extra ({error.name} is not installed): pip install 'beaufort[train]'"
        ) from error
    return torch


@contextlib.contextmanager
def deterministic(seed: int) -> Iterator[Any]:
    """torch, seeded, on one thread and with deterministic algorithms inside the ``with``; as it was
    afterwards."""
    torch = require_torch()
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(True)
            torch.manual_seed(seed)
            yield torch
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_num_threads(threads)


def windows(torch: Any, rows: np.ndarray, length: int) -> Callable[[np.ndarray], Any]:
    """A function from row numbers, all ``>= length - 1``, to the windows that end there: (m, length, k), cut
    on demand."""
    view = torch.from_numpy(rows).unfold(0, length, 1)  # (n - length + 1, k, length) without a copy
    return lambda ends: view[torch.from_numpy(ends - (length - 1))].transpose(1, 2)


def train_network(
    torch: Any,
    network: Any,
    task: Task,
    rows: np.ndarray,
    settings: TrainingSettings,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train ``network`` in place and leave it at its best epoch. Call it inside ``deterministic``.

    Parameters
    ----------
    torch : module
        What ``deterministic`` yields.
    network : torch module
        Maps (m, window, k) to what the task's loss compares with its targets.
    task : Task
        Its targets, loss, window, training and validation slices; validation comes later in time.
    rows : float32 array, shape (n, k)
        The task's rows, scaled.
    settings, on_epoch
        See ``TrainingSettings`` and ``OnEpoch``.

    Raises
    ------
    ValueError
        If the validation loss is never finite.
    """
    cut = windows(torch, rows, task.window)
    targets = torch.from_numpy(task.targets)
    train, validation = task.train, task.validation
    if len(validation) > settings.samples:
        validation = validation[np.linspace(0, len(validation) - 1, settings.samples).astype(np.int64)]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )

    def batch_loss(ends: np.ndarray) -> Any:
        return task.loss(torch, network(cut(ends)), targets[torch.from_numpy(ends)])

    def validation_loss() -> float:
        network.eval()
        total = 0.0
        with torch.no_grad():
            for ends in _batches(validation, _EVALUATION_BATCH):
                total += len(ends) * float(batch_loss(ends))
        return total / len(validation)

    def train_epoch() -> float:
        network.train()
        total = 0.0
        order = train[torch.randperm(len(train)).numpy()[: settings.samples]]
        for ends in _batches(order, settings.batch):
            optimizer.zero_grad()
            value = batch_loss(ends)
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_norm)
            optimizer.step()
            total += len(ends) * float(value.detach())
        return total / len(order)

    lowest, best, best_epoch = np.inf, None, 0
    for epoch in range(settings.epochs + 1):
        trained = train_epoch() if epoch else float("nan")
        validated = validation_loss()
        improved = validated < lowest
        if improved:
            lowest, best, best_epoch = validated, copy.deepcopy(network.state_dict()), epoch
        if on_epoch is not None:
            on_epoch(Epoch(epoch, settings.epochs, trained, validated, improved))
        if epoch - best_epoch >= settings.patience:
            break
    if best is None:
        raise ValueError(
            f"training: the loss on the validation slice was never a number (learning_rate "
            f"{settings.learning_rate}); look for extreme feature values, or lower training.learning_rate"
        )
    if best_epoch == 0:
        warn_fit("no epoch of training did better on the validation slice than the network before it")
    elif best_epoch == settings.epochs:
        warn_fit(f"still improving at its last epoch, {settings.epochs}; raise training.epochs")
    network.load_state_dict(best)
    network.eval()


def predict(torch: Any, network: Any, rows: np.ndarray, window: int, ends: np.ndarray) -> np.ndarray:
    """The scores of the windows that end at ``ends``, shape (len(ends), scores), float32."""
    cut = windows(torch, rows, window)
    with torch.no_grad():
        return np.concatenate([network(cut(batch)).numpy() for batch in _batches(ends, _EVALUATION_BATCH)])


def export_onnx(torch: Any, network: Any, probe: np.ndarray) -> bytes:
    """``network`` as an ONNX graph for ``OnnxWindow``: one window in, one row out.

    Written by torch's TorchScript exporter, which needs no further package, at opset 17. Each window of
    ``probe``, float32 of shape (m, window, k), is then given to both: they must agree within 1e-5 of the
    largest output.

    Raises
    ------
    ValueError
        If they do not.
    """
    network.eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the exporter announces its own retirement, and dislikes a batch of one
        torch.onnx.export(
            network,
            (torch.from_numpy(probe[:1]),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=["window"],
            output_names=["outputs"],
        )
    graph = file.getvalue()
    session = inference_session(graph)
    served = np.concatenate([session.run(None, {"window": one[None]})[0] for one in probe])
    with torch.no_grad():
        trained = network(torch.from_numpy(probe)).numpy()
    difference, allowed = float(np.abs(served - trained).max()), 1e-5 * float(np.abs(trained).max())
    if not difference <= allowed:
        raise ValueError(
            f"onnx export: ONNX Runtime and torch differ by {difference:.3g} on {len(probe)} windows, more "
            f"than {allowed:.3g}; use the versions of torch, onnx and onnxruntime in constraints.txt"
        )
    return graph


def _batches(ends: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (ends[i : i + size] for i in range(0, len(ends), size))
