"""Volatility forecasters and the risk-on/off gate.

A new module here that subclasses ``VolatilitySettings`` is found by itself.
"""

from typing import Any

from core.settings import import_modules, union_of_kinds
from volatility.base import VolatilitySettings

import_modules(__name__, __path__)


def union() -> Any:
    """The union of every volatility model's settings, for a config field discriminated by ``kind``."""
    return union_of_kinds(VolatilitySettings, "fit")


__all__ = ["VolatilitySettings", "union"]
