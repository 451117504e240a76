"""What a fit says of itself: warnings that are kept with what was fitted, and how its epochs go."""

import warnings
from collections.abc import Callable
from typing import NamedTuple


class FitWarning(UserWarning):
    """A fit that is kept though something is amiss; its text is a sentence for people, and goes into the
    bundle."""


def warn_fit(text: str) -> None:
    """Say that a fit is kept though something is amiss."""
    warnings.warn(text, FitWarning, stacklevel=2)


class Epoch(NamedTuple):
    """One pass of a fit over its examples. Epoch 0 is the model before training."""

    epoch: int
    epochs: int
    train_loss: float  # NaN at epoch 0
    validation_loss: float
    best: bool


OnEpoch = Callable[[Epoch], None]
"""Called after every epoch, by fits that have epochs. An exception raised in it (or Ctrl-C) ends the fit."""
