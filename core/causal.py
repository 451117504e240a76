"""Causal filters: frozen parameters, an explicit state, and two verbs over one loop.

Every stage that turns a past into a present is one. Three laws hold, and ``tests/conformance.py`` checks them
on each:

1. *Chunk invariance*: cutting the input anywhere and resuming from the state gives the same output, bit
   for bit.
2. *Causality*: appending data never changes an earlier output.
3. *Round trip*: parameters and state saved and loaded continue as if never stopped.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

State = dict[str, np.ndarray]
"""A filter's whole memory. ``step`` and ``run`` change it in place."""


@runtime_checkable
class CausalFilter(Protocol):
    """What every stage offers.

    ``inputs`` names the columns of ``x`` in order, ``outputs`` those of the result. A row of ``x`` with a
    non-finite value is a *missing observation*: the filter carries its prediction forward and never fails.
    Outputs are NaN until the filter has seen enough to speak.
    """

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def initial_state(self) -> State: ...

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        """One observation, shape ``(len(inputs),)``, to one output, shape ``(len(outputs),)``. O(1)."""
        ...

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        """Many: ``(n, len(inputs))`` to ``(n, len(outputs))``, from ``state`` (changed in place) if given."""
        ...

    def save(self, folder: Path) -> None: ...


def save_state(path: Path, state: State) -> None:
    """Write ``state`` as npz, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **state)
    os.replace(partial, path)


def load_state(path: Path) -> State:
    """Read what ``save_state`` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


class Params:
    """Saving for frozen dataclasses of parameters: numbers, strings, tuples, float arrays, exactly, as JSON.

    A subclass is found again by its ``kind`` when a bundle is loaded, so a new filter registers by existing.
    Two classes of one kind are refused with a ValueError: bundles of one would be read as the other.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type["Params"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            other = Params._kinds.get(cls.kind, cls)
            names = [f"{c.__module__}.{c.__qualname__}" for c in (other, cls)]
            if names[0] != names[1]:  # a module loaded again defines its own anew
                raise ValueError(
                    f"two filters of kind {cls.kind!r}: {names[0]} and {names[1]}; give one another kind"
                )
            Params._kinds[cls.kind] = cls

    def save(self, folder: Path) -> None:
        """Write ``params.json`` (and whatever else the filter needs) into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        (folder / "params.json").write_text(json.dumps({"kind": self.kind, **fields}, indent=1))

    @classmethod
    def restore(cls, folder: Path, fields: dict[str, Any]) -> Self:
        """Rebuild from the fields of ``params.json``; a filter with files of its own overrides this."""
        return cls(**fields)


def load_filter(folder: Path) -> CausalFilter:
    """The filter saved in ``folder``. The room that defines its kind must have been imported."""
    fields = json.loads((folder / "params.json").read_text())
    kind = fields.pop("kind")
    if kind not in Params._kinds:
        known = ", ".join(sorted(Params._kinds))
        raise ValueError(f"{folder / 'params.json'}: no filter of kind {kind!r}; known: {known}")
    return Params._kinds[kind].restore(folder, fields)  # type: ignore[return-value]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


@dataclasses.dataclass(frozen=True)
class Chain(Params):
    """Two filters in a row: the second reads what the first says; both speak.

    ``second.inputs`` must be among ``first.outputs``. Outputs are the first's, then the second's.
    """

    kind: ClassVar[str] = "chain"
    first: CausalFilter
    second: CausalFilter

    def __post_init__(self) -> None:
        missing = set(self.second.inputs) - set(self.first.outputs)
        if missing:
            raise ValueError(
                f"chain: second filter reads {sorted(missing)}, first offers {list(self.first.outputs)}"
            )

    @functools.cached_property
    def _columns(self) -> slice | list[int]:
        """What the second reads of the first."""
        columns = [self.first.outputs.index(name) for name in self.second.inputs]
        together = columns == list(range(columns[0], columns[-1] + 1))
        return slice(columns[0], columns[-1] + 1) if together else columns

    @functools.cached_property
    def _keys(self) -> list[list[tuple[str, str]]]:
        """For each of the two, its entries' names in the state of both and its own."""
        return [[(f"{i}.{k}", k) for k in f.initial_state()] for i, f in enumerate((self.first, self.second))]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.first.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.first.outputs + self.second.outputs

    def initial_state(self) -> State:
        return {
            f"{i}.{k}": v
            for i, f in enumerate((self.first, self.second))
            for k, v in f.initial_state().items()
        }

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        first, second = self._split(state)
        a = self.first.step(first, x)
        return np.concatenate((a, self.second.step(second, a[self._columns])))

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        first, second = self._split(state)
        a = self.first.run(xs, first)
        return np.concatenate((a, self.second.run(a[:, self._columns], second)), axis=1)

    def _split(self, state: State) -> Iterator[State]:
        # The arrays are shared with ``state``, so in-place changes reach it: a filter never rebinds an entry.
        return ({own: state[key] for key, own in keys} for keys in self._keys)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.first.save(folder / "first")
        self.second.save(folder / "second")
        (folder / "params.json").write_text(json.dumps({"kind": self.kind}))

    @classmethod
    def restore(cls, folder: Path, fields: dict[str, Any]) -> Self:
        return cls(load_filter(folder / "first"), load_filter(folder / "second"))
