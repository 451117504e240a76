"""Regime detectors: what kind of market it is, from its features.

A new module here that subclasses ``RegimeSettings`` is found by itself.
"""

import importlib
import pkgutil
from typing import Any, Union

from regimes.base import RegimeSettings

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def union() -> Any:
    """The union of every detector's settings, for a config field discriminated by ``kind``."""
    return Union[tuple(sorted(RegimeSettings.__subclasses__(), key=lambda c: c.__name__))]  # noqa: UP007


__all__ = ["RegimeSettings", "union"]
