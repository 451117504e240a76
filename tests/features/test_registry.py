"""Features are found by name, refused with a hint, fed only by data that is there, and pinned by a hash."""

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from features.kernel import FeatureKernel, StreamSpec
from features.names import Chosen, choose, schema_hash
from features.registry import feature, features

TRADES = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv")))
BOOK = StreamSpec("perp", 0.1, frozenset(("book", "depth")))
QUOTES = StreamSpec("perp", 0.1, frozenset(("book",)))
BARS = StreamSpec("perp", 0.1, frozenset(("ohlcv",)))
SPOT = StreamSpec("spot", 0.01, frozenset(("trades", "ohlcv")))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("log_retrun_10", "log_return_{w}"),
        ("realised_volatility_30", "realized_volatility_{w}"),
        ("order_flow_imbalance", "order_flow_imbalance_{w}"),
        ("time_of_day_sine", "time_of_day_sin"),
        ("book_imbalance_7", "book_imbalance_"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))) as error:
        choose(name)
    assert hint in str(error.value).split("nearest")[1]


def test_a_name_near_nothing_gets_three_and_the_way_to_the_list() -> None:
    with pytest.raises(ValueError, match="zzzz") as error:
        choose("zzzz")
    assert sum(f" {declared.pattern}" in str(error.value) for declared in features()) == 3
    assert "features --list" in str(error.value)


def test_a_number_that_memory_cannot_hold_is_refused() -> None:
    assert choose("log_return_100000").lookback == 100_000
    for number in ("0", "100001", "9" * 5_000):
        with pytest.raises(ValueError, match="must be at least 1 and at most 100,000"):
            choose(f"log_return_{number}")


def test_a_name_says_window_and_stream() -> None:
    chosen = choose("realized_volatility_30@spot")
    assert (chosen.number, chosen.lookback, chosen.alias) == (30, 30, "spot")
    assert choose("book_imbalance_5").lookback == 0  # the five levels are no window


def test_a_window_below_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match=r"autocorrelation_2.*at least 3"):
        choose("autocorrelation_2")


def test_a_feature_of_two_streams_must_name_the_other() -> None:
    with pytest.raises(ValueError, match="basis@"):
        choose("basis")


def test_a_pattern_is_declared_once() -> None:
    features()
    with pytest.raises(ValueError, match=r"feature .spread. is that of features\.definitions\.book"):
        feature("spread", unit="", needs="book", definition="")(lambda h, o, t, w: 0.0)


@pytest.mark.parametrize("declared", features(), ids=lambda declared: declared.pattern)
def test_every_declaration_says_what_it_is(declared: object) -> None:
    assert declared.unit
    assert len(declared.definition) > 10
    assert declared.needs


@pytest.mark.parametrize(
    ("name", "stream", "missing"),
    [
        ("spread", TRADES, "book"),
        ("book_imbalance_10", QUOTES, "depth"),
        ("cvd_change_10", BOOK, "trades"),
        ("cvd_change_10", BARS, "trades"),
        ("funding_deviation_10", TRADES, "funding"),
        ("mark_basis", TRADES, "mark"),
        ("series_value", TRADES, "series"),
    ],
)
def test_a_feature_without_its_data_is_refused_at_construction(
    name: str, stream: StreamSpec, missing: str
) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*needs '{missing}' of 'perp'"):
        FeatureKernel([name], [stream])


def test_an_unknown_alias_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sopt'.*perp, spot"):
        FeatureKernel(["log_return_1@sopt"], [TRADES, SPOT])


def test_a_feature_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="log_return_1"):
        FeatureKernel(["log_return_1", "log_return_1"], [TRADES])


def test_needs_are_those_of_the_chosen_features_only() -> None:
    kernel = FeatureKernel(
        ["spread", "time_of_day_sin", "basis@spot", "series_value@oi"], [QUOTES, SPOT], ["oi"]
    )
    assert kernel.needs == {"perp": {"price", "book", "clock"}, "spot": {"price"}, "oi": {"series"}}


def test_the_hash_is_of_what_models_rely_on() -> None:
    names = ["log_return_10", "realized_volatility_30"]
    reference = FeatureKernel(names, [TRADES], bars={"kind": "clock", "interval": "1s"}).schema_hash
    same = FeatureKernel(names, [TRADES, SPOT], bars={"interval": "1s", "kind": "clock"}).schema_hash
    assert same == reference
    others = [
        FeatureKernel(names[::-1], [TRADES], bars={"kind": "clock", "interval": "1s"}),
        FeatureKernel(["log_return_11", names[1]], [TRADES], bars={"kind": "clock", "interval": "1s"}),
        FeatureKernel(
            ["log_return_10@spot", names[1]], [TRADES, SPOT], bars={"kind": "clock", "interval": "1s"}
        ),
        FeatureKernel(names, [TRADES], bars={"kind": "clock", "interval": "5s"}),
    ]
    assert len({reference, *(other.schema_hash for other in others)}) == 5


@pytest.mark.parametrize(
    "change",
    [{"needs": ("price", "clock")}, {"definition": "half of what it was"}, {"unit": "bps"}, {"window": 3}],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_changes_with_each_part_of_a_declaration(change: dict[str, Any]) -> None:
    declared = choose("log_return_10").feature
    changed = dataclasses.replace(declared, **change)
    hashes = [schema_hash([Chosen("log_return_10", one, 10, None)], {}) for one in (declared, changed)]
    assert hashes[0] != hashes[1]


def test_the_schema_describes_every_feature() -> None:
    first = FeatureKernel(["realized_volatility_30", "spread"], [BOOK]).schema[0]
    assert first["name"] == "realized_volatility_30"
    assert first["window"] == 30
    assert first["needs"] == ["price"]
    assert set(first) == {"name", "unit", "window", "definition", "code", "source", "needs"}


_MODULE = """
import numba
{constant}
@numba.njit
def _helper(x):
    return {helper}

def ours(h, o, t, w):
    return _helper(h[t, 0]) {sign} _SCALE
"""


def _module(folder: Path, constant: str = "_SCALE = 2", helper: str = "x", sign: str = "+") -> ModuleType:
    folder.mkdir()
    path = folder / "own.py"
    path.write_text(_MODULE.format(constant=constant, helper=helper, sign=sign))
    spec = importlib.util.spec_from_file_location("own", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_description_changes_with_the_code_of_the_function_its_helpers_and_its_constants(
    tmp_path: Path,
) -> None:
    modules = [
        _module(tmp_path / "a"),
        _module(tmp_path / "b"),
        _module(tmp_path / "c", constant="_SCALE = 3"),
        _module(tmp_path / "d", helper="2 * x"),
        _module(tmp_path / "e", sign="-"),
        _module(tmp_path / "f", constant="import numpy\n_SCALE = numpy.array([2.0])"),
    ]
    declared = choose("log_return_1").feature
    codes = [
        Chosen("x", dataclasses.replace(declared, function=m.ours), 1, None).describe()["code"]
        for m in modules
    ]
    assert codes[0] == codes[1]
    assert len(set(codes)) == 5


def test_descriptions_are_the_same_in_every_process() -> None:
    script = "from features.registry import features; print([f.code for f in features()])"
    said = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "5"},
    )
    assert said.stdout.strip() == str([f.code for f in features()])
