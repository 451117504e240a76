"""Commands sent where no price stands: in a real backtest engine, prices and times by hand."""

import pytest

from strategies.momentum import MomentumSettings
from strategies.policy import Cancel, Decision, Place
from strategies.sizing import SizingSettings
from tests.strategies.tiny_market import (
    GRACE,
    HALF_SPREAD,
    START,
    S,
    Says,
    linear_perpetual,
    play,
    quotes,
)

LATENCY = 5_000_000
FIXED = SizingSettings(risk_fraction=0.01, volatility_target=None, kelly_fraction=None)
MOMENTUM = MomentumSettings(sizing=FIXED, horizon=100)
PRICES = [100.0] * 6 + [90.0] * 4
HOLE = (START + 2 * S + S // 2, START + 6 * S + S // 2)  # the price falls to 90 while nobody looks


class Script:
    """A policy that does what a script says: bar number to intents."""

    def __init__(self, script):
        self.script, self.seen = script, []

    def decide(self, view):
        self.seen.append(view.orders)
        wanted = self.script.get(int(view.features[0]), ())
        return Decision("act", "script", tuple(wanted(view) if callable(wanted) else wanted))

    def stop_price(self, position, entry_price):
        return entry_price * (0.5 if position > 0 else 1.5)  # out of reach

    def stopped(self, ts):
        raise AssertionError("no price comes near the stop")

    def save(self):
        return {}

    def load(self, memory):
        pass


def run(script, holes=(HOLE,), until=None):
    instrument = linear_perpetual()
    data = quotes(instrument, PRICES)
    data = [
        event
        for event in data
        if not HOLE[0] < event.ts_init < HOLE[1] and (until is None or event.ts_init <= until)
    ]
    policy = Script(script)
    played = play(MOMENTUM, PRICES, lambda i: Says(), policy=policy, data=data, latency=LATENCY, holes=holes)
    assert not played.failures
    return played, policy


def close(bar):
    return START + (bar + 1) * S + GRACE


def fills(played):
    return [(f["ts"], f["side"], f["qty"], f["price"]) for f in played.fills]


BUY = (Place("entry", 1, 1.0),)


@pytest.mark.parametrize(
    ("holes", "at", "price"),
    [
        ((), close(3) + LATENCY, 100.0 + HALF_SPREAD),  # what the trader does not know of is met as it stands
        ((HOLE,), HOLE[1] + LATENCY, 90.0 + HALF_SPREAD),
        (((HOLE[0], HOLE[1]), (HOLE[1] + 1, close(7))), close(7) + LATENCY, 90.0 + HALF_SPREAD),
    ],
)
def test_a_market_order_waits_for_the_first_price_after_a_hole(holes, at, price):
    played, _ = run({3: BUY}, holes)
    assert fills(played) == [(at, 1, 1.0, pytest.approx(price))]
    order = played.orders[0]  # after it comes the stop
    waited = at - LATENCY - close(3)
    assert played.trader.outbox.held == ({str(order.client_order_id): waited} if waited else {})


def test_what_would_arrive_in_a_hole_waits_though_it_was_sent_before():
    hole = (close(1) + LATENCY - 1, HOLE[1])
    played, _ = run({1: BUY}, (hole,))
    assert fills(played) == [(HOLE[1] + LATENCY, 1, 1.0, pytest.approx(90.0 + HALF_SPREAD))]
    played, _ = run({1: BUY}, ((close(1) + LATENCY, HOLE[1]),))  # the last price comes as it arrives
    assert fills(played) == [(close(1) + LATENCY, 1, 1.0, pytest.approx(100.0 + HALF_SPREAD))]


def test_a_waiting_order_is_pending_and_commands_keep_their_order():
    def cancel(view):
        (order,) = view.orders
        assert order.pending
        return (Cancel(order.id),)

    rest = (Place.passive("quote", 1, 1.0, 80.0),)
    played, policy = run({3: rest, 4: cancel})
    names = [type(event).__name__ for event in played.orders[0].events()]
    assert names == ["OrderInitialized", "OrderSubmitted", "OrderAccepted", "OrderCanceled"]
    pending = [[order.pending for order in orders] for orders in policy.seen]
    assert pending[3:7] == [[], [True], [True], []]  # sent at 3, gone when the hole is over


def test_an_order_at_the_venue_is_cancelled_within_a_hole():
    # The bid of 95 is cancelled while nothing is heard; the first price after the hole would have filled it.
    rest = (Place.passive("quote", 1, 1.0, 95.0),)
    played, policy = run({1: rest, 4: lambda view: (Cancel(view.orders[0].id),)})
    assert not played.fills
    assert [type(event).__name__ for event in played.orders[0].events()][-1] == "OrderCanceled"
    assert policy.seen[6] == ()


def test_nothing_fills_after_the_last_price():
    end = (HOLE[0], 2**63 - 1)
    played, policy = run({1: BUY, 3: (Place("exit", -1, 1.0, reduce_only=True),)}, (end,), until=HOLE[0])
    assert fills(played) == [(close(1) + LATENCY, 1, 1.0, pytest.approx(100.0 + HALF_SPREAD))]
    assert played.net == 1.0
    (order,) = played.trader.outbox.unsent()
    assert order.status.name == "INITIALIZED"
    assert played.trader.outbox.held == {str(order.client_order_id): -1}
    assert [o.pending for o in policy.seen[-1] if o.role == "exit"] == [True]
