"""A strategy of one's own: its settings, and the policy that decides at every bar."""

from typing import Any, Literal

from pydantic import Field

from core.settings import Bars
from strategies.handover import leave
from strategies.policy import Decision, MarketView, Place, PolicyContext, PolicySettings
from strategies.sizing import Bet, Sized


class FollowSettings(PolicySettings):
    """Buys where most bars rose, sells where most fell, and leaves after some bars."""

    kind: Literal["follow"] = "follow"
    regimes: tuple[Literal["trend", "chop"], ...] = Field(default=("trend",), min_length=1)
    """Where it may take risk."""
    feature: str = "rise_share_10"
    """The share of rises; among the config's features."""
    hold: Bars = Field(default=5, ge=1, le=10_000)
    """Leaves after so many."""

    def policy(self, context: PolicyContext) -> "FollowPolicy":
        return FollowPolicy(self, context)


class FollowPolicy:
    """One position at a time, at market."""

    def __init__(self, settings: FollowSettings, context: PolicyContext) -> None:
        self._settings = settings
        self._column = context.features.index(settings.feature)
        self._context = context
        self._stop = context.risk.stop.fraction
        self.held = 0  # bars

    def decide(self, view: MarketView) -> Decision:
        if view.position:
            self.held += 1
            if self.held >= self._settings.hold:
                return leave(view, "exit", "held long enough")
            return Decision("hold", "position held")
        self.held = 0
        if view.orders or not view.limits.may_add:
            return Decision("none", "may not add")
        side = 1 if view.features[self._column] > 0.5 else -1
        spec, stop = self._context.spec, self.stop_price(side, view.price)
        bet = Bet(spec, view.equity, view.price, stop, self._context.annual_volatility(view.volatility))
        sized = self._settings.sizing.size(bet, Sized(view.limits.quantity, view.limits.bound))
        quantity = spec.floor_quantity(sized.quantity)
        if spec.below_minimum(quantity, view.price):
            return Decision("none", "too small", bound=sized.bound)
        return Decision(
            "enter", "follows the rises", (Place("entry", side, quantity),), quantity, sized.bound
        )

    def stop_price(self, position: float, entry_price: float) -> float:
        return entry_price * (1 - self._stop if position > 0 else 1 + self._stop)

    def stopped(self, ts: int) -> None:
        """Nothing to remember."""

    def save(self) -> dict[str, Any]:
        return {"held": self.held}

    def load(self, memory: dict[str, Any]) -> None:
        self.held = int(memory["held"])
