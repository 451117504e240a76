"""Which sizing rules of a strategy speak, and the size that comes of it."""

from core.settings import Settings
from strategies.sizing.base import Bet, Sized, SizingRule, smallest
from strategies.sizing.fixed_fractional import FixedFractional, RiskFraction
from strategies.sizing.kelly import Kelly, KellyFraction, PayoffRatio
from strategies.sizing.volatility_target import Target, VolatilityTarget


class SizingSettings(Settings):
    """Which sizing rules speak; a rule without a value is silent, and the smallest answer binds."""

    risk_fraction: RiskFraction | None = 0.005
    """Share of equity lost if the stop is hit (fixed fractional)."""
    volatility_target: Target | None = 0.4
    """Volatility a year that the position may bring to equity (0.4 is 40 %)."""
    kelly_fraction: KellyFraction | None = 0.25
    """Share of the Kelly bet on the calibrated probabilities."""
    payoff_ratio: PayoffRatio = 1.5
    """What a win of that bet brings, in stop distances."""
    rules: tuple[SizingRule, ...] = ()
    """Further rules, each by its ``kind``."""

    @property
    def speaking(self) -> tuple[SizingRule, ...]:
        """Every rule that has a value."""
        rules: list[SizingRule] = []
        if self.risk_fraction is not None:
            rules.append(FixedFractional(fraction=self.risk_fraction))
        if self.volatility_target is not None:
            rules.append(VolatilityTarget(target=self.volatility_target))
        if self.kelly_fraction is not None:
            rules.append(Kelly(fraction=self.kelly_fraction, payoff_ratio=self.payoff_ratio))
        return (*rules, *self.rules)

    def size(self, bet: Bet, most: Sized, scale: float = 1.0) -> Sized:
        """The smallest of ``most`` and the rules' answers, these times ``scale``; it is named."""
        said = ((rule.contracts(bet), rule.kind) for rule in self.speaking)
        answers = [Sized(contracts * scale, kind) for contracts, kind in said if contracts is not None]
        return smallest([*answers, most])
