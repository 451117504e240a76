"""What is asked and who answers: a task puts one question to any learner, a learner answers any task.

A *task* (``volatility/learned.py``, ``strategies/forecasters/base.py``) knows its targets, its loss, how an
answer is made right in level or confidence, and what is said in the end. A *learner* (a module beside this
one) knows how to find a function of a bar and the bars before it. They meet in ``LearnerSettings.learn``.
"""

import abc
import dataclasses
import inspect
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from core.causal import CausalFilter
from core.fitting import OnEpoch
from core.settings import Settings

Quantity = Literal["classes", "variance"]
"""What is learned: probabilities of classes (cross-entropy), or a variance (QLIKE)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """The examples of one question, cut in order of time, and what any learner must know of it.

    A learner gives *scores*, one row a bar: logits of the classes, or the log of the variance over the
    sample's. They are linear in what it has learned of the bar; this last layer is the head.

    Parameters
    ----------
    inputs : tuple of str
        Columns.
    rows : float64 array, shape (n, len(inputs))
        The complete rows of the training span.
    mean, std : float64 arrays, shape (len(inputs),)
        Scaler, fitted on the training slice.
    clip : float
        Bound on scaled values.
    window : int
        Rows that the learner sees: the row at hand and those before it.
    targets : array, shape (n,)
        Index of the class, or realized variance over the sample's; unknown ones are in no slice.
    train, validation, calibration : int64 arrays
        Row numbers with a full window and a known target. The last slice may be empty.
    """

    quantity: ClassVar[Quantity]
    outputs: ClassVar[tuple[str, ...]]

    inputs: tuple[str, ...]
    rows: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    clip: float
    window: int
    targets: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray

    def scaled(self) -> np.ndarray:
        """The rows as a learner reads them, float64, same shape."""
        return np.clip((self.rows - self.mean) / self.std, -self.clip, self.clip)

    def calibrated(
        self, weight: np.ndarray, bias: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The head, weight (scores, k) and bias (scores,), put right by its ``scores`` on the calibration
        slice, shape (m, scores)."""
        return weight, bias

    @abc.abstractmethod
    def served_linear(self, weight: np.ndarray, bias: np.ndarray) -> CausalFilter:
        """The filter whose scores are ``weight @ scaled row + bias``; weight (scores, k), bias (scores,)."""

    # Torch's part, of learners that are networks; ``torch`` is the module.

    @property
    @abc.abstractmethod
    def channels(self) -> int:
        """What a network's body reads of each row."""

    @abc.abstractmethod
    def network(self, torch: Any, body: Any, width: int) -> Any:
        """``body`` between what this task reads of a window and a linear layer ``head``.

        ``body`` maps (m, window, channels) to (m, width); the network maps (m, window, len(inputs)) to the
        scores.
        """

    @abc.abstractmethod
    def loss(self, torch: Any, scores: Any, targets: Any) -> Any:
        """The mean over a batch."""

    @abc.abstractmethod
    def served(self, torch: Any, network: Any) -> Any:
        """``network`` with the task's outputs in place of scores, shape (m, len(outputs))."""


class LearnerSettings(Settings):
    """How something is learned, whatever it stands for; a subclass with a ``kind`` is one learner.

    Every task that is put to learners (``for_every_learner``) gets settings of its own and the learner's in
    one table of a config.
    """

    quantities: ClassVar[frozenset[Quantity]] = frozenset({"classes", "variance"})
    """What it can learn."""
    remembers: ClassVar[bool] = True
    """Whether it sees bars before the last; for one that does not, features must tell the past."""

    def lookback(self, room: float) -> int:
        """The window: how many bars it sees. One longer than ``room`` leaves little to validate on."""
        return 1

    def learn(self, task: Task, seed: int, on_epoch: OnEpoch | None = None) -> CausalFilter:
        """A filter from ``task.inputs`` to ``task.outputs``, the same bit for bit by the same ``seed``.

        Raises
        ------
        ValueError
            If nothing can be learned.
        """
        raise NotImplementedError

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "kind" not in inspect.get_annotations(cls):
            return  # a base of learners, or a learner's settings for one task
        if cls.learn is LearnerSettings.learn:
            where = f"{cls.__module__}.{cls.__qualname__}"
            raise ValueError(f"{where}: has no 'learn'; write it as LearnerSettings.learn says")
        _LEARNERS.append(cls)
        for task, quantity in _TASKS:
            _join(cls, task, quantity)


_LEARNERS: list[type[LearnerSettings]] = []
_TASKS: list[tuple[type[LearnerSettings], Quantity]] = []
_JOINED: list[type[LearnerSettings]] = []  # held here: a base knows its subclasses by weak references alone


def for_every_learner[T: LearnerSettings](quantity: Quantity) -> Callable[[type[T]], type[T]]:
    """Put a task to every learner of a quantity, to those imported later too.

    The class below has the task's settings. For each learner it gets a subclass, a kind of its family.
    """

    def decorate(task: type[T]) -> type[T]:
        _TASKS.append((task, quantity))
        for learner in _LEARNERS:
            _join(learner, task, quantity)
        return task

    return decorate


def _join(learner: type[LearnerSettings], task: type[LearnerSettings], quantity: Quantity) -> None:
    if quantity in learner.quantities:
        name = learner.__name__.removesuffix("Settings") + task.__name__.removeprefix("Learned")
        # What decides a fit is read from the modules of all bases; this class has none of its own.
        namespace = {"__doc__": learner.__doc__, "__module__": task.__module__}
        _JOINED.append(type(f"{name}Settings", (learner, task), namespace))


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
