"""The feature kernel against a naive telling of every feature, by hand, and under the three laws."""

import math

import conformance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_features import NAIVE, naive_bars, random_events

from core.causal import State
from core.events import EVENT, LAST, EventKind
from features.book import depth, set_level
from features.kernel import FeatureKernel, StreamSpec
from features.registry import features

K = EventKind
PERP = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv", "book", "depth", "mark", "index", "funding")))
SPOT = StreamSpec("spot", 0.1, frozenset(("trades", "ohlcv", "book")))
SERIES = ("open_interest", "sentiment")
SECOND = 10**9


def chosen(w: int) -> list[str]:
    """Every declared feature with window ``w``, on each source that can feed it."""
    names = []
    for feature in features():
        if feature.pattern not in NAIVE:
            continue
        name = feature.pattern.format(w=max(w, feature.least))
        if feature.needs == ("series",):
            names.append(f"{name}@sentiment")
            continue
        if not feature.pair:
            names.append(name)
        if set(feature.needs) <= {"price", "clock", *SPOT.feeds}:
            names.append(f"{name}@spot")
    return names


def naive(name: str, events: np.ndarray) -> np.ndarray:
    perp, spot, _, sentiment = naive_bars(events, (0.1, 0.1), len(SERIES))
    base, _, alias = name.partition("@")
    frame = {"": perp, "spot": spot, "sentiment": sentiment}[alias]
    if base in NAIVE:
        return NAIVE[base](frame, perp, 0).to_numpy(float)
    stem, w = base.rsplit("_", 1)
    values = NAIVE[f"{stem}_{{w}}"](frame, perp, int(w)).to_numpy(float).copy()
    values[: int(w)] = math.nan  # the kernel speaks once it has w + 1 bars
    return values


def records(*rows: tuple[int, int, float, float]) -> np.ndarray:
    """Events of stream 0 from (ts, kind, price, size), each book record an update of its own."""
    return np.array(
        [
            (ts, kind, 0, LAST if K.CLEAR <= kind <= K.QUOTE_ASK else 0, price, size)
            for ts, kind, price, size in rows
        ],
        EVENT,
    )


def last(names: list[str], events: np.ndarray, stream: StreamSpec = PERP) -> np.ndarray:
    return FeatureKernel(names, [stream]).run(events)[0].values[-1]


def test_every_feature_has_a_naive_twin() -> None:
    assert {feature.pattern for feature in features()} == set(NAIVE)


@pytest.mark.parametrize(("seed", "w"), [(1, 1), (2, 4), (3, 11)])
def test_features_equal_the_naive_computation(seed: int, w: int) -> None:
    events = random_events(seed)
    names = chosen(w)
    table, quotes = FeatureKernel(names, [PERP, SPOT], SERIES).run(events)
    for name in names:
        expected = naive(name, events)
        assert np.isfinite(expected).any(), f"{name} is never known on these events: they do not test it"
        np.testing.assert_allclose(table.column(name), expected, rtol=1e-9, atol=1e-12, err_msg=name)
    perp = naive_bars(events, (0.1, 0.1), len(SERIES))[0]
    np.testing.assert_allclose(quotes[:, :3], perp[["price", "bid", "ask"]].to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(quotes[:, 3:], naive_marks(events, perp["price"].tolist()), rtol=1e-12)
    np.testing.assert_array_equal(table.ts, events["ts"][events["kind"] == K.CLOSE])


def naive_marks(events: np.ndarray, closes: list[float]) -> list[list[float]]:
    """``mark`` to ``high_age`` of every bar, from the events of the traded stream one by one."""
    rows: list[list[float]] = []
    seen: dict[str, list[tuple[float, int]]] = {"mark": [], "trade": []}
    mark, begun, at = math.nan, None, 0
    for event in events:
        ts, kind, price = int(event["ts"]), int(event["kind"]), float(event["price"])
        if kind == K.CLOSE:
            fresh = not math.isnan(mark) and ts - at <= max(
                60 * SECOND, ts - (ts if begun is None else begun)
            )
            kept = seen["mark" if fresh else "trade"]
            close = mark if fresh else closes[len(rows)]
            if math.isnan(close) and kept:
                close = kept[-1][0]
            kept = [*kept, (close, ts)]
            low, high = min(kept, key=lambda p: p[0]), max(kept, key=lambda p: p[0])
            rows.append([close, kept[0][0], low[0], high[0], ts - low[1], ts - high[1]])
            seen, begun = {"mark": [], "trade": []}, ts
        elif event["stream"] == 0 and kind == K.MARK:
            mark, at = price, ts
            seen["mark"].append((price, ts))
        elif event["stream"] == 0 and kind >= K.TRADE_BUY:
            seen["trade"].append((price, ts))
    return rows


def test_a_mark_price_counts_for_a_minute_or_a_bar() -> None:
    minute = 60 * SECOND
    events = records(
        (1, K.TRADE, 100.0, 1), (2, K.MARK, 101.0, 0), (minute, K.CLOSE, 0, 0),
        (minute + 1, K.TRADE, 90.0, 1), (minute + 2, K.CLOSE, 0, 0), (minute + 3, K.CLOSE, 0, 0),
        (minute + 4, K.MARK, 95.0, 0), (9 * minute, K.CLOSE, 0, 0), (10 * minute, K.CLOSE, 0, 0),
    )  # fmt: skip
    stream = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv", "mark")))
    _, quotes = FeatureKernel(["log_return_1"], [stream]).run(events)
    assert quotes[:, 3].tolist() == [101, 101, 90, 95, 90]
    assert quotes[:, 5].tolist() == [101, 101, 90, 95, 90]  # the trade at 90 is not a mark while there is one


def test_history_slides_over_many_bars() -> None:
    events = random_events(3, bars=600, per_bar=6)
    names = ["log_return_40", "volume_zscore_40", "autocorrelation_40"]
    table, _ = FeatureKernel(names, [PERP, SPOT], SERIES).run(events)
    for name in names:
        np.testing.assert_allclose(
            table.column(name), naive(name, events), rtol=1e-9, atol=1e-12, err_msg=name
        )


# -- the three laws ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel() -> FeatureKernel:
    return FeatureKernel(chosen(5), [PERP, SPOT], SERIES)


def outputs(kernel: FeatureKernel, events: np.ndarray, state: State) -> np.ndarray:
    table, quotes = kernel.run(events, state)
    return np.column_stack((table.ts, table.values, quotes))


def test_law_of_chunks_anywhere_in_the_events(kernel: FeatureKernel) -> None:
    conformance.check_chunks(
        lambda part, state: outputs(kernel, part, state), kernel.initial_state, random_events(4, bars=30)
    )


def test_law_of_chunks_at_every_record_of_a_book_update(kernel: FeatureKernel) -> None:
    events = random_events(5, bars=12)
    whole = outputs(kernel, events, kernel.initial_state())
    state = kernel.initial_state()
    parts = [outputs(kernel, events[i : i + 1], state) for i in range(len(events))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 600))
def test_law_of_causality(n: int) -> None:
    kernel = FeatureKernel(chosen(5), [PERP, SPOT], SERIES)
    events = random_events(6, bars=15)
    whole = outputs(kernel, events, kernel.initial_state())
    other = np.concatenate((events[:n], events[n:][::-1]))  # another future
    other["price"][n:] += 1.0
    known = np.count_nonzero(events["kind"][:n] == K.CLOSE)
    np.testing.assert_array_equal(outputs(kernel, other, kernel.initial_state())[:known], whole[:known])


def test_law_of_round_trip(kernel: FeatureKernel) -> None:
    events = random_events(7, bars=30)
    conformance.check_state_round_trip(
        lambda part, state: outputs(kernel, part, state), kernel.initial_state, events, len(events) // 2
    )


def test_step_is_run_on_one_bar(kernel: FeatureKernel) -> None:
    events = random_events(8, bars=20)
    whole = outputs(kernel, events, kernel.initial_state())
    state = kernel.initial_state()
    ends = np.flatnonzero(events["kind"] == K.CLOSE) + 1
    for row, part in zip(whole, np.split(events, ends), strict=False):
        values, quote = kernel.step(state, part)
        np.testing.assert_array_equal(np.concatenate((values, quote)), row[1:])


# -- by hand -------------------------------------------------------------------------------------------------


def test_order_flow_imbalance_by_hand() -> None:
    # Cont, Kukanov and Stoikov (2014), equation 4, in words: size that joins or improves the bid, or leaves
    # or retreats from the ask, is demand. Bid 10.0 x 5, ask 10.2 x 7 stand when the bar begins.
    events = records(
        (1, K.BID, 10.0, 5), (1, K.ASK, 10.2, 7), (SECOND, K.CLOSE, 0, 0),
        (SECOND + 1, K.BID, 10.0, 8),  # three join the bid: +3
        (SECOND + 2, K.BID, 10.1, 4),  # a better bid of four: +4
        (SECOND + 3, K.ASK, 10.2, 2),  # five leave the ask: +5
        (SECOND + 4, K.ASK, 10.2, 0),  # the ask is gone: no best ask, nothing to compare ...
        (SECOND + 5, K.ASK, 10.3, 6),  # ... until there is again: the flow starts anew
        (SECOND + 6, K.BID, 10.1, 0),  # the bid falls back to 10.0: its four are gone: -4
        (SECOND + 7, K.ASK, 10.2, 1),  # a better ask of one: -1
        (SECOND + 8, K.BID, 9.0, 50),  # far from the top: 0
        (2 * SECOND, K.CLOSE, 0, 0),
    )  # fmt: skip
    flow = 3 + 4 + 5 - 4 - 1
    assert last(["order_flow_imbalance_1"], events) == pytest.approx(flow / ((8 + 1) / 2))


def test_microprice_by_hand() -> None:
    # Bid 100.0 x 30, ask 100.2 x 10: three quarters of the size are bid, so the microprice is three quarters
    # up the spread, 100.15, while the mid is 100.1.
    events = records((1, K.BID, 100.0, 30), (1, K.ASK, 100.2, 10), (SECOND, K.CLOSE, 0, 0))
    assert last(["microprice_deviation"], events) == pytest.approx(0.05 / 100.1, rel=1e-9)
    assert last(["book_imbalance_1"], events) == pytest.approx(0.5)


def test_time_weighted_spread_by_hand() -> None:
    # 0.2 wide for the first quarter of the bar, 0.4 for the rest.
    events = records(
        (1, K.BID, 100.0, 1), (1, K.ASK, 100.2, 1), (SECOND, K.CLOSE, 0, 0),
        (SECOND + SECOND // 4, K.ASK, 100.2, 0), (SECOND + SECOND // 4, K.ASK, 100.4, 1),
        (2 * SECOND, K.CLOSE, 0, 0),
    )  # fmt: skip
    events["flags"][3] = 0  # one update: the best ask moves at once
    assert last(["average_spread_1"], events) == pytest.approx((0.25 * 0.2 + 0.75 * 0.4) / 100.2)


@pytest.mark.parametrize(
    ("price", "before", "bought"),
    [
        (100.2, (), True),  # at the ask
        (100.0, (), False),  # at the bid
        (100.3, (100.9,), True),  # above the ask, though lower than the trade before
        (100.1, (99.9,), True),  # at the mid, up from the trade before
        (100.1, (100.5,), False),  # at the mid, down
        (100.1, (100.0, 100.1), True),  # at the mid, unchanged: as the trade before, which went up
        (100.1, (100.2, 100.1), False),
    ],
)
def test_aggressor_is_inferred_by_lee_and_ready(
    price: float, before: tuple[float, ...], bought: bool
) -> None:
    rows = [(1, K.BID, 100.0, 1.0), (1, K.ASK, 100.2, 1.0)]
    rows += [(2, K.TRADE, earlier, 1.0) for earlier in before]
    rows += [(3, K.CLOSE, 0.0, 0.0), (4, K.TRADE, price, 2.0), (5, K.CLOSE, 0.0, 0.0)]
    assert last(["signed_volume_1"], records(*rows)) == (2.0 if bought else -2.0)


def test_aggressor_without_quotes_follows_the_last_price_change() -> None:
    events = records(
        (1, K.TRADE, 10.0, 1), (2, K.CLOSE, 0, 0),
        (3, K.TRADE, 9.9, 2), (4, K.TRADE, 9.9, 4), (5, K.TRADE, 10.0, 8), (6, K.CLOSE, 0, 0),
    )  # fmt: skip
    trades = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv")))
    assert last(["signed_volume_1"], events, trades) == -2 - 4 + 8


def test_the_very_first_trade_counts_as_bought() -> None:
    # Nothing says who was the aggressor; the choice is arbitrary but must not change.
    events = records((1, K.CLOSE, 0, 0), (2, K.TRADE, 10.0, 3), (3, K.CLOSE, 0, 0))
    assert last(["signed_volume_1"], events) == 3.0


@pytest.mark.parametrize(("ask", "spread"), [(100.0, 0.0), (99.8, -0.2)])
def test_locked_and_crossed_books_are_taken_as_they_are(ask: float, spread: float) -> None:
    events = records((1, K.BID, 100.0, 3), (1, K.ASK, ask, 1), (SECOND, K.CLOSE, 0, 0))
    names = ["spread", "microprice_deviation", "book_imbalance_1", "book_imbalance_5"]
    values = last(names, events)
    mid = (100.0 + ask) / 2
    np.testing.assert_allclose(values, [spread / mid, 0.25 * spread / mid, 0.5, 0.5], atol=1e-12)


def test_bars_without_events_carry_prices_and_count_nothing() -> None:
    events = records(
        (1, K.BID, 100.0, 3), (1, K.ASK, 100.2, 1), (1, K.FUNDING, 1e-4, 0), (2, K.TRADE_BUY, 100.2, 1),
        (SECOND, K.CLOSE, 0, 0), (2 * SECOND, K.CLOSE, 0, 0),
    )  # fmt: skip
    names = [
        "log_return_1",
        "trade_count_1",
        "cvd_change_1",
        "book_updates_1",
        "spread",
        "funding_rate",
        "high_low_1",
    ]
    values = last(names, events)
    np.testing.assert_allclose(values, [0, 0, 0, 0, 0.2 / 100.1, 1e-4, 0], atol=1e-12)


def test_nothing_is_known_before_the_first_event() -> None:
    table, quotes = FeatureKernel(chosen(1), [PERP, SPOT], SERIES).run(records((SECOND, K.CLOSE, 0, 0)))
    assert np.isnan(quotes[:, :7]).all()
    known = {name for name in table.names if not math.isnan(table.column(name)[0])}
    assert known == {"time_of_day_sin", "time_of_day_cos", "time_of_day_sin@spot", "time_of_day_cos@spot"}


def test_an_update_in_parts_is_seen_whole() -> None:
    # A snapshot without LAST until its end: the trade between sees the book before it.
    events = records(
        (1, K.BID, 100.0, 1), (1, K.ASK, 100.2, 1), (2, K.CLOSE, 0, 0),
        (3, K.CLEAR, 0, 0), (3, K.BID, 90.0, 1), (3, K.TRADE, 95.0, 1), (3, K.ASK, 90.2, 1),
        (4, K.CLOSE, 0, 0),
    )  # fmt: skip
    events["flags"][[3, 4]] = 0
    values = last(["signed_volume_1", "book_updates_1", "log_return_1"], events)
    np.testing.assert_allclose(values, [-1.0, 1.0, math.log(90.1 / 100.1)])


def test_a_lost_book_leaves_no_price() -> None:
    # The book is cleared and nothing follows, as after a lost update: the trades that go on being printed say
    # what others paid, not where one could deal. With the next snapshot there is a price again.
    events = records(
        (1, K.BID, 100.0, 1), (1, K.ASK, 100.2, 1), (2, K.TRADE_BUY, 100.2, 1), (3, K.CLOSE, 0, 0),
        (4, K.CLEAR, 0, 0), (5, K.TRADE_SELL, 90.0, 2), (6, K.CLOSE, 0, 0), (7, K.CLOSE, 0, 0),
        (8, K.BID, 80.0, 1), (8, K.ASK, 80.2, 1), (9, K.CLOSE, 0, 0), (10, K.CLOSE, 0, 0),
    )  # fmt: skip
    names = ["log_return_1", "spread", "signed_volume_1"]
    table, quotes = FeatureKernel(names, [PERP]).run(events)
    assert np.isnan(quotes[1:3, :3]).all()
    # What a position is worth while others go on dealing is seen all the same.
    np.testing.assert_allclose(quotes[1, 3:], [90, 90, 90, 90, 1, 1])
    assert np.isnan(quotes[2, 3:7]).all()
    np.testing.assert_allclose(quotes[[0, 3], 0], [100.1, 80.1])
    np.testing.assert_array_equal(np.isnan(table.column("log_return_1")), [True, True, True, True, False])
    np.testing.assert_array_equal(np.isnan(table.column("spread"))[1:], [True, True, False, False])
    assert table.column("signed_volume_1")[1:].tolist() == [-2.0, 0.0, 0.0, 0.0]  # trades are still known


def test_the_last_trade_is_the_price_where_there_is_no_book() -> None:
    trades_only = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv")))
    events = records((1, K.TRADE_BUY, 100.2, 1), (3, K.CLOSE, 0, 0))
    assert FeatureKernel([], [trades_only]).run(events)[1][0, 0] == 100.2


def test_an_update_that_changes_nothing_is_none() -> None:
    events = records(
        (1, K.BID, 100.0, 1), (1, K.ASK, 100.2, 1), (2, K.CLOSE, 0, 0),
        (3, K.BID, 100.0, 1),  # what stands
        (3, K.BID, 90.0, 0),  # what is not there, gone
        (3, K.ASK, 100.2, 2),  # a change
        (3, K.ASK, 100.2, 2),  # and again
        (3, K.QUOTE_ASK, 100.2, 2), (3, K.QUOTE_BID, 100.0, 1),  # the same, as best bid and ask
        (3, K.QUOTE_BID, 100.1, 1),  # a change
        (4, K.CLEAR, 0, 0),  # a change
        (4, K.CLEAR, 0, 0),
        (5, K.CLOSE, 0, 0),
    )  # fmt: skip
    assert last(["book_updates_1"], events) == 3
    # An update of several levels is one, and counts if one of them changes, wherever the events are cut.
    kernel = FeatureKernel(["book_updates_1"], [PERP])
    events["flags"][[5, 6]] = 0
    state = kernel.initial_state()
    kernel.run(events[:6], state)
    table, _ = kernel.run(events[6:], state)
    assert table.values[-1, 0] == 3


# -- the book ------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0.0, 1.0, 2.5])), max_size=150))
def test_a_side_keeps_the_best_levels_sorted(changes: list[tuple[int, float]]) -> None:
    keys, sizes, counts = np.zeros((1, 2, 64), np.int64), np.zeros((1, 2, 64)), np.zeros((1, 2), np.int64)
    expected: dict[int, float] = {}
    for key, size in changes:
        set_level(keys, sizes, counts, 0, 1, key, size)
        expected[key] = size
        expected = {k: v for k, v in expected.items() if v}
    n = counts[0, 1]
    assert dict(zip(keys[0, 1, :n].tolist(), sizes[0, 1, :n].tolist(), strict=True)) == expected
    assert keys[0, 1, :n].tolist() == sorted(expected)
    assert depth(sizes, counts, 0, 1, 5) == sum(expected[k] for k in sorted(expected)[-5:])
    assert counts[0, 0] == 0


def test_a_full_side_forgets_the_farthest_level() -> None:
    keys, sizes, counts = np.zeros((1, 2, 4), np.int64), np.zeros((1, 2, 4)), np.zeros((1, 2), np.int64)
    for key in (10, 20, 30, 40, 25, 5, 50):
        set_level(keys, sizes, counts, 0, 0, key, float(key))
    assert keys[0, 0].tolist() == [25, 30, 40, 50]
    assert sizes[0, 0].tolist() == [25.0, 30.0, 40.0, 50.0]


@pytest.mark.parametrize(("capacity", "span"), [(7, 30), (40, 200), (200, 300)])
def test_a_deep_side_equals_a_dict_that_forgets_its_farthest(capacity: int, span: int) -> None:
    # Sides fuller and emptier than the levels looked through one by one, changed anywhere and at both ends.
    rng = np.random.default_rng(capacity)
    shape = (1, 2, capacity)
    keys, sizes, counts = np.zeros(shape, np.int64), np.zeros(shape), np.zeros((1, 2), np.int64)
    expected: dict[int, float] = {}
    fullest = 0
    for i in range(6_000):
        filling = i % 2_000 < 1_200  # then it is emptied again
        size = float(rng.random() < 0.75) * (i + 1) if filling else float(rng.random() < 0.1) * (i + 1)
        key = int(rng.integers(-span, span))
        if expected and rng.random() < 0.4:
            edge = max(expected) if rng.random() < 0.5 else min(expected)
            key = edge + int(rng.integers(-1, 2))
        set_level(keys, sizes, counts, 0, 0, key, size)
        if size:
            expected[key] = size
            if len(expected) > capacity:
                del expected[min(expected)]
        else:
            expected.pop(key, None)
        n = counts[0, 0]
        fullest = max(fullest, n)
        assert list(zip(keys[0, 0, :n].tolist(), sizes[0, 0, :n].tolist(), strict=True)) == sorted(
            expected.items()
        )
    assert fullest == capacity
    assert counts[0, 1] == 0


def test_thousands_of_levels_a_side_are_remembered() -> None:
    bids = [(1, K.BID, float(price), 1.0 + price) for price in range(1, 5_001)]
    asks = [(1, K.ASK, float(price), 1.0 + price) for price in range(5_002, 10_002)]
    gone = [(2, kind, price, 0.0) for _, kind, price, _ in (*bids[1:], *asks[:-1])]
    events = records(*bids, *asks, *gone, (SECOND, K.CLOSE, 0, 0))
    table, quotes = FeatureKernel(["book_imbalance_1"], [PERP]).run(events)
    assert quotes[0, 1:3].tolist() == [1.0, 10_001.0]
    assert table.values[0, 0] == pytest.approx((2 - 10_002) / (2 + 10_002))


@pytest.mark.parametrize("closes", [0, 2])
def test_a_step_is_one_bar(closes: int) -> None:
    kernel = FeatureKernel(["log_return_1"], [PERP])
    events = records((1, K.TRADE, 10.0, 1.0), *[(2 + i, K.CLOSE, 0.0, 0.0) for i in range(closes)])
    with pytest.raises(ValueError, match=f"close {closes} bars"):
        kernel.step(kernel.initial_state(), events)


def test_a_trade_at_the_mid_is_at_the_mid_whatever_floats_say() -> None:
    # 0.2 + 0.4 halved is not 0.3 as floats; in ticks it is, so the change of price decides: up, bought.
    for bid in range(1, 400):
        price = [round(0.1 * (bid + i), 1) for i in range(3)]
        events = records(
            (1, K.BID, price[0], 1.0), (1, K.ASK, price[2], 1.0), (2, K.TRADE, price[0], 1.0),
            (3, K.CLOSE, 0, 0), (4, K.TRADE, price[1], 1.0), (5, K.CLOSE, 0, 0),
        )  # fmt: skip
        assert last(["signed_volume_1"], events) == 1.0, price
