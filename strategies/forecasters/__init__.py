"""Forecasters of the price's direction. A new module here that subclasses ``ForecastSettings`` is found."""

from typing import Any

from core.settings import import_modules, union_of_kinds
from strategies.forecasters.base import ForecastSettings

import_modules(__name__, __path__)


def union() -> Any:
    """The union of every forecaster's settings, for a config field discriminated by ``kind``."""
    return union_of_kinds(ForecastSettings, "fit")


__all__ = ["ForecastSettings", "union"]
