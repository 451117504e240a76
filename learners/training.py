"""Training of small window networks in torch, the same bit for bit every time, and their way into ONNX.

torch is imported when a network is trained and never to run one.
"""

import contextlib
import copy
import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from core.fitting import warn_fit
from core.settings import Integer, Number, Settings, unit
from learners.onnx_window import inference_session

OPSET = 17
_EVALUATION_BATCH = 1024


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


class Epoch(NamedTuple):
    """How training goes; handed to the progress callback after every epoch. Epoch 0 is the network before
    training."""

    epoch: int
    epochs: int
    train_loss: float  # NaN at epoch 0
    validation_loss: float
    best: bool


Progress = Callable[[Epoch], None]
"""Called after every epoch. An exception raised in it (or Ctrl-C) ends training and leaves torch as it
was."""


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


def time_slices(n: int, shares: tuple[float, ...], purge: int) -> list[np.ndarray]:
    """``n`` rows cut in order of time into slices of these shares, ``purge`` rows left out between
    neighbours.

    With ``purge`` at least the window's length plus the target's horizon, no row and no target is seen from
    two slices (Lopez de Prado 2018, "Advances in Financial Machine Learning", chapter 7).

    Returns
    -------
    list of int64 arrays
        Row numbers, ascending, one array a share.

    Raises
    ------
    ValueError
        If a slice would be empty.
    """
    edges = np.round(np.cumsum((0.0, *shares)) / sum(shares) * n).astype(np.int64)
    slices = [np.arange(lo + (purge if i else 0), hi) for i, (lo, hi) in enumerate(itertools.pairwise(edges))]
    if min(len(s) for s in slices) == 0:
        raise ValueError(
            f"training: {n} rows cannot be cut into {len(shares)} slices with {purge} rows left out between "
            "them; train on a longer span, or shorten window and horizon"
        )
    return slices


def windows(torch: Any, rows: np.ndarray, length: int) -> Callable[[np.ndarray], Any]:
    """A function from row numbers, all ``>= length - 1``, to the windows that end there: (m, length, k), cut
    on demand."""
    view = torch.from_numpy(rows).unfold(0, length, 1)  # (n - length + 1, k, length) without a copy
    return lambda ends: view[torch.from_numpy(ends - (length - 1))].transpose(1, 2)


def train_network(
    torch: Any,
    network: Any,
    loss: Callable[[Any, Any], Any],
    rows: np.ndarray,
    targets: np.ndarray,
    window: int,
    train: np.ndarray,
    validation: np.ndarray,
    settings: TrainingSettings,
    progress: Progress | None = None,
) -> None:
    """Train ``network`` in place and leave it at its best epoch. Call it inside ``deterministic``.

    Parameters
    ----------
    torch : module
        What ``deterministic`` yields.
    network : torch module
        Maps (m, window, k) to what ``loss`` compares with targets.
    loss : callable
        ``loss(outputs, targets)``, the mean over the batch.
    rows : float32 array, shape (n, k)
        Scaled.
    targets : array, shape (n,)
        Target of the window that ends at each row.
    window : int
        Rows a window has.
    train, validation : int64 arrays
        Row numbers at which windows end; validation comes later in time.
    settings, progress
        See ``TrainingSettings`` and ``Progress``.

    Raises
    ------
    ValueError
        If the validation loss is never finite.
    """
    cut = windows(torch, rows, window)
    wanted = torch.from_numpy(targets)
    if len(validation) > settings.samples:
        validation = validation[np.linspace(0, len(validation) - 1, settings.samples).astype(np.int64)]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )

    def validation_loss() -> float:
        network.eval()
        total = 0.0
        with torch.no_grad():
            for ends in _batches(validation, _EVALUATION_BATCH):
                total += len(ends) * float(loss(network(cut(ends)), wanted[torch.from_numpy(ends)]))
        return total / len(validation)

    def train_epoch() -> float:
        network.train()
        total = 0.0
        order = train[torch.randperm(len(train)).numpy()[: settings.samples]]
        for ends in _batches(order, settings.batch):
            optimizer.zero_grad()
            value = loss(network(cut(ends)), wanted[torch.from_numpy(ends)])
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
        if progress is not None:
            progress(Epoch(epoch, settings.epochs, trained, validated, improved))
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
    """What ``network`` says of the windows that end at ``ends``, shape (len(ends), outputs), float32."""
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
