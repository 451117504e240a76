"""The drawdown governor: from equity to what strategies may do, a causal filter like every other stage."""

import dataclasses
import math
from typing import Annotated, ClassVar, Literal, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from core.causal import Params, State
from core.messages import RiskState
from core.settings import Duration, Fraction, Multiple, Number, Settings, default, unit


class StopSettings(Settings):
    """How far from its entry a position is stopped out. Without a volatility forecast ``fraction`` holds."""

    rule: Literal["smaller", "fraction", "volatility"] = "smaller"
    """By ``fraction``, by ``volatilities``, or the smaller of both."""
    fraction: Fraction = Field(default=0.02, gt=0, le=0.5)
    """Share of the entry price."""
    volatilities: Annotated[Number, unit("standard deviations of the forecast over its horizon")] = Field(
        default=4.0, gt=0, le=1e9
    )
    """Distance in forecast volatilities."""

    def distance(self, volatility: float) -> float:
        """Distance of the stop as a fraction of the entry price, at most one half."""
        by_volatility = self.volatilities * volatility
        if self.rule == "fraction" or not by_volatility > 0:
            return self.fraction
        if self.rule == "smaller":
            return min(self.fraction, by_volatility)
        return min(0.5, by_volatility)


class RiskSettings(Settings):
    """Limits that hold for every strategy of a run."""

    leverage_risk_on: Multiple = Field(default=10.0, gt=0, le=1e9)
    """Most notional against equity, and against free margin, while the gate is risk-on."""
    leverage_risk_off: Multiple = Field(default=5.0, gt=0, le=1e9)
    """The same while the gate is risk-off."""
    exposure_cap: Multiple = Field(default=1.0, gt=0, le=1e9)
    """Most notional as a multiple of equity, over all strategies."""
    max_quantity: Annotated[Number, unit("contracts")] | None = Field(default=None, gt=0, le=1e15)
    """Largest position."""
    stop: StopSettings = StopSettings()
    """How far from its entry a position is stopped out."""
    reduce_at: Fraction = Field(default=0.05, gt=0, lt=1)
    """Drawdown from the peak at which new sizes are multiplied by ``reduce_factor``."""
    reduce_factor: Multiple = Field(default=0.5, ge=0, le=1)
    """Factor on new sizes from ``reduce_at`` until the drawdown is back at ``recover_at``."""
    recover_at: Fraction = Field(default=0.0, ge=0, lt=1)
    """Drawdown at which sizes are whole again."""
    pause_at: Fraction = Field(default=0.10, gt=0, lt=1)
    """Drawdown that halts trading."""
    pause: Duration = default("1d", most="3650d")
    """For how long; afterwards the peak is set to the equity of that moment, because a peak that stays out of
    reach would halt trading for ever."""

    @model_validator(mode="after")
    def _levels_ascend(self) -> Self:
        if not self.recover_at < self.reduce_at < self.pause_at:
            raise ValueError(
                f"drawdown levels must ascend: recover_at {self.recover_at} < reduce_at {self.reduce_at} "
                f"< pause_at {self.pause_at}"
            )
        return self

    def leverage(self, risk_on: bool) -> float:
        """The leverage cap under the gate's state."""
        return self.leverage_risk_on if risk_on else self.leverage_risk_off

    def governor(self) -> "DrawdownGovernor":
        """The causal filter with these drawdown levels."""
        return DrawdownGovernor(
            self.reduce_at, self.reduce_factor, self.recover_at, self.pause_at, self.pause / 1e9
        )


PERMITS = ("halted", "reduce_only", "active", "liquidated")
"""Trading permits, in the order of the governor's ``permit`` output."""

_ACTIVE, _LIQUIDATED = float(PERMITS.index("active")), float(PERMITS.index("liquidated"))


@dataclasses.dataclass(frozen=True)
class DrawdownGovernor(Params):
    """Equity in, permit and size factor out. Until the first equity it is silent, and ``judge`` halts.

    Inputs are ``time`` (seconds since the epoch), ``equity`` at the bar's close, ``lowest`` while the bar
    lasted, and ``liquidated`` (1 at the bar that ended in liquidation). Outputs are ``permit`` (index into
    ``PERMITS``), ``size_factor`` and ``drawdown``: how far the lowest equity lies under the highest close
    before it. A drawdown recovers by the closes alone, because a position is always under its best price at
    some moment of a bar. Lost capital (equity of zero or less) halts for good, and so does liquidation.

    Parameters
    ----------
    reduce_at, reduce_factor, recover_at, pause_at : float
        See ``RiskSettings``.
    pause : float
        Seconds.
    """

    kind: ClassVar[str] = "drawdown_governor"
    inputs: ClassVar[tuple[str, ...]] = ("time", "equity", "lowest", "liquidated")
    outputs: ClassVar[tuple[str, ...]] = ("permit", "size_factor", "drawdown")

    reduce_at: float = 0.05
    reduce_factor: float = 0.5
    recover_at: float = 0.0
    pause_at: float = 0.10
    pause: float = 86_400.0

    def initial_state(self) -> State:
        # peak, reduced (0 or 1), paused until (seconds, NaN = not paused), drawdown last seen, liquidated
        return {"governor": np.array([np.nan, 0.0, np.nan, np.nan, 0.0])}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, 4), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 3))
        levels = (self.reduce_at, self.reduce_factor, self.recover_at, self.pause_at, self.pause)
        _run(np.ascontiguousarray(xs, dtype=np.float64), state["governor"], levels, out)
        return out

    def judge(
        self, state: State, ts: int, equity: float, lowest: float, *, liquidated: bool = False
    ) -> RiskState:
        """One bar: what strategies may do at ``ts`` (ns) with this ``equity``, which was ``lowest`` in it."""
        x = np.array([ts / 1e9, equity, lowest, float(liquidated)])
        permit, factor, drawdown = self.step(state, x).tolist()
        if math.isnan(permit):
            return RiskState("halted", 0.0, equity, 0.0)
        return RiskState(PERMITS[int(permit)], factor, equity, drawdown)


@numba.njit(cache=True)
def _below(peak, equity):  # type: ignore[no-untyped-def]
    return (peak - equity) / peak if peak > 0.0 else 1.0


@numba.njit(cache=True)
def _run(xs, state, levels, out):  # type: ignore[no-untyped-def]
    reduce_at, reduce_factor, recover_at, pause_at, pause = levels
    for i in range(xs.shape[0]):
        time, equity = xs[i, 0], xs[i, 1]
        if math.isfinite(time) and math.isfinite(equity):
            lowest = xs[i, 2] if xs[i, 2] < equity else equity
            if state[2] == state[2] and time >= state[2]:  # the pause is over: start from here
                state[0], state[1], state[2] = equity, 0.0, math.nan
                lowest = equity
            peak = state[0]  # before this bar's close, and so before its lowest
            under = _below(peak, lowest) if peak == peak else 0.0
            if not peak >= equity:  # a new peak, or the first equity
                state[0] = equity
            closed = _below(state[0], equity)
            state[3] = max(under, closed)
            if state[2] != state[2]:
                if state[3] >= pause_at:
                    state[2] = time + pause
                elif state[3] >= reduce_at:
                    state[1] = 1.0
                elif closed <= recover_at:
                    state[1] = 0.0
        if xs[i, 3] == 1.0:
            state[4] = 1.0
        if state[3] != state[3]:
            out[i, 0] = out[i, 1] = out[i, 2] = math.nan
        elif state[4] == 1.0:
            out[i, 0], out[i, 1], out[i, 2] = _LIQUIDATED, 0.0, state[3]
        elif state[2] == state[2]:
            out[i, 0], out[i, 1], out[i, 2] = 0.0, 0.0, state[3]
        else:
            out[i, 0], out[i, 1], out[i, 2] = _ACTIVE, reduce_factor if state[1] == 1.0 else 1.0, state[3]
