"""The look-ahead audit finds planted leaks and names them, and says nothing of honest columns."""

import numpy as np

from engine.audit import audit
from features.table import FeatureTable

RNG = np.random.default_rng(3)
TS = np.arange(1, 401) * 10
X = RNG.normal(size=400).cumsum()


def _compute(end: int, *, leak: str) -> FeatureTable:
    n = int(np.searchsorted(TS, end, side="right"))
    x = X[:n]
    columns = {"mean_so_far": np.cumsum(x) / np.arange(1, n + 1), "x": x}
    if leak == "standardized":
        columns["standardized"] = (x - x.mean()) / x.std()  # a scaler fitted on everything
    if leak == "centred":
        columns["centred"] = np.convolve(x, np.ones(5) / 5, mode="same")  # a centred window
    return FeatureTable(TS[:n], tuple(columns), np.column_stack(list(columns.values())))


def test_clean_computation_passes() -> None:
    result = audit(lambda end: _compute(end, leak=""), 0, 4000, cuts=5, seed=1)
    assert result.clean
    assert result.bars_compared > 500


def test_a_scaler_that_saw_the_future_is_named() -> None:
    result = audit(lambda end: _compute(end, leak="standardized"), 0, 4000, cuts=3, seed=1)
    assert {leak.column for leak in result.leaks} == {"standardized"}


def test_a_centred_window_is_named_with_its_first_bar() -> None:
    result = audit(lambda end: _compute(end, leak="centred"), 0, 4000, cuts=3, seed=1)
    assert {leak.column for leak in result.leaks} == {"centred"}
    # Only the two bars at the edge of the cut can differ.
    for leak in result.leaks:
        last = TS[np.searchsorted(TS, leak.cut, side="right") - 1]
        assert last - 10 <= leak.ts <= last
