"""Regime detectors: what kind of market it is, from its features.

A new module here that subclasses ``RegimeSettings`` is found by itself.
"""

from core.kinds import import_modules
from regimes.base import RegimeSettings

import_modules(__name__, __path__)

__all__ = ["RegimeSettings"]
