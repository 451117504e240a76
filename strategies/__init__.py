"""Trading strategies: pure policies, what sizes and guards their orders, and the shell that runs them.

A new module here with a subclass of ``PolicySettings`` is found by itself; it needs a ``kind``
and a ``policy``.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import Field

from strategies.base import GatedStrategy
from strategies.config import StrategyConfig
from strategies.policy import PolicySettings

for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        importlib.import_module(f"{__name__}.{_module.name}")


def union() -> Any:
    """The union of every strategy's settings, for a config field discriminated by ``kind``."""
    return Union[tuple(sorted(PolicySettings.__subclasses__(), key=lambda c: c.__name__))]  # noqa: UP007


StrategySettings = Annotated[union(), Field(discriminator="kind")]  # type: ignore[valid-type]


def build(config: StrategyConfig) -> GatedStrategy:
    """The strategy of ``config.settings`` as a Nautilus strategy, for a backtest, a replay or a live node."""
    return GatedStrategy(config)


def check_owners(strategies: Mapping[str, PolicySettings]) -> None:
    """Raise ValueError where two strategies own one regime: never may two add risk on one instrument."""
    owner: dict[str, str] = {}
    for name, settings in strategies.items():
        for regime in settings.regimes:
            if regime in owner:
                raise ValueError(
                    f"regime {regime!r} belongs to both {owner[regime]!r} and {name!r}; give it to one"
                )
            owner[regime] = name


__all__ = [
    "GatedStrategy",
    "PolicySettings",
    "StrategyConfig",
    "StrategySettings",
    "build",
    "check_owners",
    "union",
]
