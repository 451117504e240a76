"""The algorithm ``market``: takes what the market gives, at once or once a stop is met."""

from typing import ClassVar, Literal

from strategies.execution.base import ExecutionSettings, Market
from strategies.policy import OrderKind, Place

_FAR = 0.05  # how far through the market an order that stands in for one at market may go


class MarketSettings(ExecutionSettings):
    """Orders at market and stops.

    Where the venue cannot judge an order at market, an immediate-or-cancel limit 5 % through the market
    stands in for it.
    """

    works: ClassVar[tuple[OrderKind, ...]] = ("market", "stop")

    kind: Literal["market"] = "market"

    def orders(self, wanted: Place, market: Market) -> tuple[Place, ...]:
        if wanted.kind == "stop" or market.priced:
            return (wanted,)
        far = market.price * (1 + _FAR * wanted.side)
        return (wanted._replace(kind="limit", price=far, time_in_force="ioc"),)
