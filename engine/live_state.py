"""What a live session remembers: the memory of kernel, stages, policies and governor, in one file."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from engine.errors import BeaufortError
from features.causal import State, load_state, save_state

_FACTS = "facts"


@dataclasses.dataclass(frozen=True)
class SessionState:
    """The state after the last bar of a session.

    Parameters
    ----------
    parts : mapping of str to State
        By name: ``kernel``, ``governor`` and the stages; ``governor`` alone after a session that failed.
    policies : mapping of str to bytes
        By strategy: what its policy remembers, as JSON.
    last_bar : int
        Close of the last bar, ns.
    balance : str
        Of the account after the session, with its currency; empty if never known.
    identity : str
        Of the instruments, features, bars and bundles that the states belong to: they mean nothing to others.
    """

    parts: Mapping[str, State]
    policies: Mapping[str, bytes]
    last_bar: int
    balance: str
    identity: str

    def save(self, path: Path) -> None:
        """Write as npz, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"{name}:{key}": value for name, part in self.parts.items() for key, value in part.items()}
        policies = {name: memory.decode() for name, memory in self.policies.items()}
        facts = [list(self.parts), policies, self.last_bar, self.balance, self.identity]
        save_state(path, {_FACTS: np.array(json.dumps(facts)), **arrays})

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read what ``save`` wrote; None where there is no such file.

        Raises
        ------
        BeaufortError
            If the file is damaged or not such a file.
        """
        if not path.exists():
            return None
        try:
            arrays = load_state(path)
            names, policies, last_bar, balance, identity = json.loads(str(arrays.pop(_FACTS)))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BeaufortError(
                f"{path}: cannot be read as the state of a session ({error}); remove it to begin anew"
            ) from None
        parts: dict[str, State] = {name: {} for name in names}
        for place, value in arrays.items():
            name, _, key = place.partition(":")
            parts[name][key] = value
        memories = {name: memory.encode() for name, memory in policies.items()}
        return cls(parts, memories, last_bar, balance, identity)
