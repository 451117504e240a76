"""Saved filters are found again by their kind, which therefore means one class."""

import pytest

from core.causal import Params
from volatility.gate import GateFilter


def test_two_filters_of_one_kind_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"two filters of kind 'gate': volatility\.gate\.GateFilter and .*Other"
    ):

        class Other(Params):
            kind = "gate"

    assert Params._kinds["gate"] is GateFilter


def test_a_module_that_is_loaded_again_defines_its_filters_anew() -> None:
    again = type("GateFilter", (Params,), {"kind": "gate", "__module__": "volatility.gate"})
    assert Params._kinds["gate"] is again
    Params._kinds["gate"] = GateFilter
