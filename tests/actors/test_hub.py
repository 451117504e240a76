"""The feature hub, handed raw data as Nautilus hands it, against the kernel over the same events at once."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nautilus_trader.model import (
    AggressorSide,
    BookAction,
    BookOrder,
    InstrumentId,
    OrderBookDelta,
    OrderBookDeltas,
    OrderSide,
    Price,
    Quantity,
    QuoteTick,
    TradeId,
    TradeTick,
)

from actors.guard import RunGuard
from actors.hub import FeatureHub, HubConfig, HubStream
from features.bars import ClockBars
from features.causal import copy_state
from features.events import EVENT, LAST, EventKind, sort_events
from features.kernel import FeatureKernel, StreamSpec
from features.messages import BarState, SeriesValue
from tests.actors.idle import idle

S = 10**9
T0 = 1_700_000_000 * S
GRACE = S // 10
PERP, SPOT = InstrumentId.from_str("AUSDT-PERP.SIM"), InstrumentId.from_str("AUSDT.SIM")
FEATURES = (
    "log_return_1",
    "trade_count_1",
    "signed_volume_1",
    "spread",
    "book_imbalance_5",
    "basis@spot",
    "series_value@oi",
)


class Echo:
    """A stage that says the same of every bar."""

    def __init__(self, row: list[float]) -> None:
        self._row = np.array(row)

    def step(self, ts: int, row: np.ndarray) -> np.ndarray:
        return self._row

    def save(self) -> dict[str, np.ndarray]:
        return {}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        pass


class Hub(FeatureHub):
    """A hub without a node: keeps what it would publish."""

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        self.published: list[BarState] = []

    def publish_message(self, topic: str, message: Any) -> None:
        assert topic == "bar"
        self.published.append(message)

    def close(self, t1: int) -> BarState:
        """Fire the timer of the bar that ends at ``t1``."""
        self._fire(SimpleNamespace(ts_event=t1 + GRACE))
        return self.published[-1]


def _kernel() -> FeatureKernel:
    feeds = frozenset({"book", "depth", "trades", "ohlcv"})
    spot = StreamSpec("spot", 0.1, frozenset({"book"}))
    return FeatureKernel(FEATURES, [StreamSpec("perp", 0.1, feeds), spot], ("oi",))


@pytest.fixture
def hub() -> Hub:
    streams = (
        HubStream(PERP, "deltas", True, False, False, False),
        HubStream(SPOT, "quotes", False, False, False, False),
    )
    guard = RunGuard()
    made = Hub(
        HubConfig(
            **idle(guard),
            kernel=_kernel(),
            streams=streams,
            bars=ClockBars(),
            stages={"regime": Echo([0.2, 0.7, 0.1, 1.0]), "volatility": Echo([0.01, 0.001, 1.0])},
        )
    )
    made.guard = guard  # type: ignore[attr-defined]
    return made


def _trade(
    ts: int, price: float = 100.0, size: float = 1.0, side: AggressorSide = AggressorSide.BUY
) -> TradeTick:
    return TradeTick(PERP, Price(price, 1), Quantity(size, 3), side, TradeId(str(ts)), ts - 5, ts)


def _quote(ts: int, bid: float, ask: float) -> QuoteTick:
    return QuoteTick(SPOT, Price(bid, 1), Price(ask, 1), Quantity(1.0, 3), Quantity(2.0, 3), ts, ts)


def _deltas(ts: int, levels: list[tuple[BookAction, OrderSide, float, float]]) -> OrderBookDeltas:
    rows = [
        OrderBookDelta(
            PERP,
            action,
            BookOrder(side, Price(price, 1), Quantity(size, 3), 0),
            128 if i == len(levels) - 1 else 0,
            i,
            ts,
            ts,
        )
        for i, (action, side, price, size) in enumerate(levels)
    ]
    return OrderBookDeltas(PERP, rows)


def _feed(hub: Hub, seconds: int) -> np.ndarray:
    """Random data of some seconds, in order of time, bars closed as the timer would; the same as events."""
    rng = np.random.default_rng(2)
    events: list[tuple[Any, ...]] = []
    moments = np.sort(rng.integers(0, seconds * 1000, 40 * seconds)) * 1_000_000 + T0  # in ms: ties
    closes = iter(range(T0 + S, T0 + (seconds + 1) * S, S))
    close = next(closes)
    for ts in moments.tolist():
        while ts >= close + GRACE:
            hub.close(close)
            close = next(closes)
        kind = rng.integers(0, 10)
        price, size = round(100 + float(rng.integers(-20, 20)) / 10, 1), float(rng.integers(0, 9)) / 8
        if kind < 6:
            side, price = (
                (OrderSide.BUY, price - 2.5) if rng.random() < 0.5 else (OrderSide.SELL, price + 2.5)
            )
            action = BookAction.DELETE if size == 0 else BookAction.UPDATE
            clear = rng.random() < 0.02
            if clear:
                empty = (BookAction.CLEAR, OrderSide.NO_ORDER_SIDE, 0.0, 0.0)
                hub.on_book_deltas(_deltas(ts, [empty, (BookAction.ADD, side, price, 1.0)]))
                events.append((ts, EventKind.CLEAR, 0, 0, 0.0, 0.0))
                size = 1.0
            else:
                hub.on_book_deltas(_deltas(ts, [(action, side, price, size)]))
            kind = EventKind.BID if side is OrderSide.BUY else EventKind.ASK
            events.append((ts, kind, 0, LAST, price, size))
        elif kind < 8:
            aggressor = (AggressorSide.BUY, AggressorSide.SELL, AggressorSide.NO_AGGRESSOR)[
                int(rng.integers(0, 3))
            ]
            hub.on_trade(_trade(ts, price, size + 0.125, aggressor))
            told = {
                AggressorSide.BUY: EventKind.TRADE_BUY,
                AggressorSide.SELL: EventKind.TRADE_SELL,
                AggressorSide.NO_AGGRESSOR: EventKind.TRADE,
            }[aggressor]
            events.append((ts, told, 0, 0, price, size + 0.125))
        elif kind < 9:
            hub.on_quote(_quote(ts, price, price + 0.3))
            events.append((ts, EventKind.QUOTE_BID, 1, 0, price, 1.0))
            events.append((ts, EventKind.QUOTE_ASK, 1, LAST, round(price + 0.3, 1), 2.0))
        else:
            hub._on_series(SeriesValue("oi", ts, size))
            events.append((ts, EventKind.SERIES, 0, 0, size, 0.0))
    hub.close(close)
    return np.array(events, EVENT)


def test_bar_by_bar_equals_one_batch(hub: Hub) -> None:
    events = _feed(hub, 60)
    assert hub.late == 0
    merged = ClockBars().closes().merge(sort_events(events), T0, T0 + 60 * S)
    table, quotes = _kernel().run(merged)
    assert [bar.ts for bar in hub.published] == table.ts.tolist()
    np.testing.assert_array_equal([bar.features for bar in hub.published], table.values)
    np.testing.assert_array_equal(
        [(bar.price, bar.bid, bar.ask, bar.low, bar.high) for bar in hub.published], quotes
    )
    assert np.isfinite(table.values).mean() > 0.8  # it was not all unknown
    assert {bar.regime for bar in hub.published} == {(1, (0.2, 0.7, 0.1))}
    assert {bar.volatility for bar in hub.published} == {(0.01, 0.001, True)}
    assert {bar.risk.permit for bar in hub.published} == {"halted"}


def test_an_event_before_its_bars_timer_waits_for_the_next_bar(hub: Hub) -> None:
    hub.close(T0)
    hub.on_trade(_trade(T0 + S - 1))
    hub.on_trade(_trade(T0 + S))  # the next bar's, though the timer comes 100 ms later
    hub.on_trade(_trade(T0 + S + GRACE - 1))
    counts = [hub.close(T0 + i * S).features[FEATURES.index("trade_count_1")] for i in (1, 2, 3)]
    assert counts == [1, 2, 0]
    assert hub.late == 0


def test_an_event_within_the_grace_still_finds_its_bar(hub: Hub) -> None:
    hub.close(T0)
    hub.on_trade(_trade(T0 + S))
    hub.on_trade(_trade(T0 + S - 1))  # handed over late, but before the timer
    counts = [hub.close(T0 + i * S).features[FEATURES.index("trade_count_1")] for i in (1, 2)]
    assert counts == [1, 1]
    assert hub.late == 0


def test_an_event_after_its_bar_was_closed_goes_into_the_next_and_is_counted(hub: Hub) -> None:
    hub.close(T0 + S)
    hub.on_trade(_trade(T0 + S - 1))
    assert hub.close(T0 + 2 * S).features[FEATURES.index("trade_count_1")] == 1
    assert hub.late == 1


def test_bars_close_without_events(hub: Hub) -> None:
    first = hub.close(T0 + S)
    assert first.ts == T0 + S
    assert np.isnan(first.price)
    hub.on_trade(_trade(T0 + S + 1, price=101.5))
    levels = [(BookAction.ADD, OrderSide.BUY, 101.0, 1.0), (BookAction.ADD, OrderSide.SELL, 102.0, 1.0)]
    hub.on_book_deltas(_deltas(T0 + S + 2, levels))
    hub.close(T0 + 2 * S)
    for i in (3, 4):
        quiet = hub.close(T0 + i * S)
        assert (quiet.price, quiet.bid, quiet.ask) == (101.5, 101.0, 102.0)
        assert quiet.features[FEATURES.index("trade_count_1")] == 0
        assert quiet.features[FEATURES.index("log_return_1")] == 0


def test_a_saved_hub_goes_on_as_if_never_stopped(hub: Hub) -> None:
    hub.on_trade(_trade(T0 + 1, price=100.0))
    hub.close(T0 + S)
    saved = copy_state(hub.memory)
    again = Hub(hub._c)
    again.continue_from(saved)
    for one in (hub, again):
        one.on_trade(_trade(T0 + S + 1, price=103.0))
        one.close(T0 + 2 * S)
    np.testing.assert_array_equal(again.published[-1].features, hub.published[-1].features)
    assert again.published[-1].features[0] == pytest.approx(np.log(1.03))


def test_a_failing_handler_is_recorded_and_stops_the_run(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(Hub, "shutdown_system", lambda self, reason: stopped.append(reason))
    hub.on_trade(SimpleNamespace(instrument_id=PERP))  # nothing of a trade about it
    hub.on_quote(SimpleNamespace(instrument_id=SPOT))
    assert len(hub.guard.failures) == 2  # type: ignore[attr-defined]
    assert len(stopped) == 1
    assert "AttributeError" in stopped[0]
