"""What a live session remembers: the memory of kernel, stages and governor, in one file."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from features.causal import State, load_state, save_state

_FACTS = "facts"


@dataclasses.dataclass(frozen=True)
class SessionState:
    """The state after the last bar of a session.

    Parameters
    ----------
    parts : mapping of str to State
        By name: ``kernel``, ``governor`` and the stages.
    last_bar : int
        Close of the last bar, ns.
    equity : float
        Of the account at that bar, NaN if never known.
    identity : str
        Of the features, bars and bundles that the states belong to: they mean nothing to others.
    """

    parts: Mapping[str, State]
    last_bar: int
    equity: float
    identity: str

    def save(self, path: Path) -> None:
        """Write as npz, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"{name}:{key}": value for name, part in self.parts.items() for key, value in part.items()}
        facts = [list(self.parts), self.last_bar, self.equity, self.identity]
        save_state(path, {_FACTS: np.array(json.dumps(facts)), **arrays})

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read what ``save`` wrote; None where there is no such file."""
        if not path.exists():
            return None
        arrays = load_state(path)
        names, last_bar, equity, identity = json.loads(str(arrays.pop(_FACTS)))
        parts: dict[str, State] = {name: {} for name in names}
        for place, value in arrays.items():
            name, _, key = place.partition(":")
            parts[name][key] = value
        return cls(parts, last_bar, equity, identity)
