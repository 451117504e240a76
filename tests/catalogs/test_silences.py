"""Silences of a feed: against a naive walk over its events, and by hand."""

import numpy as np
import pytest

from catalogs.checks.silences import NEVER, silences
from catalogs.instruments import PerpetualSettings
from catalogs.reader import Catalog
from catalogs.writer import CatalogWriter

ID = "AAAUSDT-PERP.TEST"
S = 10**9
T0 = 1_700_000_000 * S


def _perp():
    return PerpetualSettings(
        id=ID, base="AAA", quote="USDT", price_increment="0.01", size_increment="0.001"
    ).build()


def _trades(root, *parts):
    """Trades at these times, each part in a file of its own."""
    writer = CatalogWriter(root)
    writer.instrument(_perp())
    for ts in parts:
        one = np.ones(len(ts))
        writer.trades(_perp(), ts, ts, 100 * one, one, one.astype(int))
    return Catalog(root)


def test_silences_are_what_a_naive_walk_finds(tmp_path):
    rng = np.random.default_rng(3)
    steps = rng.exponential(0.2, 3000) * S
    steps[rng.integers(0, 3000, 40)] *= 60
    ts = T0 + np.cumsum(steps).astype(np.int64)
    ts = np.sort(np.concatenate((ts, ts[::7])))  # several events of one moment
    catalog = _trades(tmp_path, ts[:1000], ts[1000:])
    start, end = int(ts[100]), int(ts[2500])
    inside = [t for t in ts.tolist() if start <= t < end]
    inside.append(next(t for t in ts.tolist() if t >= end))
    expected, last = [], 0
    for t in inside:
        if t - last > 3 * S:
            expected.append([last, t])
        last = t
    assert len(expected) > 20
    found = silences(catalog, ID, "trades", start, end, 3 * S)
    assert found.spans.tolist() == expected


@pytest.mark.parametrize(
    ("step", "bound"),
    [(S // 10, 5 * S), (2 * S, 40 * S)],  # at least five seconds; twenty times the usual interval
)
def test_the_bound_follows_the_pace_of_the_feed(tmp_path, step, bound):
    ts = T0 + step * np.arange(1, 200)
    late = ts[-1] + bound + np.array([1, 2 + bound])  # one silence just within the bound, one beyond
    found = silences(_trades(tmp_path, ts, late - 1), ID, "trades", T0, int(late[-1]) - 1)
    assert found.bound == bound
    assert found.spans.tolist() == [[0, ts[0]], [late[0] - 1, late[1] - 1]]


def test_what_is_not_recorded_is_silent(tmp_path):
    ts = T0 + S * np.arange(1, 11)
    catalog = _trades(tmp_path, ts)
    whole = silences(catalog, ID, "trades", T0, int(ts[-1]) + 1, 5 * S).spans.tolist()
    assert whole == [[0, ts[0]], [ts[-1], NEVER]]
    # What goes on after the span ends no silence, and a silence across its end is known.
    assert silences(catalog, ID, "trades", T0, int(ts[4]) + 1, 5 * S).spans.tolist() == [[0, ts[0]]]
    assert silences(catalog, ID, "trades", T0, int(ts[4]) + 1, S // 2).spans.tolist()[-1] == [ts[4], ts[5]]


def test_a_cleared_book_is_silent_until_it_is_written_anew(tmp_path):
    add, clear = 1, 4
    rows = [  # seconds, action
        (1, clear), (1, add), (2, add),
        (3, clear),  # the feed broke off
        (4, clear),  # and again
        (5, add), (6, add),
        (7, clear), (7, add),  # a snapshot is no silence
        (8, add),
    ]  # fmt: skip
    ts = T0 + S * np.array([at for at, _ in rows])
    action = np.array([what for _, what in rows])
    price = np.where(action == clear, 0.0, 100.0)
    side = np.where(action == clear, 0, 1)
    writer = CatalogWriter(tmp_path)
    writer.instrument(_perp())
    for part in (slice(0, 3), slice(3, 7), slice(7, None)):
        n = len(ts[part])
        writer.deltas(
            _perp(), ts[part], ts[part], action[part], side[part], price[part], price[part] / 100,
            np.full(n, 128), np.arange(n),
        )  # fmt: skip
    found = silences(Catalog(tmp_path), ID, "deltas", T0, int(ts[-1]))
    assert found.spans.tolist() == [[0, T0 + S], [T0 + 3 * S, T0 + 5 * S]]
