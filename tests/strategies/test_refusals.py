"""Refusals: what they are counted by, and how long a desk waits after them."""

import json

import pytest

from strategies.desk.refusals import Backoff, short_reason, triggers_at_once


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("QUANTITY_BELOW_MINIMUM: effective=0.001, min=0.01", "QUANTITY_BELOW_MINIMUM"),
        ("RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"),
        ("No market for BTCUSDT-PERP.SIM", "No market for BTCUSDT-PERP.SIM"),
        ("Order O-20231114-221320-001-T-7 not found", "Order … not found"),
        (
            "POST_ONLY LIMIT BUY order limit px of 99.5 would have been a TAKER: bid=99.0, ask=99.4",
            "POST_ONLY LIMIT BUY order limit px of … would have been a TAKER",
        ),
        ("-2019: Margin is insufficient.", "-2019: Margin is insufficient."),
        ("", "no reason given"),
    ],
)
def test_a_reason_is_counted_without_what_differs_from_order_to_order(text, short):
    assert short_reason(text) == short


def test_a_stop_beyond_the_market_is_told_from_other_refusals():
    assert triggers_at_once("STOP_MARKET SELL order stop px of 98.1 was in the market: bid=97.0, ask=97.2")
    assert triggers_at_once("-2021: Order would immediately trigger.")
    assert not triggers_at_once("-2019: Margin is insufficient.")


def _tries(refuses, bars, most=64):
    backoff, tried = Backoff(most), []
    for bar in range(bars):
        backoff.bar()
        if backoff.waiting:
            continue
        tried.append(bar)
        backoff.refused("no") if refuses(bar) else backoff.accepted()
    return tried


def test_the_wait_doubles_up_to_its_bound():
    assert _tries(lambda bar: True, 32) == [0, 1, 3, 7, 15, 31]
    assert _tries(lambda bar: True, 20, most=4) == [0, 1, 3, 7, 11, 15, 19]


def test_what_is_accepted_ends_the_wait():
    assert _tries(lambda bar: bar != 3, 12) == [0, 1, 3, 4, 5, 7, 11]


def test_one_accepted_of_several_is_enough_in_whatever_order_the_answers_come():
    for answers in ((True, False), (False, True)):
        backoff = Backoff(64)
        for _ in range(3):
            for accepted in answers:
                backoff.accepted() if accepted else backoff.refused("no")
            backoff.bar()
        assert not backoff.waiting
        assert backoff.count == 0


def test_it_goes_on_from_what_it_saved():
    first = Backoff(64)
    for _ in range(2):
        first.refused("QUANTITY_BELOW_MINIMUM: effective=1, min=2")
        first.bar()
    first.refused("QUANTITY_BELOW_MINIMUM: effective=1, min=2")
    second = Backoff(64)
    second.load(json.loads(json.dumps(first.save())))
    waits = []
    for backoff in (first, second):
        backoff.bar()
        waits.append((backoff.count, backoff.left, backoff.reason))
    assert waits == [(3, 3, "QUANTITY_BELOW_MINIMUM")] * 2
