"""What is fitted to examples, whatever they stand for, and how it is served without torch.

A new module here with a subclass of ``LearnerSettings`` is a learner of every task: found by itself.
"""

import os

from core.kinds import import_modules
from learners.base import LearnerSettings, Task, for_every_learner

# ONNX Runtime tells its maker of its use unless it is asked not to before it is imported, as modules here do.
# A trading host talks to its venues only.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import_modules(__name__, __path__)

__all__ = ["LearnerSettings", "Task", "for_every_learner"]
