"""Transforms of features: against pandas, under the laws of the kernel, and by the names a config writes."""

import re

import conformance
import numpy as np
import pandas as pd
import pytest
from naive_features import random_events

from core.events import EVENT, EventKind
from features.kernel import FeatureKernel, StreamSpec
from features.names import choose
from features.transforms import TRANSFORMS, transform

K = EventKind
PERP = StreamSpec("perp", 0.1, frozenset(("trades", "ohlcv", "book", "depth", "mark", "index", "funding")))
SPOT = StreamSpec("spot", 0.1, frozenset(("trades", "ohlcv", "book")))
SECOND = 10**9
NAMES = [
    "lag(signed_volume_3, 4)",
    "difference(trade_count_1, 2)",
    "average(spread@spot, 7)",
    "zscore(book_imbalance_5, 9)",
    "rank(trade_count_2, 6)",
    "ema(microprice_deviation, 5)",
    "zscore(ema(difference(log_return_2@spot, 3), 2), 8)",
    "zscore(series_value@oi, 5)",
]


def kernel_of(*names: str) -> FeatureKernel:
    return FeatureKernel(names, [PERP, SPOT], ["oi", "mood"])


def ema(window: np.ndarray, span: int) -> float:
    return float(pd.Series(window).ewm(span=span, adjust=True, ignore_na=False).mean().iloc[-1])


def zscore(window: np.ndarray) -> float:
    known = window[np.isfinite(window)]
    return 0.0 if np.ptp(known) == 0 else float((window[-1] - known.mean()) / known.std())


def naive(name: str, column: np.ndarray, w: int) -> np.ndarray:
    """The transform of a column by pandas; at least half of a window known, and its newest."""
    x = pd.Series(column).replace([np.inf, -np.inf], np.nan)
    rolling = x.rolling(w, min_periods=-(-w // 2))
    found = {
        "lag": lambda: x.shift(w),
        "difference": lambda: x.diff(w),
        "average": rolling.mean,
        "zscore": lambda: ((x - rolling.mean()) / rolling.std(ddof=0)).where(
            rolling.max() > rolling.min(), 0
        ),
        "rank": lambda: (rolling.rank() - 0.5) / rolling.count(),
        "ema": lambda: x.rolling(4 * w, min_periods=2 * w).apply(lambda window: ema(window, w), raw=True),
    }[name]()
    return np.array(found if name == "lag" else found.where(x.notna()))


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_a_transform_equals_that_of_pandas(name: str) -> None:
    # Of what is often unknown, of whole numbers with many ties; more bars than are kept at once.
    of = ["log_spread_1", "trade_count_1", "spread@spot", "log_depth_2"]
    cases = [(f"{name}({x}, {w})", x, w) for x in of for w in (2, 5, 24)]
    table, _ = kernel_of(*of, *(case[0] for case in cases)).run(random_events(9, bars=400, per_bar=8))
    for whole, x, w in cases:
        expected = naive(name, table.column(x), w)
        lookback = choose(x).lookback + {"lag": w, "difference": w, "ema": 4 * w - 1}.get(name, w - 1)
        assert choose(whole).lookback == lookback
        expected[:lookback] = np.nan
        assert np.isfinite(expected).sum() > 50
        np.testing.assert_allclose(table.column(whole), expected, rtol=1e-9, atol=1e-9, err_msg=whole)


def test_every_transform_is_compared_above() -> None:
    assert {name.partition("(")[0] for name in NAMES} == set(TRANSFORMS)
    for name in TRANSFORMS:
        naive(name, np.arange(9.0), 2)


def column(*values: float) -> np.ndarray:
    """Bars of a stream with these funding rates."""
    rows = [(0, K.TRADE_BUY, 0, 0, 100.0, 1.0)]
    for i, value in enumerate(values):
        rows += [(SECOND * i + 1, K.FUNDING, 0, 0, value, 0.0), (SECOND * (i + 1), K.CLOSE, 0, 0, 0.0, 0.0)]
    return np.array(rows, EVENT)


def test_by_hand() -> None:
    names = ["lag", "difference", "average", "zscore", "rank"]
    kernel = kernel_of(*(f"{name}(funding_rate, 3)" for name in names))
    table, _ = kernel.run(column(7.0, 1.0, 2.0, 6.0))
    last = dict(zip(names, table.values[-1], strict=True))
    assert last == pytest.approx(
        {"lag": 7.0, "difference": -1.0, "average": 3.0, "zscore": 3 / np.sqrt(14 / 3), "rank": 2.5 / 3}
    )
    ages = np.array([0, 1, 2, 3, 4, 5, 6, 7])  # span 2: a third is left of a weight a bar later
    table, _ = kernel_of("ema(funding_rate, 2)").run(column(*(1.0 + ages[::-1])))
    weights = (1 / 3) ** ages
    assert table.values[-1, 0] == pytest.approx((weights * (1.0 + ages)).sum() / weights.sum())


def test_of_equal_values_nothing_stands_out() -> None:
    # Three tenths do not have a tenth for their mean, as floats.
    names = ["zscore(funding_rate, 3)", "rank(funding_rate, 3)", "average(funding_rate, 3)"]
    table, _ = kernel_of(*names).run(column(0.1, 0.1, 0.1))
    assert table.values[-1].tolist() == [0.0, 0.5, 0.1]


def test_an_unknown_bar_is_left_out_and_half_a_window_is_enough() -> None:
    nan = np.nan
    table, _ = kernel_of("average(funding_rate, 4)").run(column(1.0, nan, nan, 4.0, nan, 8.0, nan, 2.0))
    expected = [nan, nan, nan, 2.5, nan, 6.0, nan, 5.0]
    np.testing.assert_array_equal(table.values[:, 0], expected)
    table, _ = kernel_of("average(funding_rate, 4)").run(column(1.0, nan, nan, nan, 4.0))
    assert np.isnan(table.values[-1, 0])  # one of four


# -- the laws ------------------------------------------------------------------------------------------------


def outputs(kernel: FeatureKernel, events: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    return kernel.run(events, state)[0].values


def test_transforms_obey_the_laws() -> None:
    kernel, events = kernel_of(*NAMES), random_events(11, bars=50, per_bar=20)
    whole = outputs(kernel, events, kernel.initial_state())
    assert (np.isfinite(whole).sum(axis=0) > 5).all()
    conformance.check_chunks(
        lambda part, state: outputs(kernel, part, state), kernel.initial_state, events, examples=8
    )
    conformance.check_state_round_trip(
        lambda part, state: outputs(kernel, part, state), kernel.initial_state, events, len(events) // 2
    )
    ends = np.flatnonzero(events["kind"] == K.CLOSE) + 1
    state = kernel.initial_state()
    for n, part in enumerate(np.split(events, ends)[:-1]):
        np.testing.assert_array_equal(kernel.step(state, part)[0], whole[n])
    other = events.copy()
    other["price"][ends[20] :] += 3.0
    np.testing.assert_array_equal(outputs(kernel, other, kernel.initial_state())[:21], whole[:21])


def test_a_transform_is_the_same_from_wherever_reading_began() -> None:
    kernel, rates = kernel_of("ema(funding_rate, 4)", "zscore(funding_rate, 9)"), np.sin(np.arange(120.0))
    whole, late = (kernel.run(column(*part))[0].values for part in (rates, rates[37:]))
    np.testing.assert_array_equal(late[16:], whole[53:])


def test_what_a_transform_is_of_does_not_change_and_order_does_not_matter() -> None:
    events = random_events(12, bars=40)
    plain, _ = kernel_of("spread", "log_return_3").run(events)
    names = ["zscore(log_return_3, 5)", "log_return_3", "rank(zscore(log_return_3, 5), 4)", "spread"]
    table, _ = kernel_of(*names).run(events)
    assert table.names == tuple(names)
    np.testing.assert_array_equal(table.columns(("spread", "log_return_3")), plain.values)
    turned, _ = kernel_of(*names[::-1]).run(events)
    np.testing.assert_array_equal(turned.columns(names), table.values)


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zscor(spread, 10)", "no transform 'zscor'; nearest: zscore; `beaufort features --list`"),
        ("zscore(log_retrun_10, 10)", "no feature 'log_retrun_10'; nearest: log_return_{w}"),
        ("zscore(ema(log_retrun_10, 3), 10)", "no feature 'log_retrun_10'"),
        ("zscore(spread, 1)", "at least 2 and at most 100,001"),
        ("zscore(log_return_500, 99999999999999999999999999)", "at least 2 and at most 99,501"),
        ("ema(spread, 25001)", "at least 2 and at most 25,000"),
        ("zscore(spread,10)", "write zscore(spread, 10)"),
        ("zscore( spread , 010 )", "write zscore(spread, 10)"),
        ("zscore(spread, 1h)", "'1h' is no number of bars"),
        ("zscore(spread)", "such as zscore(spread@spot, 1440)"),
        ("zscore(spread, 10)@spot", "such as zscore(spread@spot, 1440)"),
        ("zscore(spread, 10", "such as zscore(spread@spot, 1440)"),
        ("(spread, 10)", "such as zscore(spread@spot, 1440)"),
        ("lag(basis, 10)", "write basis@"),
        ("lag(" * 6 + "spread" + ", 1)" * 6, "nested 5 deep"),
        ("lag(" * 3_000 + "spread" + ", 1)" * 3_000, "nested 5 deep"),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_what_to_write(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        choose(name)


def test_what_a_transform_is_of_must_be_there() -> None:
    with pytest.raises(ValueError, match="feature 'spread@spat': no stream or series 'spat'"):
        kernel_of("zscore(spread@spat, 10)")
    with pytest.raises(ValueError, match="feature 'funding_rate@spot' needs 'funding' of 'spot'"):
        kernel_of("zscore(funding_rate@spot, 10)")
    assert kernel_of("zscore(basis@spot, 10)").needs == {"perp": {"price"}, "spot": {"price"}}


def test_the_schema_knows_a_transform_and_what_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = kernel_of("zscore(log_return_10@spot, 60)").schema
    assert told["name"] == "zscore(log_return_10@spot, 60)"
    assert told["unit"] == "standard deviations"
    assert told["window"] == 69
    assert told["needs"] == ["price"]
    assert kernel_of("average(log_return_10, 60)").schema[0]["unit"] == "log return"
    codes = {kernel_of(f"{name}(log_return_10, 60)").schema[0]["code"] for name in TRANSFORMS}
    assert len(codes) == len(TRANSFORMS)
    monkeypatch.setitem(choose("log_return_10").feature.__dict__, "code", "another")
    assert kernel_of("zscore(log_return_10@spot, 60)").schema[0]["code"] != told["code"]


def test_a_transform_is_declared_once() -> None:
    with pytest.raises(ValueError, match=r"transform 'lag' is that of features\.transforms"):
        transform("lag", definition="")(lambda x, o, t, w: 0.0)
