"""The feature hub, handed raw data as Nautilus hands it, against the kernel over the same events at once."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nautilus_trader.model import (
    AggressorSide,
    Bar,
    BarType,
    BookAction,
    BookOrder,
    BookType,
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
from actors.records import delta_reader
from core.contract import Contract
from core.events import EVENT, LAST, EventKind, sort_events
from core.messages import BarState, SeriesValue
from engine.sessions.live_state import SessionState
from features.bars import BarSpec, ClockBars, DollarBars, ExternalBars, VolumeBars
from features.kernel import FeatureKernel, StreamSpec
from tests.actors.idle import idle
from tests.strategies.tiny_market import START, linear_perpetual
from tests.tiny_engine import tiny_engine

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
    "zscore(average(signed_volume_1, 3), 5)",
    "rank(basis@spot, 8)",
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


def _deltas(
    ts: int, levels: list[tuple[BookAction, OrderSide, float, float]], iid: InstrumentId = PERP
) -> OrderBookDeltas:
    rows = [
        OrderBookDelta(
            iid,
            action,
            BookOrder(side, Price(price, 1), Quantity(size, 3), 0),
            128 if i == len(levels) - 1 else 0,
            i,
            ts,
            ts,
        )
        for i, (action, side, price, size) in enumerate(levels)
    ]
    return OrderBookDeltas(iid, rows)


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
        [(bar.price, bar.bid, bar.ask, bar.low, bar.high) for bar in hub.published],
        quotes[:, [0, 1, 2, 5, 6]],
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


@pytest.mark.parametrize("in_order", [True, False])
def test_an_event_is_late_if_it_is_before_the_last_close_and_not_at_it(hub: Hub, in_order: bool) -> None:
    hub.close(T0 + S)
    trades = [_trade(T0 + S - 1), _trade(T0 + S), _trade(T0 + S + 1)]
    for trade in trades if in_order else reversed(trades):
        hub.on_trade(trade)
    assert hub.close(T0 + 2 * S).features[FEATURES.index("trade_count_1")] == 3
    assert hub.late == 1


def test_a_book_that_is_only_cleared_is_empty(hub: Hub) -> None:
    levels = [(BookAction.ADD, OrderSide.BUY, 101.0, 1.0), (BookAction.ADD, OrderSide.SELL, 102.0, 1.0)]
    hub.on_book_deltas(_deltas(T0, levels))
    hub.on_book_deltas(_deltas(T0 + S, [(BookAction.CLEAR, OrderSide.NO_ORDER_SIDE, 0.0, 0.0)]))
    before, after = hub.close(T0 + S), hub.close(T0 + 2 * S)
    assert (before.bid, before.ask) == (101.0, 102.0)
    assert np.isnan([after.bid, after.ask]).all()


def test_only_the_last_row_of_an_update_ends_it() -> None:
    # A snapshot in one update: ended at its clear already, it would show an empty book that never was.
    empty = (BookAction.CLEAR, OrderSide.NO_ORDER_SIDE, 0.0, 0.0)
    levels = [
        (BookAction.ADD, OrderSide.BUY, 99.0, 2.0),
        (BookAction.DELETE, OrderSide.SELL, 102.0, 0.0),
        (BookAction.ADD, OrderSide.SELL, 101.0, 3.0),
        (BookAction.DELETE, OrderSide.BUY, 98.0, 0.0),
        (BookAction.ADD, OrderSide.SELL, 103.0, 4.0),
    ]
    told = [
        (EventKind.CLEAR, 0.0, 0.0),
        (EventKind.BID, 99.0, 2.0),
        (EventKind.ASK, 102.0, 0.0),
        (EventKind.ASK, 101.0, 3.0),
        (EventKind.BID, 98.0, 0.0),
        (EventKind.ASK, 103.0, 4.0),
    ]
    for n in range(1, len(told) + 1):  # each kind of row comes to be the last
        records: list[bytes] = []
        delta_reader(records.append, 1, pytest.fail)(_deltas(T0, [empty, *levels][:n]))
        expected = [
            (T0, kind, 1, LAST if i == n - 1 else 0, price, size)
            for i, (kind, price, size) in enumerate(told[:n])
        ]
        np.testing.assert_array_equal(np.frombuffer(b"".join(records), EVENT), np.array(expected, EVENT))


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
    bid, ask = OrderSide.BUY, OrderSide.SELL
    hub.on_book_deltas(_deltas(T0 + 1, [(BookAction.ADD, bid, 99.5, 1.0), (BookAction.ADD, ask, 100.5, 1.0)]))
    hub.close(T0 + S)
    again = Hub(hub._c)
    again.load(copy.deepcopy(hub.save()))
    for one in (hub, again):
        moved = [(BookAction.DELETE, ask, 100.5, 0.0), (BookAction.ADD, ask, 106.5, 1.0)]
        one.on_book_deltas(_deltas(T0 + S + 1, moved))
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


# -- on the clock of a real backtest engine ------------------------------------------------------------------


def _play(hub: Hub, ts: int, seconds: int) -> list[BarState]:
    """Bars that the hub publishes from ``START``, with a book of 90 and 91 from ``ts`` on."""
    perpetual = linear_perpetual()
    levels = [(BookAction.ADD, OrderSide.BUY, 90.0, 1.0), (BookAction.ADD, OrderSide.SELL, 91.0, 1.0)]
    with tiny_engine(perpetual, book_type=BookType.L2_MBP) as engine:
        engine.add_data([_deltas(ts, levels, perpetual.id)])
        engine.add_strategy(hub)
        engine.run(start=START, end=START + seconds * S + GRACE)
    assert hub._c.guard.failures == []
    return hub.published


def _engine_hub(kernel: FeatureKernel, **series: tuple[np.ndarray, np.ndarray]) -> Hub:
    """A hub of the one instrument that the engine has."""
    return Hub(
        HubConfig(
            **idle(RunGuard()),
            kernel=kernel,
            streams=(HubStream(linear_perpetual().id, "deltas", True, False, False, False),),
            bars=ClockBars(),
            stages={"regime": Echo([0.2, 0.7, 0.1, 1.0]), "volatility": Echo([0.01, 0.001, 1.0])},
            series=series,
        )
    )


def _market(seconds: int, bars: BarSpec) -> list[Any]:
    """Quotes and trades, or external bars, of some seconds from ``START``."""
    rng = np.random.default_rng(3)
    perpetual = linear_perpetual().id
    size = Quantity(1.0, 3)
    if isinstance(bars, ExternalBars):
        prices = [[Price(100 + j, 1) for j in rng.permutation([0, 3, -3, 1])] for _ in range(seconds)]
        return [
            Bar(_SECONDS, p[0], Price(103, 1), Price(97, 1), p[3], size, ts, ts)
            for ts, p in zip(range(START + S, START + (seconds + 1) * S, S), prices, strict=True)
        ]
    data: list[Any] = []
    for i, ts in enumerate(np.unique(rng.integers(0, seconds * S, 12 * seconds)).tolist()):
        price, ts = 100 + 0.1 * float(rng.integers(-9, 9)), START + ts
        if rng.random() < 0.4:
            bid, ask = Price(price, 1), Price(price + 0.2, 1)
            data.append(QuoteTick(perpetual, bid, ask, size, size, ts, ts))
        else:
            side = (AggressorSide.BUY, AggressorSide.SELL)[i % 2]
            traded = Quantity(round(0.01 + float(rng.exponential(0.3)), 3), 3)
            data.append(TradeTick(perpetual, Price(price, 1), traded, side, TradeId(str(i)), ts, ts))
    return data


_SECONDS = BarType.from_str("BTCUSDT-PERP.SIM-1-SECOND-LAST-EXTERNAL")


def _bar_hub(bars: BarSpec) -> Hub:
    external = isinstance(bars, ExternalBars)
    feeds = frozenset(("ohlcv",)) if external else frozenset(("book", "trades", "ohlcv"))
    names = ("log_return_1", "log_volume_2", "high_low_3", "volume_zscore_4")
    names = names if external else (*names, "spread", "trade_count_1", "signed_volume_2")
    book, trades = ("none", False) if external else ("quotes", True)
    stream = HubStream(
        linear_perpetual().id, book, trades, False, False, False, _SECONDS if external else None
    )
    return Hub(
        HubConfig(
            **idle(RunGuard()),
            kernel=FeatureKernel(names, [StreamSpec("perp", 0.1, feeds)]),
            streams=(stream,),
            bars=bars,
            stages={"regime": Echo([0.2, 0.7, 0.1, 1.0]), "volatility": Echo([0.01, 0.001, 1.0])},
        )
    )


def _listen(hub: Hub, data: list[Any], start: int, end: int) -> list[tuple[Any, ...]]:
    """What the hub says of the bars it closes, while it listens from ``start`` to ``end``, ns."""
    with tiny_engine(linear_perpetual()) as engine:
        if heard := [item for item in data if start <= item.ts_init < end]:
            engine.add_data(heard)
        engine.add_strategy(hub)
        engine.run(start=start, end=end - 1)
    assert hub._c.guard.failures == []
    return [(bar.ts, *bar.features, bar.price, bar.bid, bar.ask, bar.low, bar.high) for bar in hub.published]


@pytest.mark.parametrize(
    "bars",
    [ClockBars(), VolumeBars(size=2.5), DollarBars(size=300.0), ExternalBars(interval="1s")],
    ids=lambda bars: bars.kind,
)
def test_a_hub_stopped_at_any_moment_and_resumed_closes_the_bars_of_one_never_stopped(
    bars: BarSpec, tmp_path: Path
) -> None:
    data, end = _market(14, bars), START + 13 * S
    whole = _listen(_bar_hub(bars), data, START, end)
    assert len(whole) >= 8
    rng = np.random.default_rng(5)
    first, *_, last = (row[0] for row in whole)
    cuts = {  # before the first bar, about a close and the end of its grace, and anywhere
        first - 2, first, first + 1, first + GRACE // 2, first + GRACE, first + GRACE + 1, last + 1,
        *(START + rng.integers(S, 12 * S, 4)).tolist(),
    }  # fmt: skip
    for cut in sorted(cuts):
        stopped = _bar_hub(bars)
        before = _listen(stopped, data, START, cut)
        path = tmp_path / "state.npz"
        SessionState({"governor": {}, **stopped.save()}, {}, max(1, stopped.heard), "", "").save(path)
        kept = SessionState.load(path)
        assert kept is not None
        resumed = _bar_hub(bars)
        resumed.load(kept.parts)
        after = _listen(resumed, data, cut, end)
        np.testing.assert_array_equal(np.array(before + after), np.array(whole), err_msg=str(cut - START))
        assert resumed.late == 0


def test_a_state_of_other_bars_is_refused() -> None:
    counting = _bar_hub(VolumeBars(size=2.5)).save()
    with pytest.raises(ValueError, match="the state of bars is that of another config"):
        _bar_hub(ClockBars()).load(counting)
    torn = {"bars": {**counting["bars"], "events": np.zeros(5, np.uint8)}}
    with pytest.raises(ValueError, match="not events and closes"):
        _bar_hub(VolumeBars(size=2.5)).load(counting | torn)


def test_what_a_hub_has_heard(hub: Hub) -> None:
    assert hub.heard == 0
    hub.on_trade(_trade(T0 + 5))
    assert hub.heard == T0 + 5
    hub.close(T0 + S)
    assert hub.heard == T0 + S


_DEPTH = StreamSpec("perp", 0.1, frozenset({"book", "depth", "trades", "ohlcv"}))


def test_a_resumed_hub_starts_with_empty_books() -> None:
    kernel = FeatureKernel(["log_return_2"], [_DEPTH])
    state = kernel.initial_state()
    ago = START - 5 * S
    rows = [
        (ago, EventKind.BID, 0, 0, 101.0, 1.0),
        (ago, EventKind.ASK, 0, LAST, 102.0, 1.0),
        (ago + S, EventKind.CLOSE, 0, 0, 0.0, 0.0),
    ]
    kernel.run(np.array(rows, EVENT), state)
    hub = _engine_hub(kernel)
    hub.load({"kernel": state, "bars": {"events": np.empty(0, np.uint8), "due": np.empty(0, np.int64)}})
    open_then, silent, told = _play(hub, START + S + 1, 2)
    assert (open_then.ts, open_then.price) == (ago + 2 * S, 101.5)
    assert np.isnan([silent.bid, silent.ask]).all()
    assert (told.bid, told.ask) == (90.0, 91.0)
    assert told.features[0] == pytest.approx(np.log(90.5 / 101.5))  # the features' memory is kept
    assert hub.late == 0


@pytest.mark.parametrize(
    ("contract", "bars"),
    [
        (Contract(100.0, True), DollarBars(size=1_000)),  # a contract is 100 USD whatever the price
        (Contract(0.01, False), DollarBars(size=9)),  # 0.01 x 90
        (Contract(0.01, False), VolumeBars(size=0.1)),
    ],
)
def test_event_bars_count_what_a_contract_is_worth(contract: Contract, bars: VolumeBars | DollarBars) -> None:
    perpetual = linear_perpetual()
    stream = StreamSpec("perp", 0.1, frozenset({"trades", "ohlcv"}), contract)
    hub = Hub(
        HubConfig(
            **idle(RunGuard()),
            kernel=FeatureKernel(["trade_count_1"], [stream]),
            streams=(HubStream(perpetual.id, "none", True, False, False, False),),
            bars=bars,
            stages={"regime": Echo([0.2, 0.7, 0.1, 1.0]), "volatility": Echo([0.01, 0.001, 1.0])},
        )
    )
    price, size = Price(90.0, 1), Quantity(1.0, 3)
    trades = [
        TradeTick(perpetual.id, price, size, AggressorSide.BUY, TradeId(str(i)), START + i * S, START + i * S)
        for i in range(35)
    ]
    with tiny_engine(perpetual) as engine:
        engine.add_data(trades)
        engine.add_strategy(hub)
        engine.run(start=START, end=START + 40 * S)
    assert hub._c.guard.failures == []
    assert [bar.ts for bar in hub.published] == [START + k * S + 1 for k in (9, 19, 29)]


def test_values_of_a_series_from_before_the_start_are_passed_over() -> None:
    kernel = FeatureKernel(["series_value@oi", "series_value@mood"], [_DEPTH], ("oi", "mood"))
    oi = np.array([START - S, START - 1, START, START + S]), np.array([1.0, 2.0, 3.0, 4.0])
    mood = np.array([START - 1, START + S + 1, START + 2 * S - 1]), np.array([0.1, 0.2, 0.3])
    hub = _engine_hub(kernel, oi=oi, mood=mood)
    bars = _play(hub, START + 1, 3)
    np.testing.assert_array_equal(
        [bar.features for bar in bars],
        [[3.0, np.nan], [4.0, 0.3], [4.0, 0.3]],  # what comes at a close belongs to the bar after it
    )
    assert hub.late == 0
