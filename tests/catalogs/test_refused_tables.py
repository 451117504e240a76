"""Tables that cannot be what their mapping says are refused before anything is written."""

import json

import numpy as np
import pytest

from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.reader import Catalog
from engine.cli import main
from tests.catalogs.small_tables import ID, INSTRUMENT, T0, mapping, parquet

N = 40
BARS = f"""
[[table]]
kind = "bars"
files = ["*.parquet"]
instrument = "{ID}"
time = {{ event = "t", unit = "ms", stamp = "open", period = "PERIOD" }}
"""


@pytest.fixture
def bars():
    rng = np.random.default_rng(1)
    close = 100 + np.cumsum(rng.normal(size=N)).round(1)
    opens = np.r_[100.0, close[:-1]]
    return {
        "t": T0 + np.arange(N) * 60_000,
        "open": opens,
        "high": np.maximum(opens, close) + 0.5,
        "low": np.minimum(opens, close) - 0.5,
        "close": close,
        "volume": rng.uniform(1, 9, N).round(3),
    }


def _bars(root, columns, period="1m"):
    parquet(root / "a.parquet", **columns)
    return run_import(mapping(BARS.replace("PERIOD", period)), root, root / "c")


@pytest.mark.parametrize(
    ("period", "says"),
    [
        ("5m", "rows come every 1 min, but time.period is 5 min"),
        ("30s", "rows come every 1 min, but time.period is 30 s"),
        ("1h", "rows come every 1 min, but time.period is 1 h"),
    ],
)
def test_bars_of_another_length(root, bars, period, says):
    with pytest.raises(MappingError, match=rf"a\.parquet: column 't': {says}; correct it"):
        _bars(root, bars, period)
    assert not (root / "c/data").exists()


def test_the_length_is_that_of_series_too(root, bars):
    """One known an hour before its time would look ahead."""
    parquet(root / "a.parquet", **bars)
    text = BARS.replace("bars", "series").replace("PERIOD", "1h") + 'values = { oi = "close" }'
    with pytest.raises(MappingError, match="rows come every 1 min"):
        run_import(mapping(text), root, root / "c")


def test_bars_with_holes_are_of_the_length_they_say(root, bars):
    keep = np.random.default_rng(2).random(N) < 0.4
    summary = _bars(root, {name: values[keep] for name, values in bars.items()})
    assert summary.added == keep.sum()


@pytest.mark.parametrize("period", ["7m", "90s", "500ms", "36h"])
def test_a_length_that_nautilus_does_not_have_is_a_fault_of_the_mapping(period):
    with pytest.raises(ValueError, match="Nautilus has no bars of"):
        mapping(BARS.replace("PERIOD", period))


@pytest.mark.parametrize(
    ("swapped", "says"),
    [
        (("high", "low"), "the high is under the low in 40 of 40 rows, first in row 0"),
        (("close", "volume"), "the close is outside"),
    ],
)
def test_swapped_columns_of_bars(root, bars, swapped, says):
    one, other = swapped
    bars[one], bars[other] = bars[other], bars[one]
    with pytest.raises(MappingError, match=rf"a\.parquet: {says}.* seem to be swapped"):
        _bars(root, bars)


def test_a_bar_that_cannot_be_is_left_out(root, bars):
    bars["high"][3] = bars["low"][3] - 1
    bars["close"][5] = bars["high"][5] + 1
    bars["open"][7] = 1_000
    bars["open"][9] = bars["high"][9] + 1  # a close before: the bar is widened
    tally = _bars(root, bars).tallies[0]
    assert (tally.read, tally.added, tally.left_out) == (40, 37, 3)
    assert {what for what, count in tally.notes.items() if count} == {
        "with a high under the low: left out",
        "with a close outside high and low: left out",
        "with an open far outside high and low: left out",
        "high or low widened to contain the open",
    }


def test_swapped_bid_and_ask(root):
    bid = 100 + np.arange(N) / 10
    parquet(root / "a.parquet", t=T0 + np.arange(N), b=bid, a=bid + 0.1, q=np.ones(N))
    text = f"""
[[table]]
kind = "quotes"
files = ["a.parquet"]
instrument = "{ID}"
time = {{ event = "t", unit = "ms" }}
bid_price = "a"
ask_price = "b"
bid_size = "q"
ask_size = "q"
"""
    with pytest.raises(MappingError, match="the bid is over the ask in 40 of 40 rows"):
        run_import(mapping(text), root, root / "c")


@pytest.mark.parametrize("scale", ["0", "-1", "nan"])
def test_a_scale_is_positive(scale):
    with pytest.raises(ValueError, match="price_scale"):
        mapping(BARS.replace("PERIOD", "1m") + f"price_scale = {scale}")


def test_a_table_of_which_nothing_came_is_said(root, bars):
    bars["close"] = np.full(N, np.nan)
    summary = _bars(root, bars)
    assert summary.empty == [f"bars {ID}: none of the 40 rows of its 1 files"]
    assert summary.to_dict()["rows"] == 40


def test_exit_codes_and_json_of_an_import(root, bars, capsys):
    (root / "map.toml").write_text(INSTRUMENT + BARS.replace("PERIOD", "1m"))
    work = ["data", "import", str(root / "map.toml"), "--root", str(root), "--out", str(root / "c"), "--json"]
    parquet(root / "a.parquet", **bars)
    assert main(work) == 0
    done = json.loads(capsys.readouterr().out)
    assert set(done) == {"rows", "not_wanted", "added", "tables", "warnings", "empty"}
    (table,) = done["tables"]
    assert (table["read"], table["added"], table["present"], table["left_out"]) == (N, N, 0, 0)
    parquet(root / "a.parquet", **(bars | {"close": np.full(N, np.nan)}))
    assert main(work) == 1
    assert json.loads(capsys.readouterr().out)["empty"]
    parquet(root / "a.parquet", t=bars["t"])
    assert main(work) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("beaufort: ")
    assert "no column 'open'" in captured.err


def test_an_import_that_fails_adds_nothing(root, bars):
    """Not of the tables before it either: they would stand in the way of the mended import."""
    text = BARS.replace("PERIOD", "1m")
    bad = text.replace("*.parquet", "b.parquet").replace('kind = "bars"', 'kind = "mark"\nvalue = "close"')
    parquet(root / "b.parquet", t=[T0, T0 - 10**9], close=[1.0, 2.0])
    parquet(root / "a.parquet", **bars)
    text = text.replace("*.parquet", "a.parquet")
    with pytest.raises(MappingError, match="before a row above it"):
        run_import(mapping(text + bad), root, root / "c")
    assert not list((root / "c").rglob("*.parquet"))
    run_import(mapping(text), root, root / "c")
    before = sorted((root / "c").rglob("*"))
    with pytest.raises(MappingError):
        run_import(mapping(text + bad), root, root / "c")
    assert sorted((root / "c").rglob("*")) == before
    assert Catalog(root / "c").coverage(f"{ID}-1-MINUTE-LAST-EXTERNAL", "bars")[2] == N


def test_columns_are_looked_for_in_every_file_before_anything_is_read(root, bars):
    parquet(root / "a.parquet", **bars)
    parquet(root / "z.parquet", **{name.replace("close", "last"): values for name, values in bars.items()})
    with pytest.raises(MappingError, match=r"z\.parquet: no column 'close'; it has t, open, high, low, last"):
        run_import(mapping(BARS.replace("PERIOD", "1m")), root, root / "c")
    assert not (root / "c").exists()
