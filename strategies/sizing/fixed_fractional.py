"""The sizing rule ``fixed_fractional``: a share of equity is lost if the stop is hit."""

from typing import Annotated, Literal

from pydantic import Field

from core.settings import Fraction
from strategies.contracts import ContractSpec
from strategies.sizing.base import Bet, SizingRule

RiskFraction = Annotated[Fraction, Field(gt=0, lt=1)]


class FixedFractional(SizingRule):
    """Fixed fractional sizing."""

    kind: Literal["fixed_fractional"] = "fixed_fractional"
    fraction: RiskFraction = 0.005
    """Share of equity lost if the stop is hit."""

    def contracts(self, bet: Bet) -> float:
        return fixed_fractional(bet.equity, self.fraction, bet.entry, bet.stop, bet.spec)


def fixed_fractional(
    equity: float, risk_fraction: float, entry: float, stop: float, spec: ContractSpec
) -> float:
    """Contracts that lose ``risk_fraction`` of ``equity`` between ``entry`` and ``stop``."""
    loss = abs(spec.profit(entry, stop))
    return risk_fraction * equity / loss if loss > 0 else 0.0
