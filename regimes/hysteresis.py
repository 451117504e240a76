"""From a posterior to a decision that does not flicker: thresholds to enter and leave, a minimum dwell."""

import dataclasses
import math
from typing import ClassVar, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from core import checks
from core.causal import Params, State
from core.settings import Bars, Probability, Settings
from regimes.base import POSTERIOR


class HysteresisSettings(Settings):
    """When the decided regime changes.

    The most probable regime takes over once its probability reaches ``enter``, or once that of the current
    one falls to ``leave``, but never before the current one has stood for ``dwell`` bars. The first decision
    needs ``enter``.
    """

    enter: Probability = Field(default=0.6, gt=0, le=1)
    """Probability with which the most probable regime takes over."""
    leave: Probability = Field(default=0.3, ge=0, lt=1)
    """Probability of the current regime at which the most probable one takes over."""
    dwell: Bars = Field(default=5, ge=1, le=100_000)
    """How long a decided regime stands at least."""

    @model_validator(mode="after")
    def _leave_below_enter(self) -> Self:
        if self.leave >= self.enter:
            raise ValueError(f"leave {self.leave} is not below enter {self.enter}; lower it")
        return self

    def build(self) -> "HysteresisFilter":
        """The filter; put it behind a detector's posterior with a ``Chain``."""
        return HysteresisFilter(enter=self.enter, leave=self.leave, dwell=self.dwell)


@dataclasses.dataclass(frozen=True)
class HysteresisFilter(Params):
    """The decided regime, as a float index into ``REGIMES``; -1 before the first decision.

    Parameters
    ----------
    enter, leave : float
        Thresholds on the filtered probability.
    dwell : int
        Bars that a decision stands at least.
    """

    kind: ClassVar[str] = "hysteresis"
    inputs: ClassVar[tuple[str, ...]] = POSTERIOR
    outputs: ClassVar[tuple[str, ...]] = ("regime",)

    enter: float
    leave: float
    dwell: int

    def __post_init__(self) -> None:
        checks.number("hysteresis: enter", self.enter, 0, 1)
        checks.number("hysteresis: leave", self.leave, 0, self.enter)
        checks.whole("hysteresis: dwell", self.dwell)

    def initial_state(self) -> State:
        return {"decision": np.array([-1, 0])}  # the regime, and for how many bars it has stood

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 1))
        posterior = np.ascontiguousarray(xs, dtype=np.float64)
        _run(posterior, state["decision"], self.enter, self.leave, self.dwell, out)
        return out


@numba.njit(cache=True)
def _run(xs, decision, enter, leave, dwell, out):  # type: ignore[no-untyped-def]
    for i in range(xs.shape[0]):
        likely = 0
        known = math.isfinite(xs[i, 0])
        for k in range(1, xs.shape[1]):
            known &= math.isfinite(xs[i, k])
            if xs[i, k] > xs[i, likely]:
                likely = k
        current = decision[0]
        if known:
            if current < 0:
                change = xs[i, likely] >= enter
            else:
                convinced = xs[i, likely] >= enter or xs[i, current] <= leave
                change = likely != current and convinced and decision[1] >= dwell
            if change:
                decision[0] = likely
                decision[1] = 0
        if decision[0] >= 0:
            decision[1] += 1
        out[i, 0] = decision[0]
