"""What a live session remembers: the memory of kernel, stages, policies and governor, in one file."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from core.causal import State, load_state, save_state
from core.errors import BeaufortError

_FACTS = "facts"


@dataclasses.dataclass(frozen=True)
class SessionState:
    """The state at the end of a session.

    Parameters
    ----------
    parts : mapping of str to State
        By name: ``kernel``, ``bars``, ``governor`` and the stages; ``governor`` alone after a session that
        failed.
    policies : mapping of str to bytes
        By strategy: what its policy remembers, as JSON.
    heard : int
        Until when the market was heard, ns.
    balance : str
        Of the account after the session, with its currency; empty if never known.
    identity : str
        Of the instruments, features, bars and bundles that the states belong to: they mean nothing to others.
    """

    parts: Mapping[str, State]
    policies: Mapping[str, bytes]
    heard: int
    balance: str
    identity: str

    def save(self, path: Path) -> None:
        """Write as npz, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"{name}:{key}": value for name, part in self.parts.items() for key, value in part.items()}
        policies = {name: memory.decode() for name, memory in self.policies.items()}
        facts = [list(self.parts), policies, self.heard, self.balance, self.identity]
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
            names, policies, heard, balance, identity = json.loads(str(arrays.pop(_FACTS)))
            parts: dict[str, State] = {str(name): {} for name in names}
            for place, value in arrays.items():
                name, _, key = place.partition(":")
                parts[name][key] = value
            memories = {str(name): memory.encode() for name, memory in policies.items()}
            _refuse_nonsense(parts, heard, balance, identity)
        except Exception as error:  # zip, npy and JSON each have their own ways to be damaged
            raise BeaufortError(
                f"{path}: cannot be read as the state of a session ({error or type(error).__name__}); "
                "remove it to begin anew"
            ) from None
        return cls(parts, memories, heard, balance, identity)


def fitting(name: str, found: State, expected: State) -> State:
    """``found``, if it can take the place of ``expected``: the same arrays by name, shape and type.

    Raises
    ------
    BeaufortError
        If it cannot; ``name`` is the part's.
    """
    for key in dict.fromkeys([*expected, *found]):
        wanted, given = expected.get(key), found.get(key)
        if wanted is None or given is None or (wanted.shape, wanted.dtype) != (given.shape, given.dtype):
            shown = ["nothing" if a is None else f"{a.dtype} of shape {a.shape}" for a in (wanted, given)]
            raise BeaufortError(
                f"the state of the last session: {name} has {shown[1]} in place of {key}, {shown[0]}; remove "
                "the file to begin anew"
            )
    return found


def _refuse_nonsense(parts: dict[str, State], heard: object, balance: object, identity: object) -> None:
    if not isinstance(heard, int) or isinstance(heard, bool) or not 0 < heard < 2**63:
        raise ValueError(f"the moment of its end is {heard!r}, no time")
    if not isinstance(balance, str) or not isinstance(identity, str):
        raise ValueError("its balance or identity is no text")
    if balance:
        amount, _, currency = balance.partition(" ")
        if not math.isfinite(float(amount)) or not currency:
            raise ValueError(f"its balance is {balance!r}")
    if "governor" not in parts:
        raise ValueError("it holds nothing of the governor")
    for name, part in parts.items():
        for key, array in part.items():
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{name}:{key} holds {array.dtype}, not numbers")
