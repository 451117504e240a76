"""Regime detectors: what kind of market it is, from its features.

A new module here that subclasses ``RegimeSettings`` is found by itself.
"""

from typing import Any

from core.settings import import_modules, union_of_kinds
from regimes.base import RegimeSettings

import_modules(__name__, __path__)


def union() -> Any:
    """The union of every detector's settings, for a config field discriminated by ``kind``."""
    return union_of_kinds(RegimeSettings, "fit", "columns")


__all__ = ["RegimeSettings", "union"]
