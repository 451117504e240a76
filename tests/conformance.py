"""The three laws of causal filters, stated once and checked on every filter.

A room's tests call ``check_laws(filter, xs, ...)`` with a fitted or hand-made filter and inputs like the real
ones. The cuts are drawn by hypothesis, so each run of the suite looks elsewhere and a failure is shrunk to
its simplest form.
"""

import copy
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.causal import CausalFilter, State, load_filter, load_state, save_state

Run = Callable[[Any, State], np.ndarray]
"""Outputs, shape (n, k), of a piece of the input from a state (changed in place)."""


def check_laws(causal: CausalFilter, xs: np.ndarray, examples: int = 15) -> None:
    """All three laws, and that ``step`` is ``run`` on one row; bit for bit, NaN equal to NaN.

    Parameters
    ----------
    causal : CausalFilter
    xs : float array, shape (n, len(causal.inputs)), n >= 3
        Missing observations are put in here, so that every filter proves to stand them.
    examples : int
        Cuts tried.
    """
    assert xs.shape[1] == len(causal.inputs)
    holed = xs.copy()
    holed[len(xs) // 2, 0] = np.nan
    if len(xs) > 20:
        holed[7:10] = np.nan
    whole = causal.run(holed)
    assert whole.shape == (len(xs), len(causal.outputs))
    check_chunks(lambda part, state: causal.run(part, state), causal.initial_state, holed, examples)
    _check_step(causal, holed, whole)
    _check_causality(causal, holed, whole, examples)
    _check_round_trip(causal, holed, whole)


def check_chunks(run: Run, initial_state: Callable[[], State], xs: Any, examples: int = 15) -> None:
    """Law 1 for anything that can be cut: events inside a bar, rows of features."""
    whole = run(xs, initial_state())

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(0, len(xs)), min_size=1, max_size=4))
    def any_cut(cuts: list[int]) -> None:
        state = initial_state()
        edges = [0, *sorted(cuts), len(xs)]
        parts = [run(xs[a:b], state) for a, b in itertools.pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)

    any_cut()


def check_state_round_trip(run: Run, initial_state: Callable[[], State], xs: Any, at: int) -> None:
    """Law 3 for a state: saved at ``at`` and loaded, it goes on as if never stopped."""
    state = initial_state()
    before = run(xs[:at], state)
    kept = copy.deepcopy(state)
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder) / "state.npz", state)
        loaded = load_state(Path(folder) / "state.npz")
    after = run(xs[at:], loaded)
    np.testing.assert_array_equal(after, run(xs[at:], kept))
    np.testing.assert_array_equal(np.concatenate((before, after)), run(xs, initial_state()))


def _check_step(causal: CausalFilter, xs: np.ndarray, whole: np.ndarray) -> None:
    state = causal.initial_state()
    n = min(len(xs), 200)
    stepped = np.array([np.array(causal.step(state, x)) for x in xs[:n]])
    np.testing.assert_array_equal(stepped, whole[:n])


def _check_causality(causal: CausalFilter, xs: np.ndarray, whole: np.ndarray, examples: int) -> None:
    """Law 2: whatever comes later, an earlier output stays."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(1, len(xs)), st.floats(-1e3, 1e3))
    def any_future(n: int, value: float) -> None:
        other = xs.copy()
        other[n:] = value
        np.testing.assert_array_equal(causal.run(other)[:n], whole[:n])
        np.testing.assert_array_equal(causal.run(xs[:n]), whole[:n])

    any_future()


def _check_round_trip(causal: CausalFilter, xs: np.ndarray, whole: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        causal.save(Path(folder) / "filter")
        loaded = load_filter(Path(folder) / "filter")
        assert loaded.inputs == causal.inputs
        assert loaded.outputs == causal.outputs
        np.testing.assert_array_equal(loaded.run(xs), whole)
    check_state_round_trip(
        lambda part, state: loaded.run(part, state), loaded.initial_state, xs, len(xs) // 3
    )
