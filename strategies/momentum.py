"""Momentum on a calibrated forecast: in with the likelier side, out by stop, horizon or a turned forecast."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from core.settings import Bars, Multiple, Probability
from strategies.handover import leave
from strategies.policy import Decision, MarketView, Place, PolicyContext, PolicySettings
from strategies.sizing import Bet, Sized


class MomentumSettings(PolicySettings):
    """Momentum: in with the likelier side of a forecast, out by stop, horizon or a turned forecast.

    The stop is ``risk.stop``.
    """

    on_forecast: ClassVar[bool] = True

    kind: Literal["momentum"] = "momentum"
    regimes: tuple[Literal["trend", "chop"], ...] = Field(default=("trend",), min_length=1)
    """Where it may take risk."""
    entry_probability: Probability = Field(default=0.5, gt=0, lt=1)
    """Enters the side whose probability is at least this."""
    margin: Probability = Field(default=0.1, ge=0, lt=1)
    """And above the other side's by this."""
    flip_margin: Probability = Field(default=0.1, ge=0, lt=1)
    """Leaves when the other side's probability exceeds the held side's by this."""
    horizon: Bars = Field(default=60, ge=1, le=1_000_000)
    """Leaves after so many."""
    cooldown: Bars = Field(default=0, ge=0, le=1_000_000)
    """Waits so many after a position before the next."""
    risk_off_stop: Multiple = Field(default=1.5, ge=1, le=100)
    """Factor on the stop's distance when the position is opened under a risk-off gate."""

    def policy(self, context: PolicyContext) -> "MomentumPolicy":
        return MomentumPolicy(self, context)


class MomentumPolicy:
    """Holds at most one position."""

    def __init__(self, settings: MomentumSettings, context: PolicyContext) -> None:
        self._s = settings
        self._context = context
        self.bars_held = 0
        self.cooldown = 0  # bars to wait
        self.stop_distance = context.risk.stop.fraction  # of the position held or asked for

    def decide(self, view: MarketView) -> Decision:
        if not view.position:
            return self._flat(view)
        self.bars_held += 1
        if any(o.exits for o in view.orders):
            return Decision("hold", "exit on its way")
        reason = self._exit_reason(view)
        return leave(view, "exit", reason) if reason else Decision("hold", "position held")

    def _exit_reason(self, view: MarketView) -> str:
        long = view.position > 0
        own, other = (view.p_up, view.p_down) if long else (view.p_down, view.p_up)
        if self.bars_held >= self._s.horizon:
            return "horizon reached"
        return "forecast turned" if other - own > self._s.flip_margin else ""

    def _flat(self, view: MarketView) -> Decision:
        if self.bars_held:
            self.bars_held = 0
            self.cooldown = self._s.cooldown
        elif self.cooldown:
            self.cooldown -= 1
        if view.orders:
            return Decision("none", "order on its way")
        if self.cooldown:
            return Decision("none", "cooling down")
        s, up, down = self._s, view.p_up, view.p_down
        side = 1 if up > down else -1
        win, loss = (up, down) if side > 0 else (down, up)
        if win != win:
            return Decision("none", "no forecast")
        if win < s.entry_probability or win - loss < s.margin:
            return Decision("none", "probability under threshold")
        scale = view.size_factor * (1.0 if view.risk_on else s.risk_off_size)
        if scale == 0:
            return Decision(
                "none", "no entry while risk-off" if view.size_factor else "governor allows no size"
            )
        if not view.limits.may_add:
            return Decision("none", "may not add")
        return self._enter(view, side, win, loss, scale)

    def _enter(self, view: MarketView, side: int, win: float, loss: float, scale: float) -> Decision:
        context = self._context
        distance = context.risk.stop.distance(view.volatility)
        self.stop_distance = distance if view.risk_on else min(0.5, distance * self._s.risk_off_stop)
        stop = self.stop_price(side, view.price)
        volatility = context.annual_volatility(view.volatility)
        bet = Bet(context.spec, view.equity, view.price, stop, volatility, win, loss)
        sized = self._s.sizing.size(bet, Sized(view.limits.quantity, view.limits.bound), scale)
        quantity = context.spec.floor_quantity(sized.quantity)
        short = context.spec.below_minimum(quantity, view.price)
        if short:
            return Decision("none", f"size under the venue's minimum ({short})", bound=sized.bound)
        name = "up" if side > 0 else "down"
        return Decision(
            "enter", f"{name} over threshold", (Place("entry", side, quantity),), quantity, sized.bound
        )

    def stopped(self, ts: int) -> None:
        if not self.bars_held:  # opened and closed within one bar
            self.cooldown = self._s.cooldown + 1

    def stop_price(self, position: float, entry_price: float) -> float:
        return entry_price * (1 - self.stop_distance if position > 0 else 1 + self.stop_distance)

    def save(self) -> dict[str, Any]:
        return {"bars_held": self.bars_held, "cooldown": self.cooldown, "stop_distance": self.stop_distance}

    def load(self, memory: dict[str, Any]) -> None:
        self.bars_held = int(memory["bars_held"])
        self.cooldown = int(memory["cooldown"])
        self.stop_distance = float(memory["stop_distance"])
