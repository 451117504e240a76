"""Forecasters of the price's direction.

A new module here that subclasses ``ForecastSettings`` is found by itself, and so is every learner of
``learners/`` that can tell classes apart.
"""

from core.kinds import import_modules
from strategies.forecasters.base import ForecastSettings

import_modules(__name__, __path__)

__all__ = ["ForecastSettings"]
