"""A regime detector of one's own: settings that name its ``kind``, and the filter that ``fit`` gives."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from core.causal import Params, State
from core.settings import Bars, Fraction
from core.table import FeatureTable
from regimes.base import POSTERIOR, RegimeSettings

from .loops import shares


class RisesSettings(RegimeSettings):
    """Trend where far more bars rise than fall, or far fewer; chop otherwise."""

    kind: Literal["rises"] = "rises"
    bars: Bars = Field(default=10, ge=2, le=1_000)
    """Over so many the rises are counted."""
    edge: Fraction = Field(default=0.1, gt=0, lt=0.5)
    """Trend is where their share is further than this from a half."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (f"rise_share_{self.bars}",)

    def fit(self, table: FeatureTable, seed: int) -> "RisesFilter":
        """Nothing is learned: the rule is its settings."""
        return RisesFilter(self.columns, 2 / (self.bars + 1), self.edge)


@dataclasses.dataclass(frozen=True)
class RisesFilter(Params):
    """Certain regimes from a moving average of the share of rises."""

    kind: ClassVar[str] = "rises"
    outputs: ClassVar[tuple[str, ...]] = (*POSTERIOR, "regime")

    inputs: tuple[str, ...]
    weight: float
    edge: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))

    def initial_state(self) -> State:
        return {"mean": np.full(1, np.nan)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 4))
        rows = np.ascontiguousarray(xs, dtype=np.float64)
        shares(rows, state["mean"], self.weight, self.edge, out)
        return out
