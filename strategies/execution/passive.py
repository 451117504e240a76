"""The algorithm ``passive``: rests at its price until others come, and never takes."""

from typing import ClassVar, Literal

from strategies.execution.base import ExecutionSettings, Market
from strategies.policy import OrderKind, Place


class PassiveSettings(ExecutionSettings):
    """Post-only limit orders, good till cancelled."""

    works: ClassVar[tuple[OrderKind, ...]] = ("limit",)

    kind: Literal["passive"] = "passive"

    def orders(self, wanted: Place, market: Market) -> tuple[Place, ...]:
        return (wanted._replace(time_in_force="gtc", post_only=True),)
