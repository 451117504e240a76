"""Trading strategies: pure policies, what sizes and guards their orders, and the trader that sends them.

A new module here with a subclass of ``PolicySettings`` is found by itself; it needs a ``kind``
and a ``policy``.
"""

from collections.abc import Mapping

from core.kinds import import_modules
from strategies.desk import DeskConfig
from strategies.policy import PolicySettings

import_modules(__name__, __path__)


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
    "DeskConfig",
    "PolicySettings",
    "check_owners",
]
