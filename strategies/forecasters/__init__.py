"""Forecasters of the price's direction. A new module here that subclasses ``ForecastSettings`` is found."""

import importlib
import pkgutil
from typing import Any, Union

from strategies.forecasters.base import ForecastSettings

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def union() -> Any:
    """The union of every forecaster's settings, for a config field discriminated by ``kind``."""
    return Union[tuple(sorted(ForecastSettings.__subclasses__(), key=lambda c: c.__name__))]  # noqa: UP007


__all__ = ["ForecastSettings", "union"]
