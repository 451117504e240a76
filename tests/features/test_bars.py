"""Where bars close: by the clock, by volume and value, from external bars; in batch as trade by trade."""

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_features import random_events
from pydantic import TypeAdapter, ValidationError

from core.causal import State, load_state, save_state
from core.events import EVENT, EventKind, sort_events
from features.bars import BarSpec, ClockBars, DollarBars, ExternalBars, VolumeBars, bar_events, with_closes
from features.kernel import FeatureKernel, StreamSpec

K = EventKind
SECOND = 10**9
EVERY_KIND = [ClockBars(), VolumeBars(size=12.0), DollarBars(size=1500.0), ExternalBars()]
LAWFUL = FeatureKernel(
    ["log_return_1", "signed_volume_3", "log_spread_2", "volume_zscore_4", "basis@spot", "series_value@oi"],
    [
        StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv", "book", "depth"))),
        StreamSpec("spot", 0.1, frozenset(("trades", "ohlcv", "book"))),
    ],
    ["oi", "mood"],
)
SPEC: TypeAdapter[BarSpec] = TypeAdapter(BarSpec)


def trades(*rows: tuple[int, float, float], stream: int = 0) -> np.ndarray:
    return np.array([(ts, K.TRADE_BUY, stream, 0, price, size) for ts, price, size in rows], EVENT)


def without_closes(seed: int) -> np.ndarray:
    events = random_events(seed, bars=20)
    return events[events["kind"] != K.CLOSE]


def test_a_clock_bar_closes_at_multiples_of_its_interval_also_when_nothing_happens() -> None:
    closes = ClockBars(interval="5s").closes()
    nothing = np.empty(0, EVENT)
    assert closes.find(nothing, 12 * SECOND, 25 * SECOND).tolist() == [15 * SECOND, 20 * SECOND, 25 * SECOND]
    # A span that begins on a multiple does not close the bar before it again.
    assert closes.find(nothing, 25 * SECOND, 31 * SECOND).tolist() == [30 * SECOND]


def test_an_event_at_the_close_belongs_to_the_next_bar() -> None:
    events = trades((SECOND - 1, 10, 1), (SECOND, 10, 2), (2 * SECOND - 1, 10, 4))
    merged = ClockBars().closes().merge(events, 0, 2 * SECOND)
    kernel = FeatureKernel(["signed_volume_1"], [StreamSpec("perp", 1.0, frozenset(("trades", "ohlcv")))])
    assert kernel.run(merged)[0].values[1, 0] == 6.0
    assert merged["ts"].tolist() == [SECOND - 1, SECOND, SECOND, 2 * SECOND - 1, 2 * SECOND]
    assert merged["kind"].tolist() == [K.TRADE_BUY, K.CLOSE, K.TRADE_BUY, K.TRADE_BUY, K.CLOSE]


def test_a_volume_bar_by_hand() -> None:
    # Ten contracts fill a bar. The trade that fills it goes in whole, and so do the others of its ts.
    events = trades(
        (1, 5, 4), (2, 5, 5), (2, 5, 3), (2, 5, 100), (3, 5, 9), (4, 5, 0.5), (5, 5, 0.5), (6, 5, 9)
    )
    assert VolumeBars(size=10).closes().find(events, 0, 10).tolist() == [3, 6]


def test_a_dollar_bar_by_hand() -> None:
    events = trades((1, 50, 1), (2, 60, 0.5), (3, 20, 1), (4, 100, 1))
    assert DollarBars(size=100).closes().find(events, 0, 10).tolist() == [4, 5]


def test_only_trades_of_the_traded_stream_fill_a_bar() -> None:
    events = sort_events(np.concatenate((trades((1, 5, 50), stream=1), trades((2, 5, 6), (3, 5, 6)))))
    book = np.array([(1, K.BID, 0, 1, 5.0, 99.0)], EVENT)
    assert VolumeBars(size=10).closes().find(sort_events(np.concatenate((events, book))), 0, 9).tolist() == [
        4
    ]


@pytest.mark.parametrize("spec", [VolumeBars(size=12.0), DollarBars(size=1500.0)])
def test_one_trade_at_a_time_closes_where_a_batch_does(spec: VolumeBars | DollarBars) -> None:
    events = without_closes(1)
    counter = spec.closes()
    state = counter.initial_state()
    counted = events[(events["kind"] >= K.TRADE_BUY) & (events["stream"] == 0)]
    found = [counter.update(state, int(e["ts"]), float(e["price"]), float(e["size"])) for e in counted]
    closes = spec.closes().find(events, 0, 20 * SECOND)
    assert [close for close in found if close is not None] == closes.tolist()
    assert len(closes) > 5


def naive_closes(events: np.ndarray, size: float, by_value: bool) -> list[int]:
    """Group by moment first: a bar takes trades of one ts all or none."""
    table = pd.DataFrame(events[(events["kind"] >= K.TRADE_BUY) & (events["stream"] == 0)])
    amounts = table["price"] * table["size"] if by_value else table["size"]
    total, closes = 0.0, []
    for ts, moment in amounts.groupby(table["ts"]):
        total += math.fsum(moment)
        if total >= size:
            closes.append(int(ts) + 1)
            total = 0.0
    return closes


@pytest.mark.parametrize("spec", [VolumeBars(size=12.0), DollarBars(size=1500.0)])
def test_event_bars_equal_the_naive_rule(spec: VolumeBars | DollarBars) -> None:
    events = without_closes(2)
    assert spec.closes().find(events, 0, 20 * SECOND).tolist() == naive_closes(
        events, spec.size, spec.by_value
    )


@pytest.mark.parametrize("spec", EVERY_KIND)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 20 * SECOND), max_size=4))
def test_closes_do_not_depend_on_how_time_is_cut(spec: BarSpec, cuts: list[int]) -> None:
    events = without_closes(3)
    whole = spec.closes().merge(events, 0, 20 * SECOND)
    closes, edges = spec.closes(), [0, *sorted(cuts), 20 * SECOND]
    state = closes.initial_state()
    parts = []
    for start, end in itertools.pairwise(edges):
        low, high = np.searchsorted(events["ts"], (start, end))
        parts.append(closes.merge(events[low:high], start, end, state))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("spec", EVERY_KIND)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 20 * SECOND), max_size=3))
def test_bars_and_features_go_on_from_a_saved_state_and_know_no_future(
    spec: BarSpec, cuts: list[int]
) -> None:
    # The three laws of the whole path from events to features, for every kind of bars.
    events, closes = without_closes(5), spec.closes()

    def run(part: np.ndarray, start: int, end: int, states: list[State]) -> np.ndarray:
        table, quotes = LAWFUL.run(closes.merge(part, start, end, states[1]), states[0])
        return np.column_stack((table.ts, table.values, quotes))

    def begin() -> list[State]:
        return [LAWFUL.initial_state(), closes.initial_state()]

    whole = run(events, 0, 20 * SECOND, begin())
    assert len(whole) > 5
    parts, states, edges = [], begin(), [0, *sorted(cuts), 20 * SECOND]
    for start, end in itertools.pairwise(edges):
        low, high = np.searchsorted(events["ts"], (start, end))
        parts.append(run(events[low:high], start, end, states))
        with tempfile.TemporaryDirectory() as folder:
            for i, state in enumerate(states):
                save_state(Path(folder) / f"{i}.npz", state)
            states = [load_state(Path(folder) / f"{i}.npz") for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    known = np.concatenate(parts[:1])
    other = events[: np.searchsorted(events["ts"], edges[1])]
    np.testing.assert_array_equal(run(other, 0, edges[1], begin()), known)
    np.testing.assert_array_equal(whole[: len(known)], known)


def test_closes_stand_before_events_of_their_moment() -> None:
    events = trades((1, 5, 1), (3, 5, 1), (3, 5, 1))
    merged = with_closes(events, np.array([3, 9]))
    assert merged["kind"].tolist() == [K.TRADE_BUY, K.CLOSE, K.TRADE_BUY, K.TRADE_BUY, K.CLOSE]
    np.testing.assert_array_equal(merged, sort_events(merged))


def test_features_of_external_bars_equal_those_computed_from_the_bars() -> None:
    rng = np.random.default_rng(4)
    n, w, minute = 200, 20, 60 * SECOND
    close = 100 * np.exp(np.cumsum(0.001 * rng.standard_normal(n)))
    opened = np.r_[100.0, close[:-1]]
    high = np.maximum(opened, close) * (1 + 0.001 * rng.random(n))
    low = np.minimum(opened, close) * (1 - 0.001 * rng.random(n))
    volume = rng.exponential(10.0, n)
    volume[5] = 0.0
    ts = (np.arange(n) + 1) * minute
    events = bar_events(ts, np.column_stack((opened, high, low, close, volume)), 0)
    merged = ExternalBars().closes().merge(events, 0, int(ts[-1]) + 1)

    names = [
        f"{stem}_{w}" for stem in ("log_return", "realized_volatility", "parkinson_volatility", "high_low")
    ]
    names += [f"log_volume_{w}", f"volume_zscore_{w}", f"moving_average_gap_{w}"]
    table, quotes = FeatureKernel(names, [StreamSpec("perp", 0.01, frozenset(("ohlcv",)))]).run(merged)
    assert table.ts.tolist() == ts.tolist()
    np.testing.assert_array_equal(quotes[:, 0], close)
    assert np.isnan(quotes[:, 1:3]).all()
    marked = np.column_stack((close, opened, low, high))
    np.testing.assert_array_equal(quotes[:, 3:7], marked)

    bars = pd.DataFrame({"high": high, "low": low, "close": close, "volume": volume})
    returns = np.log(bars.close).diff()
    volumes = bars.volume.rolling(w)
    expected = pd.DataFrame(
        {
            "log_return": np.log(bars.close).diff(w),
            "realized_volatility": np.sqrt((returns**2).rolling(w).mean()),
            "parkinson_volatility": np.sqrt(
                (np.log(bars.high / bars.low) ** 2).rolling(w).mean() / (4 * np.log(2))
            ),
            "high_low": np.log(bars.high.rolling(w).max() / bars.low.rolling(w).min()),
            "log_volume": np.log1p(volumes.mean()),
            "volume_zscore": (bars.volume - volumes.mean()) / volumes.std(ddof=0),
            "moving_average_gap": np.log(bars.close / bars.close.rolling(w).mean()),
        }
    )
    expected.iloc[:w] = np.nan
    np.testing.assert_allclose(table.values, expected.to_numpy(), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "clock", "interval": "2h"}, "not between 100ms and 1h"),
        ({"kind": "volume", "size": 0}, "greater than 0"),
        ({"kind": "volume", "size": 1, "interval": "1s"}, "interval"),
        ({"kind": "renko"}, "renko"),
    ],
)
def test_settings_that_make_no_bars_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SPEC.validate_python(values)


def test_settings_are_read_by_kind() -> None:
    assert SPEC.validate_python({"kind": "clock", "interval": "5s"}) == ClockBars(interval="5s")
    assert SPEC.validate_python({"kind": "dollar", "size": 1e6}) == DollarBars(size=1e6)
