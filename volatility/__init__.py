"""Volatility forecasters and the risk-on/off gate.

A new module here that subclasses ``VolatilitySettings`` is found by itself.
"""

import importlib
import pkgutil
from typing import Any, Union

from volatility.base import VolatilitySettings

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def union() -> Any:
    """The union of every volatility model's settings, for a config field discriminated by ``kind``."""
    return Union[tuple(sorted(VolatilitySettings.__subclasses__(), key=lambda c: c.__name__))]  # noqa: UP007


__all__ = ["VolatilitySettings", "union"]
