"""The account's books against fractions, hand-worked levels and an equity recomputed tick by tick."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.account import Account, AccountTerms, Marks
from strategies.contracts import ContractSpec

LINEAR = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3)
INVERSE = ContractSpec(True, 1.0, 0.5, 1.0, 1, 0)
FAR = Marks(100.0, 100.0, 100.0, 100.0, 0, 0)


def account(spec=LINEAR, starting="10000", **terms):
    return Account(AccountTerms(spec, Decimal(starting), **terms))


def marks(low=100.0, high=100.0, close=100.0, first=100.0, low_at=5, high_at=5):
    return Marks(close, first, low, high, low_at, high_at)


def fill(book, ts, signed, price, *, maker=False):
    return book.fill(ts, Decimal(str(signed)), Decimal(str(price)), maker=maker)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(
    ("scale", "places", "size"), [(1, 1, "0.001"), (10**-11, 12, "1000000"), (10**5, 0, "0.00000001")]
)
def test_equity_is_start_and_every_fill_fee_and_settlement_exactly(inverse, scale, places, size):
    rng = np.random.default_rng(11)
    spec = ContractSpec(inverse, 0.01, 10.0**-places, float(size), places, 3)
    book = account(spec, "1000.5", maker_fee=Decimal("-0.0001"), taker_fee=Decimal("0.00055"))
    cash, held = Fraction("1000.5"), Fraction(0)
    worth = (lambda p: -Fraction("0.01") / p) if inverse else (lambda p: Fraction("0.01") * p)
    for k in range(300):
        price = Decimal(str(round(float(rng.uniform(90, 110)) * scale, places)))
        signed = int(rng.integers(-500, 500)) * Decimal(size)
        maker = bool(rng.random() < 0.5)
        fee = book.fill(k, signed, price, maker=maker)
        rate = Fraction("-0.0001") if maker else Fraction("0.00055")
        paid = -abs(Fraction(signed) * worth(Fraction(price))) * rate
        assert fee == pytest.approx(float(paid), rel=1e-15)
        cash += paid - Fraction(signed) * worth(Fraction(price))
        held += Fraction(signed)
        if k % 7 == 0:
            book.settle(k, Decimal("-0.37"), Decimal("-0.37"))
            cash -= Fraction("0.37")
        mark = float(rng.uniform(90, 110)) * scale
        exact = cash + held * worth(Fraction(mark))
        assert book.equity(mark) == pytest.approx(float(exact), rel=1e-15)


def test_an_inverse_contract_is_averaged_by_what_it_costs():
    book = account(INVERSE, "10")
    fill(book, 1, 1000, 10_000)
    fill(book, 2, 1000, 12_000)
    fill(book, 3, -2000, 11_000)
    assert book.equity(math.nan) - 10 == pytest.approx(0.1 + 1 / 12 - 2 / 11, rel=1e-12)  # +0.00152


def test_the_least_equity_of_a_bar_is_that_of_its_extremes_with_what_was_held_then():
    rng = np.random.default_rng(2)
    for _ in range(200):
        book, cash, held = account(), 10_000.0, 0.0
        path = 100 + np.cumsum(rng.standard_normal(20))
        first = float(path[0])
        moments = [(-1, cash, held)]
        for ts, price in enumerate(path.tolist()):
            if rng.random() < 0.3:
                signed = int(rng.integers(-5, 6))
                fill(book, ts, signed, round(price, 6))
                cash, held = cash - signed * round(price, 6), held + signed
                moments.append((ts, cash, held))

        def then(at, moments=moments, path=path):
            _, money, contracts = [m for m in moments if m[0] <= at][-1]
            return money + contracts * path[at]

        low, high = int(np.argmin(path)), int(np.argmax(path))
        bar = Marks(float(path[-1]), first, float(path[low]), float(path[high]), low, high)
        marked = book.mark(20, float(path[-1]), bar)
        expected = min(then(low), then(high), cash + held * path[-1])
        assert marked.lowest == pytest.approx(expected)
        assert marked.equity == pytest.approx(cash + held * path[-1])
        assert marked.liquidation is None


def test_what_is_bought_within_a_bar_is_not_marked_at_an_extreme_before_it():
    for bought, lowest in ((4, 9_900.0), (5, 9_900.0), (6, 10_000.0)):
        book = account()
        fill(book, bought, 10, 100)
        assert book.mark(9, 100.0, marks(low=90, low_at=5)).lowest == lowest


def test_what_is_bought_while_a_bar_is_not_yet_heard_of_is_not_marked_at_an_extreme_before_it():
    book = account()
    fill(book, 12, 10, 100)  # the bar that ends at 10 is heard of at 13
    assert book.mark(10, 100.0, marks(low=90, low_at=5)).lowest == 10_000
    assert book.mark(20, 100.0, marks(low=90, low_at=11)).lowest == 10_000
    assert book.mark(30, 100.0, marks(low=90, low_at=21)).lowest == 9_900


def test_where_extremes_have_no_time_only_what_was_held_throughout_is_marked_at_them():
    book = account(untimed=True)
    fill(book, 1, 10, 100)
    assert book.mark(10, 100.0, marks(low=80, low_at=9)).lowest == 10_000  # newer than the bar
    fill(book, 11, 5, 100)
    assert book.mark(20, 100.0, marks(low=80, low_at=19)).lowest == 10_000 - 10 * 20
    fill(book, 21, -9, 95)  # a stop: six of fifteen go on
    assert book.mark(30, 96.0, marks(low=80, close=96.0, low_at=29)).lowest == 10_000 - 9 * 5 - 6 * 20
    fill(book, 31, -12, 96)  # turned round
    assert book.mark(40, 96.0, marks(low=80, close=96.0, high=120, low_at=39)).lowest == 10_000 - 45 - 24
    assert float(book.position) == -6


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("side", [1, -1])
def test_the_level_is_where_equity_is_the_maintenance_margin(inverse, side):
    spec, q = (INVERSE, 12_000) if inverse else (LINEAR, 1000)
    book = account(spec, "10" if inverse else "10000", maintenance=0.025, taker_fee=Decimal("0.0005"))
    fee = fill(book, 1, side * q, 100)
    bar = marks(low=60.0, low_at=3) if side > 0 else marks(high=160.0, high_at=3)
    book.mark(2, 100.0, FAR)  # the position is held from the bar before
    marked = book.mark(9, 100.0, bar)
    ended = marked.liquidation
    start = (10 if inverse else 10_000) + fee
    gained = side * q * (1 / 100 - 1 / ended.level) if inverse else side * q * (ended.level - 100)
    notional = q / ended.level if inverse else q * ended.level
    assert start + gained == pytest.approx(0.025 * notional, rel=1e-12)
    assert ended.price == ended.level
    assert ended.mark == (60 if side > 0 else 160)
    assert ended.at == 3
    assert ended.charge == pytest.approx(-0.0005 * notional)
    assert marked.equity == marked.lowest == pytest.approx((0.025 - 0.0005) * notional)
    book.liquidate(ended)
    assert book.equity(100.0) == pytest.approx(marked.equity, rel=1e-12)
    assert book.position == 0


def test_it_is_booked_no_better_than_the_marks_of_the_bar():
    book = account(maintenance=0.025)
    fill(book, 1, 1000, 100)
    book.mark(2, 100.0, FAR)
    ended = book.mark(9, 70.0, marks(low=60, first=75, close=70, high=76, low_at=3)).liquidation
    assert ended.price == 75  # the gap of the first mark over the level, 92.3
    book = account(maintenance=0.025)
    fill(book, 4, 1000, 100)  # in the bar, whose first mark came before it
    ended = book.mark(9, 95.0, marks(low=60, first=75, close=95, high=100, low_at=6)).liquidation
    assert ended.price == pytest.approx(90_000 / 975)


def test_what_was_earned_after_the_end_is_taken_back():
    book = account(maintenance=0.025)
    fill(book, 1, 1000, 100)
    book.mark(2, 100.0, FAR)
    fill(book, 7, -600, 120)  # after the wick at 3
    ended = book.mark(9, 120.0, marks(low=90, high=120, close=120, low_at=3, high_at=7)).liquidation
    book.liquidate(ended)
    assert book.equity(120.0) == pytest.approx(0.025 * 1000 * 90_000 / 975)


def test_an_account_that_owes_nothing_is_never_liquidated():
    # One contract's worth of its own coin, sold short: worth the same dollars at any price.
    book = account(INVERSE, "1", maintenance=0.5)
    fill(book, 1, -100, 100)
    for price in (1.0, 100.0, 1e6):
        assert book.mark(5, price, Marks(price, price, price, price, 4, 4)).liquidation is None
    book = account(maintenance=0.5)
    fill(book, 1, 100, 100)
    assert book.mark(5, 1e-9, Marks(1e-9, 1e-9, 1e-9, 1e-9, 4, 4)).liquidation is None


def test_without_a_price_the_last_one_holds():
    book = account(maintenance=0.025)
    fill(book, 1, 1000, 100)
    assert book.mark(2, 99.0, marks(low=99, close=99, first=99)).equity == 9_000
    assert book.mark(3, math.nan, Marks(*[math.nan] * 4, 0, 0)) == (9_000, 9_000, None)
    # Trades that others go on making show what it is worth.
    assert book.mark(9, math.nan, Marks(60.0, 98.0, 60.0, 98.0, 8, 7)).liquidation is not None


@pytest.mark.parametrize("spec", [LINEAR, INVERSE])
@given(seed=st.integers(0, 2**32 - 1), closes=st.sets(st.integers(1, 59), max_size=12))
@settings(max_examples=25, deadline=None)
def test_wherever_bars_are_cut_the_books_are_the_same(spec, seed, closes):
    rng = np.random.default_rng(seed)
    prices = np.round(rng.uniform(90, 110, 60), 1).tolist()
    events = [(int(rng.integers(-5, 6)), bool(rng.random() < 0.5)) for _ in prices]

    def run(closes):
        book = account(spec, maker_fee=Decimal("-0.0001"), taker_fee=Decimal("0.0005"))
        for ts, (price, (signed, maker)) in enumerate(zip(prices, events, strict=True)):
            if ts in closes:
                book.mark(ts, prices[ts - 1], marks(90.0, 110.0, prices[ts - 1], low_at=ts - 1, high_at=ts))
            if signed:
                fill(book, ts, signed, price, maker=maker)
            else:
                book.settle(ts, Decimal("0.01"), Decimal("0.01"))
        marked = book.mark(60, prices[-1], marks(prices[-1], prices[-1], prices[-1], low_at=60, high_at=60))
        return book.cash, book.position, book.bookings, marked.equity, book.equity(100.0)

    assert run(closes) == run(set())
