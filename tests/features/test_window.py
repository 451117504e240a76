"""Window algebra against numpy, and what it makes of the unknown."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from features import window

NAIVE: dict[str, Callable[[np.ndarray, float], float]] = {
    "total": lambda x, before: x.sum(),
    "mean": lambda x, before: x.mean(),
    "magnitude": lambda x, before: np.abs(x).sum(),
    "path": lambda x, before: np.abs(np.diff(x, prepend=before)).sum(),
    "squares": lambda x, before: (x**2).sum(),
    "lagged": lambda x, before: (x[1:] * x[:-1]).sum(),
    "deviation": lambda x, before: x.std(),
    "highest": lambda x, before: x.max(),
    "lowest": lambda x, before: x.min(),
}
PASSED_OVER = ("highest", "lowest")


@pytest.fixture
def history() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((40, 3))


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize(("t", "w"), [(39, 12), (20, 2), (7, 1)])
def test_a_window_ends_with_its_bar_and_has_w_of_them(history: np.ndarray, name: str, t: int, w: int) -> None:
    column = history[:, 1]
    expected = NAIVE[name](column[t - w + 1 : t + 1], column[t - w])
    assert getattr(window, name)(history, 1, t, w) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_products_are_of_two_columns(history: np.ndarray) -> None:
    expected = (history[10:20, 0] * history[10:20, 2]).sum()
    assert window.products(history, 0, 2, 19, 10) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAIVE)
def test_what_one_bar_does_not_know_no_window_with_it_knows(history: np.ndarray, name: str) -> None:
    history[15, 1] = math.nan
    compiled = getattr(window, name)
    values = [compiled(history, 1, t, 4) for t in range(10, 30)]
    unknown = [t for t, value in zip(range(10, 30), values, strict=True) if math.isnan(value)]
    expected = [] if name in PASSED_OVER else [15, 16, 17, 18, *([19] if name == "path" else [])]
    assert unknown == expected


def test_equal_values_do_not_deviate() -> None:
    # Three tenths do not have a tenth for their mean, as floats.
    tenths = np.full((3, 1), 0.1)
    assert tenths.mean() != 0.1
    assert window.deviation(tenths, 0, 2, 3) == 0.0
    tenths[1, 0] = math.nan
    assert math.isnan(window.deviation(tenths, 0, 2, 3))


def test_extremes_of_nothing_known_are_infinite(history: np.ndarray) -> None:
    history[:, 1] = math.nan
    assert window.highest(history, 1, 9, 5) == -math.inf
    assert window.lowest(history, 1, 9, 5) == math.inf


def test_a_ratio_to_nothing_is_nothing_and_a_floor_holds_up_only_what_is_known() -> None:
    assert window.ratio(1.0, 4.0) == 0.25
    assert window.ratio(1.0, 0.0) == 0.0
    assert math.isnan(window.ratio(math.nan, 2.0))
    assert [window.floored(x, 1.0) for x in (0.5, 1.0, 2.0)] == [1.0, 1.0, 2.0]
    assert math.isnan(window.floored(math.nan, 1.0))
