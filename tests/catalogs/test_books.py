"""Compiled books against plain dictionaries."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.books import ADD, CLEAR, DELETE, UPDATE, LevelBook, apply_updates, replay, snapshot_updates

_LEVEL = st.tuples(st.sampled_from([1, -1]), st.integers(1, 12), st.integers(0, 3))


def _naive(levels, side, price, size):
    """Set a level in ``{(side, price): size}``; what had to be done."""
    key = (side, price)
    if size == 0:
        return DELETE if levels.pop(key, None) is not None else 0
    before = levels.get(key)
    levels[key] = size
    return ADD if before is None else (UPDATE if before != size else 0)


def _contents(book):
    return {
        (sign, int(price)): int(size)
        for k, sign in enumerate((1, -1))
        for price, size in zip(book.prices[k, : book.count[k]], book.sizes[k, : book.count[k]], strict=True)
    }


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(_LEVEL, min_size=1, max_size=8, unique_by=lambda row: row[:2]), min_size=1, max_size=30)
)
def test_updates_give_the_book_and_only_the_deltas_that_change_it(updates):
    rows = [row for update in updates for row in update]
    side, price, size = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    starts = np.cumsum([0, *map(len, updates)])
    book = LevelBook()
    row, action, update, state = apply_updates(book.prices, book.sizes, book.count, starts, side, price, size)

    levels, expected, states = {}, [], [0, 0, 0]
    for g, rows_ in enumerate(updates):
        for s, p, q in sorted(rows_, key=lambda r: r[2] > 0):  # levels that go first
            done = _naive(levels, s, p, q)
            if done:
                expected.append((g, done, s, p, q))
        bids, asks = [p for s, p in levels if s > 0], [p for s, p in levels if s < 0]
        both = bids and asks
        states[(max(bids) >= min(asks)) + (max(bids) > min(asks)) if both else 0] += 1
    assert _contents(book) == levels
    assert list(zip(update, action, side[row], price[row], size[row], strict=True)) == expected
    assert state.tolist() == states
    assert (np.diff(book.prices[0, : book.count[0]]) > 0).all()
    assert (np.diff(book.prices[1, : book.count[1]]) < 0).all()


_SIDE = st.dictionaries(st.integers(1, 15), st.integers(1, 3), max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(_SIDE, _SIDE, st.booleans()), min_size=1, max_size=20))
def test_deltas_between_snapshots_rebuild_every_snapshot(snapshots):
    rows, starts = [], [0]
    for bids, asks, _ in snapshots:
        rows += [(1, p, bids[p]) for p in sorted(bids, reverse=True)] + [
            (-1, p, asks[p]) for p in sorted(asks)
        ]
        starts.append(len(rows))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    fresh = np.array([item[2] for item in snapshots])
    book = LevelBook()
    action, side, price, size, update, state = snapshot_updates(
        book.prices, book.sizes, book.count, np.array(starts), *columns, fresh
    )
    levels, at = {}, 0
    for g, (bids, asks, anew) in enumerate(snapshots):
        before = {} if anew else dict(levels)
        changes = 0
        while at < len(update) and update[at] == g:
            if action[at] == CLEAR:
                assert anew
                levels.clear()
            else:
                assert _naive(levels, side[at], price[at], size[at]) == action[at]
                changes += 1
            at += 1
        now = {(1, p): q for p, q in bids.items()} | {(-1, p): q for p, q in asks.items()}
        assert levels == now
        assert changes == sum(before.get(key) != now.get(key) for key in before.keys() | now.keys())
    assert at == len(update)
    assert state[3] == -1


def test_levels_that_go_come_before_levels_that_come():
    """A book that rises through its own asks is never crossed on the way."""
    side, price, size = np.array([1, -1, 1, -1]), np.array([10, 11, 12, 13]), np.array([5, 5, 5, 5])
    book = LevelBook()
    result = snapshot_updates(
        book.prices, book.sizes, book.count, np.array([0, 2, 4]), side, price, size, np.array([True, False])
    )
    action, moved, at = result[0], result[2], result[4]
    assert list(zip(action[at == 1], moved[at == 1], strict=True)) == [
        (DELETE, 10),
        (DELETE, 11),
        (ADD, 12),
        (ADD, 13),
    ]


def test_snapshot_levels_out_of_order_are_pointed_at():
    side, price, size = np.array([1, 1, -1, -1]), np.array([10, 9, 12, 11]), np.array([1, 1, 1, 1])
    book = LevelBook()
    state = snapshot_updates(
        book.prices, book.sizes, book.count, np.array([0, 4]), side, price, size, np.array([True])
    )[5]
    assert state[3] == 3


def test_replay_judges_the_book_after_each_update():
    kind = np.array([1, -1, 1, 1, 0, -1])
    price = np.array([10, 11, 11, 12, 0, 9])
    size = np.array([1, 1, 1, 1, 0, 1])
    book = LevelBook()
    state = replay(
        book.prices, book.sizes, book.count, kind, price, size, np.array([0, 1, 1, 1, 0, 1], dtype=bool)
    )
    assert state.tolist() == [-1, 0, 1, 2, -1, 0]


def test_a_book_grows():
    book = LevelBook()
    n = 200_000
    book.reserve(n)
    price = np.arange(1, n + 1)
    apply_updates(book.prices, book.sizes, book.count, np.array([0, n]), np.ones(n, np.int64), price, price)
    assert book.best() is None
    assert _contents(book)[1, n] == n
