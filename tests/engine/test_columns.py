"""Columns of a page: what is packed is what is unpacked, in Python and in the page's own script."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from py_mini_racer import mini_racer

import engine.reports
from engine.reports.columns import FEW, Columns, unpack

_SCRIPT = Path(engine.reports.__file__).parent / "unpack.js"


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e9, 1e9) | st.floats(1e9, 1e9 + 1e-5)),
    st.data(),
)
def test_values_come_back_to_a_fraction_of_their_range(values, data):
    unknown = data.draw(arrays(bool, len(values)))
    values[unknown] = np.nan
    columns = Columns()
    columns.add("x", values)
    about, found = unpack(columns.pack({"note": "é <b>"}))
    assert about == {"note": "é <b>"}
    assert np.array_equal(np.isnan(found["x"]), unknown)
    known = values[~unknown]
    if len(known):
        reach = np.ptp(known) or np.abs(known[0]) or 1.0
        exact = max(reach * 2.0**-26, np.max(np.abs(known)) * 2.0**-50, 1e-300)
        assert np.max(np.abs(found["x"][~unknown] - known)) <= exact


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=50), st.integers(0, 6))
def test_decimals_come_back_exactly(whole, digits):
    prices = np.array(whole) / 10.0**digits
    columns = Columns()
    columns.add("price", prices)
    columns.add("ms", np.array(whole, np.int64) * 1_007)
    _, found = unpack(columns.pack())
    assert np.array_equal(found["price"], prices)
    assert found["ms"].tolist() == [value * 1_007 for value in whole]


def test_long_columns_stay_within_a_65536th_of_their_range():
    values = np.cumsum(np.random.default_rng(1).standard_normal(FEW + 1))
    columns = Columns()
    columns.add("x", values)
    columns.add("coarse", values, bits=10)
    packed = columns.pack()
    error = np.abs(unpack(packed)[1]["x"] - values)
    assert np.max(error) <= np.ptp(values) * 2.0**-16
    assert len(packed) < 5 * len(values)
    assert np.max(np.abs(unpack(packed)[1]["coarse"] - values)) <= np.ptp(values) * 2.0**-10
    with pytest.raises(ValueError, match="'x' is there already"):
        columns.add("x", values)


def _run(code: str, given: object) -> Any:
    """What ``code`` makes of ``given`` with the page's script beside it in a browser's engine."""
    utf8 = "class TextDecoder { decode(raw) { return "
    utf8 += "decodeURIComponent(escape(String.fromCharCode(...raw))); } }"
    source = utf8 + "\nconst module = {exports: {}};" + _SCRIPT.read_text() + ";"
    source += f"const given = {json.dumps(given)};\nJSON.stringify({code});"
    with mini_racer() as javascript:
        return json.loads(str(javascript.eval(source)))


def test_the_page_unpacks_what_was_packed():
    rng = np.random.default_rng(2)
    values = {
        "walk": np.where(rng.random(500) < 0.1, np.nan, 100 + np.cumsum(rng.standard_normal(500))),
        "price": np.round(50_000 + 100 * rng.standard_normal(500), 1),
        "ts": 1_767_571_200_000 + 60_000 * np.arange(500) + rng.integers(0, 50_000_000_000, 500).cumsum(),
        "code": rng.integers(0, 4, 500),
    }
    columns = Columns()
    for name, column in values.items():
        columns.add(name, column)
    packed = columns.pack({"a": 1})
    raw = list(gzip.decompress(base64.b64decode(packed)))
    code = "(found => ({about: found.about, columns: Object.fromEntries(Object.entries(found.columns)"
    code += ".map(([name, column]) => [name, Array.from(column)]))}))"
    code += "(numbers.unpack(Uint8Array.from(given)))"
    found = _run(code, raw)
    assert found["about"] == {"a": 1}
    for name, expected in unpack(packed)[1].items():
        got = np.array([np.nan if v is None else v for v in found["columns"][name]], float)
        assert np.array_equal(got, expected, equal_nan=True), name


def test_a_pixel_shows_each_state_by_its_share_of_time():
    rng = np.random.default_rng(3)
    codes = rng.choice(3, 5_000, p=[0.02, 0.9, 0.08])
    ts = np.cumsum(rng.integers(1, 100, 5_000))
    low, high, width = int(ts[40]) + 3, int(ts[4_900]) - 5, 37
    code = "(i, add) => add(given.codes[i], 1), given.low, given.high, 37"
    code = f"Array.from(numbers.shares(given.ts, 3, {code}))"
    told = {"ts": ts.tolist(), "codes": codes.tolist(), "low": low, "high": high}
    found = np.array(_run(code, told)).reshape(width, 3)
    # By hand: what was known at every moment, one by one.
    moments = np.arange(low, high)
    known = codes[np.searchsorted(ts, moments, side="right") - 1]
    pixel = (moments + 0.5 - low) / (high - low) * width
    expected = np.zeros((width, 3))
    np.add.at(expected, (pixel.astype(int), known), width / (high - low))
    np.testing.assert_allclose(found, expected, atol=2 * width / (high - low))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert found[:, 0].sum() > 0.3  # two per cent of 37 pixels are not lost


def test_columns_that_follow_from_others():
    given = {"equity": [100.0, 110.0, 99.0, 121.0], "below": [5.0, 0.0, 9.0, 0.0], "none": [0.0] * 4}
    given |= {"price": [100.0, 50.0, 40.0, 200.0]}
    derive = "numbers.derive"
    under = _run(f"{derive}.drawdown(given, 'equity', null, 100)", given)
    assert under == pytest.approx([0, 0, -10, 0])
    worst = _run(f"{derive}.drawdown(given, 'equity', 'below', 100)", given)
    assert worst == pytest.approx([-5, 0, 100 * (90 / 110 - 1), 0])
    held = _run(f"{derive}.holding(given, 'price', 'none', 1000, 10, 1, false)", given)
    assert held == [1000, 500, 400, 2000]
    # A long inverse contract loses everything where the price halves, and does not come back.
    inverse = _run(f"{derive}.holding(given, 'price', 'none', 2, 200, 1, true)", given)
    assert inverse == [2, 0, 0, 0]


def test_of_markers_at_one_place_the_largest_of_each_kind_stays():
    given = {"x": [0, 3, 4, 50, 51], "y": [0, 2, 4, 9, 9], "kind": [1, 1, -1, 1, 1], "qty": [1, 5, 2, 3, 3]}
    assert _run("numbers.thin(given.x, given.y, given.kind, given.qty, 10)", given) == [1, 2, 3]
