"""A sizing rule of one's own: how many contracts a position may have."""

from typing import Annotated, Literal

from pydantic import Field

from core.settings import Number, unit
from strategies.sizing import Bet, SizingRule


class AtMost(SizingRule):
    """So many contracts, whatever equity and forecasts say."""

    kind: Literal["at_most"] = "at_most"
    most: Annotated[Number, unit("contracts")] = Field(default=0.1, gt=0)
    """The number of them."""

    def contracts(self, bet: Bet) -> float | None:
        return self.most
