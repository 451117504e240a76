"""Mean-reversion grid: a post-only ladder around a fair value, bounded inventory, a range-break stop."""

from typing import Annotated, Any, Literal

from pydantic import Field

from core.settings import Count, Duration, Integer, Multiple, Number, default, unit
from strategies.handover import leave
from strategies.ladder import build_ladder, requote
from strategies.policy import Cancel, Decision, MarketView, PolicyContext, PolicySettings
from strategies.sizing import Bet, Sized

_SLACK = 0.05  # of a unit: an order that much smaller than wanted stays as it is


class GridSettings(PolicySettings):
    """A mean-reversion grid: a post-only ladder around a fair value, with a stop where its range breaks.

    The spacing is the largest of ``spacing_volatilities``, ``min_ticks`` and ``fee_multiple``. Price
    ``break_levels`` outside the outermost level is a broken range: the position is closed and the grid rests
    for ``pause``.
    """

    kind: Literal["grid"] = "grid"
    regimes: tuple[Literal["trend", "chop"], ...] = Field(default=("chop",), min_length=1)
    """Where it may take risk."""
    on_leave: Literal["flatten", "reduce_only"] = "reduce_only"
    """What becomes of its position when it loses its regime or its model: closed at market, or worked out by
    reduce-only orders."""
    levels: Count = Field(default=4, ge=1, le=50)
    """Orders on each side."""
    fair_half_life: Annotated[Number, unit("bars")] = Field(default=60, gt=0, le=1_000_000)
    """Half-life of the exponential average of price that is the fair value."""
    spacing_volatilities: Annotated[Number, unit("standard deviations of the forecast")] = Field(
        default=0.5, gt=0, le=1_000
    )
    """Least spacing by forecast volatility."""
    min_ticks: Annotated[Integer, unit("ticks")] = Field(default=2, ge=1, le=1_000_000)
    """Least spacing by the price increment."""
    fee_multiple: Annotated[Number, unit("maker fee round trips")] = Field(default=1.5, ge=1, le=1_000)
    """Least spacing by fees."""
    risk_off_spacing: Multiple = Field(default=2.0, ge=1, le=1_000)
    """Factor on the spacing while the gate is risk-off."""
    skew: Annotated[Number, unit("spacings")] = Field(default=0.5, ge=0, le=50)
    """How far a full inventory shifts the ladder against itself."""
    requote: Annotated[Number, unit("spacings")] = Field(default=0.5, gt=0, le=1e6)
    """The ladder is moved when its centre or spacing is off by more."""
    break_levels: Annotated[Number, unit("spacings")] = Field(default=2.0, gt=0, le=1e6)
    """So far outside the outermost level the range is broken."""
    pause: Duration = default("15m", most="3650d")
    """Rest after a broken range."""

    def policy(self, context: PolicyContext) -> "GridPolicy":
        return GridPolicy(self, context)


class GridPolicy:
    """Remembers the fair value and where the ladder was last drawn; the rest it reads from the view."""

    def __init__(self, settings: GridSettings, context: PolicyContext) -> None:
        self._s = settings
        self._context = context
        self._decay = 0.5 ** (1.0 / settings.fair_half_life)
        self.fair = 0.0
        self.bars_seen = 0
        self.paused_until = 0  # ns
        self.center = 0.0  # of the ladder drawn, 0 where none is
        self.spacing = 0.0
        self.unit = 0.0
        self.stop = 0.0  # where the position's stop stands, 0 where none does
        self.scale = -1.0  # by governor and gate when the unit was sized, -1 where it must be sized anew
        self.bound = ""
        self._settled: tuple[Any, ...] | None = None  # the situation in which the ladder needs no command

    def decide(self, view: MarketView) -> Decision:
        self._average(view.price)
        if not view.position:
            self.stop = 0.0
        s = self._s
        if self.bars_seen < s.fair_half_life:
            return Decision("none", "fair value not known yet")
        if view.ts < self.paused_until:
            return self._close(view, "none", "range broken, pausing")
        spacing = self._spacing(view)
        if self._broken(view):
            self.paused_until = view.ts + s.pause
            return self._close(view, "stop", "range broken")
        if not spacing > 0:
            return self._rest(view, "no volatility forecast")
        if any(o.pending for o in view.orders if not o.protects):
            return Decision("hold", "waiting for the venue")
        if not view.limits.may_add:
            return self._work_out(view, spacing) if view.position else self._rest(view, "may not add")
        center, scale = self._center(view, spacing), self._scale(view)
        if scale != self.scale or self._off(center, spacing):
            sized = self._size(view, spacing)
            unit = self._context.spec.floor_quantity(sized.quantity / s.levels)
            short = self._context.spec.below_minimum(unit, view.price)
            if short:
                return self._rest(view, f"size under the venue's minimum ({short})", sized.bound)
            self.center, self.spacing, self.unit, self.bound = center, spacing, unit, sized.bound
            self.scale = scale
        return self._draw(view, "ladder", self.unit, reduce_only=False)

    # -- fair value and spacing ------------------------------------------------------------------------------

    def _average(self, price: float) -> None:
        self.fair = price if self.bars_seen == 0 else self._decay * self.fair + (1 - self._decay) * price
        self.bars_seen += 1

    def _spacing(self, view: MarketView) -> float:
        s, spec = self._s, self._context.spec
        if not view.volatility > 0:
            return 0.0
        least = max(
            s.spacing_volatilities * view.volatility * view.price,
            s.min_ticks * spec.price_increment,
            s.fee_multiple * 2 * self._context.maker_fee * view.price,
        )
        return least * (1.0 if view.risk_on else s.risk_off_spacing)

    def _center(self, view: MarketView, spacing: float) -> float:
        if not self.unit:
            return self.fair
        full = max(-1.0, min(1.0, view.position / (self._s.levels * self.unit)))
        return self.fair - self._s.skew * spacing * full

    def _off(self, center: float, spacing: float) -> bool:
        """Whether the ladder drawn last has to be drawn anew."""
        tolerance = self._s.requote * self.spacing
        return abs(center - self.center) > tolerance or abs(spacing - self.spacing) > tolerance

    def _broken(self, view: MarketView) -> bool:
        """By the spacing drawn last, so that a position is watched while there is no forecast, too."""
        if not self.spacing or not (view.position or view.orders):
            return False
        return abs(view.price - self.fair) > self._range()

    def _range(self) -> float:
        return (self._s.levels + self._s.break_levels) * self.spacing

    # -- decisions -------------------------------------------------------------------------------------------

    def _size(self, view: MarketView, spacing: float) -> Sized:
        """Contracts of a full inventory: its average entry is half way out, its stop at the broken range."""
        s, context = self._s, self._context
        distance = (0.5 * (s.levels - 1) + s.break_levels) * spacing
        stop = view.price - min(distance, 0.5 * view.price)
        volatility = context.annual_volatility(view.volatility)
        bet = Bet(context.spec, view.equity, view.price, stop, volatility)
        return s.sizing.size(bet, Sized(view.limits.quantity, view.limits.bound), self._scale(view))

    def _scale(self, view: MarketView) -> float:
        return view.size_factor * (1.0 if view.risk_on else self._s.risk_off_size)

    def _draw(self, view: MarketView, action: str, unit: float, *, reduce_only: bool) -> Decision:
        quotes = tuple(o for o in view.orders if o.kind == "limit")
        drawn = (self.center, self.spacing, unit, view.position, quotes, reduce_only)
        if drawn == self._settled:
            return Decision("hold", "ladder stands")
        self._settled = None
        spec = self._context.spec
        bid = view.bid if view.bid > 0 else view.price
        ask = view.ask if view.ask > 0 else view.price
        wanted = build_ladder(
            self.center,
            self.spacing,
            self._s.levels,
            unit,
            view.position,
            bid,
            ask,
            spec,
            reduce_only=reduce_only,
        )
        intents = requote(
            quotes,
            wanted,
            spec.size_increment,
            tolerance=min(self._s.requote, 0.4) * self.spacing,
            slack=_SLACK * unit,
        )
        if not intents:
            # Unless an order may have been held back from taking, only a fill or a new centre can change it.
            if all(
                r.side * ((ask if r.side > 0 else bid) - r.price) > 1.5 * spec.price_increment for r in wanted
            ):
                self._settled = drawn
            return Decision("hold", "ladder stands")
        return Decision(action, f"{len(wanted)} orders wanted", intents, bound=self.bound)

    def _work_out(self, view: MarketView, spacing: float) -> Decision:
        """Lead the position home by reduce-only orders on the ladder."""
        if self._context.spec.below_minimum(abs(view.position), view.price):
            return self._close(view, "hold", "rest under the venue's minimum")
        self.scale = -1.0
        if self._off(self.fair, spacing):
            self.center, self.spacing = self.fair, spacing
        return self._draw(view, "reduce", self.unit or abs(view.position), reduce_only=True)

    def _rest(self, view: MarketView, reason: str, bound: str = "") -> Decision:
        """No ladder: a position is worked out on the last known spacing, else what stands is cancelled."""
        self.unit, self.scale = 0.0, -1.0
        spacing = self._spacing(view) or self.spacing
        if view.position and spacing:
            return self._work_out(view, spacing)._replace(reason=reason, bound=bound)
        intents = tuple(Cancel(o.id) for o in view.orders if o.kind == "limit")
        return Decision("cancel" if intents else "none", reason, intents, bound=bound)

    def _close(self, view: MarketView, passive: str, reason: str) -> Decision:
        self.unit, self.scale = 0.0, -1.0
        return leave(view, "stop", reason, passive=passive)

    # -- the stop --------------------------------------------------------------------------------------------

    def stop_price(self, position: float, entry_price: float) -> float:
        """Where the range breaks, as far as it is off by more than the ladder's tolerance."""
        side = 1 if position > 0 else -1
        away = min(self._range(), 0.5 * self.fair)
        if not away > 0:
            return 0.0
        level = self.fair - side * away
        unset = not self.stop or (self.stop - self.fair) * side >= 0
        if unset or abs(level - self.stop) > self._s.requote * self.spacing:
            self.stop = level
        return self.stop

    def stopped(self, ts: int) -> None:
        self.paused_until = max(self.paused_until, ts + self._s.pause)
        self.unit, self.scale = 0.0, -1.0

    def save(self) -> dict[str, Any]:
        return {
            "fair": self.fair,
            "bars_seen": self.bars_seen,
            "paused_until": self.paused_until,
            "center": self.center,
            "spacing": self.spacing,
            "unit": self.unit,
            "stop": self.stop,
            "scale": self.scale,
            "bound": self.bound,
        }

    def load(self, memory: dict[str, Any]) -> None:
        for name in self.save():
            setattr(self, name, memory[name])
