"""Volatility forecasters and the risk-on/off gate.

A new module here that subclasses ``VolatilitySettings`` is found by itself, and so is every learner of
``learners/`` that can learn a variance.
"""

from core.kinds import import_modules
from volatility.base import VolatilitySettings

import_modules(__name__, __path__)

__all__ = ["VolatilitySettings"]
