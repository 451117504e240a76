"""A learner of one's own, of every task: ``volatility.kind = "mean"`` and ``forecast.kind = "mean"``."""

from typing import ClassVar, Literal

import numpy as np

from core.causal import CausalFilter
from core.fitting import OnEpoch
from learners import LearnerSettings, Task


class MeanSettings(LearnerSettings):
    """The mean variance, or the share of each class: what is known without any feature."""

    remembers: ClassVar[bool] = False

    kind: Literal["mean"] = "mean"

    def learn(self, task: Task, seed: int, on_epoch: OnEpoch | None = None) -> CausalFilter:
        known = task.targets[task.train]
        if task.quantity == "variance":
            bias = np.log([known.mean()])
        else:
            bias = np.log(np.maximum(np.bincount(known, minlength=len(task.outputs) + 1), 1) / len(known))
        weight = np.zeros((len(bias), len(task.inputs)))
        scores = np.broadcast_to(bias, (len(task.calibration), len(bias)))
        return task.served_linear(*task.calibrated(weight, bias, scores))
