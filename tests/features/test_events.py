"""One order of events, whatever order the feeds came in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import EVENT, EventKind, sort_events

K = EventKind


def test_events_of_one_moment_stand_slow_values_first_trades_last() -> None:
    kinds = [K.TRADE, K.QUOTE_BID, K.BID, K.MARK, K.INDEX, K.FUNDING, K.SERIES, K.CLOSE]
    events = np.zeros(len(kinds), EVENT)
    events["kind"] = kinds
    assert sort_events(events)["kind"].tolist() == sorted(kinds)


def test_updates_of_one_book_keep_their_order() -> None:
    kinds = [K.ASK, K.CLEAR, K.BID, K.ASK, K.BID]
    events = np.zeros(len(kinds), EVENT)
    events["kind"], events["price"] = kinds, range(5)
    assert sort_events(events)["price"].tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(K)), st.integers(0, 2)), max_size=40))
def test_interleaving_of_feeds_does_not_matter(rows: list[tuple[int, EventKind, int]]) -> None:
    events = np.array([(ts, kind, stream, 0, i, 0.0) for i, (ts, kind, stream) in enumerate(rows)], EVENT)
    once = sort_events(events)
    assert np.all(np.diff(once["ts"]) >= 0)
    np.testing.assert_array_equal(sort_events(once), once)
    feeds = [sort_events(events[events["stream"] == stream]) for stream in (2, 0, 1)]
    np.testing.assert_array_equal(sort_events(np.concatenate(feeds)), once)
