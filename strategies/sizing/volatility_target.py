"""The sizing rule ``volatility_target``: the position brings so much volatility to equity."""

from typing import Annotated, Literal

from pydantic import Field

from core.settings import Volatility
from strategies.contracts import ContractSpec
from strategies.sizing.base import Bet, SizingRule

Target = Annotated[Volatility, Field(gt=0, le=1e9)]


class VolatilityTarget(SizingRule):
    """Volatility targeting, by the forecast."""

    kind: Literal["volatility_target"] = "volatility_target"
    target: Target = 0.4
    """Volatility a year that the position may bring to equity (0.4 is 40 %)."""

    def contracts(self, bet: Bet) -> float:
        return volatility_target(bet.equity, self.target, bet.annual_volatility, bet.entry, bet.spec)


def volatility_target(
    equity: float, target: float, annual_volatility: float, price: float, spec: ContractSpec
) -> float:
    """Contracts whose notional is ``target / annual_volatility`` times equity."""
    return target / annual_volatility * equity / spec.value(price) if annual_volatility > 0 else 0.0
