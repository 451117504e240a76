"""What every regime detector shares: its settings, and the outputs it ends in."""

from collections.abc import Collection
from typing import ClassVar, Self

from core.causal import CausalFilter
from core.kinds import Family
from core.messages import REGIMES
from core.table import FeatureTable

POSTERIOR = tuple(f"p_{name}" for name in REGIMES)
"""Filtered probabilities of the regimes: ``p_trend, p_chop, p_stress``."""


class RegimeSettings(Family):
    """How to detect the regime; a subclass is one detector, found by its ``kind``."""

    verbs: ClassVar[tuple[str, ...]] = ("fit", "columns")

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns that the detector reads."""
        raise NotImplementedError

    def check(self, table: FeatureTable) -> None:
        """Raise ValueError where ``fit`` could not be one: asked of every stage before any is fitted."""

    def suited(self, feeds: Collection[str]) -> Self:
        """These settings, with features that can be made of ``feeds`` where they name none."""
        return self

    def fit(self, table: FeatureTable, seed: int) -> CausalFilter:
        """The detector fitted on ``table``, which holds the training span and nothing after it.

        Its outputs are ``p_trend, p_chop, p_stress, regime``, the last a float index into ``REGIMES`` or -1.

        Raises
        ------
        ValueError
            If the span is too short, or no fit converges.
        """
        raise NotImplementedError
