"""The feature hub: the one consumer of every raw stream, in backtest and live.

Per tick it reads the fields and appends one packed record; per bar it hands the records to the compiled
kernel and publishes a ``FeatureBar``. Nautilus runs handlers of equal priority in an order that differs
between processes, so nothing else may subscribe to raw data: everything downstream listens to the hub, at
distinct priorities.
"""

import dataclasses
import struct
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from nautilus_trader.common import DataActor
from nautilus_trader.model import (
    ActorId,
    AggressorSide,
    BarType,
    BookAction,
    BookType,
    InstrumentId,
    OrderSide,
)

from actors.guard import RunGuard
from features.bars import BarSpec, DollarBars, VolumeBars
from features.causal import State
from features.events import EVENT, LAST, EventKind, sort_events
from features.kernel import FeatureKernel
from features.messages import FeatureBar, SeriesValue

_pack = struct.Struct("=qhhidd").pack  # the layout of EVENT
assert struct.calcsize("=qhhidd") == EVENT.itemsize

_TRADE_BUY, _TRADE_SELL, _TRADE = int(EventKind.TRADE_BUY), int(EventKind.TRADE_SELL), int(EventKind.TRADE)
_BID, _ASK, _CLEAR = int(EventKind.BID), int(EventKind.ASK), int(EventKind.CLEAR)
_QUOTE_BID, _QUOTE_ASK = int(EventKind.QUOTE_BID), int(EventKind.QUOTE_ASK)
_CLOSE, _SERIES = int(EventKind.CLOSE), int(EventKind.SERIES)
_MARK, _INDEX, _FUNDING = int(EventKind.MARK), int(EventKind.INDEX), int(EventKind.FUNDING)
_BUYER, _SELLER = AggressorSide.BUY, AggressorSide.SELL  # enum members are single objects: "is" is enough
_BUYS, _DELETES, _CLEARS = OrderSide.BUY, BookAction.DELETE, BookAction.CLEAR
_RAW = (
    "on_trade",
    "on_quote",
    "on_book_deltas",
    "on_mark_price",
    "on_index_price",
    "on_funding_rate",
    "on_bar",
)
_SELF_WATCHED = ("on_trade", "on_quote", "on_book_deltas")
_F_LAST = 128  # Nautilus: the last delta of an atomic book update


@dataclasses.dataclass(frozen=True)
class HubStream:
    """One instrument's subscriptions; its place in ``HubConfig.streams`` is its stream index."""

    instrument_id: InstrumentId
    book: str  # "deltas", "quotes" or "none"
    trades: bool
    mark: bool
    index: bool
    funding: bool
    bars: BarType | None = None


@dataclasses.dataclass(frozen=True)
class HubConfig:
    """What the hub needs; ``on_bar(ts)`` is told of each closed bar (progress), ``record`` of each data
    object before it is read.
    """

    actor_id: ActorId
    kernel: FeatureKernel
    streams: tuple[HubStream, ...]
    bars: BarSpec
    guard: RunGuard
    series: tuple[str, ...] = ()
    on_bar: Callable[[int], None] | None = None
    record: Callable[[Any], None] | None = None


class FeatureHub(DataActor):
    """Buffers raw events, closes bars by ``ts_init``, runs the kernel, publishes features.

    A bar that ends at ``t1`` holds the events with ``ts_init < t1``. It is closed ``grace`` after ``t1``,
    because live queues may hand over a timer before a late event; what came with ``ts_init >= t1`` waits for
    the next bar.

    Attributes
    ----------
    memory : State
        Of the kernel.
    started : int
        When the hub began to listen, ns.
    late : int
        Events that came after the bar they belong to was closed: each went into a later bar.
    """

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        self._c = config
        self.memory = config.kernel.initial_state()
        self.started = 0
        self.late = 0
        self._closed = 0
        self._resumed = False
        self._records: list[bytes] = []
        self._stream_of = {s.instrument_id: i for i, s in enumerate(config.streams)}
        self._only = 0 if len(config.streams) == 1 else None
        self._counter = config.bars.per_trade() if isinstance(config.bars, VolumeBars | DollarBars) else None
        self._fire = config.guard.watch(self, self._on_close_due)
        watch = config.guard.watch
        if self._counter is not None:
            self.on_trade = self._on_trade_counted  # type: ignore[method-assign, assignment]
        # Unwatched, an exception would end a backtest without a word. The three handlers that ticks go
        # through watch themselves, because one more call a tick is felt.
        for name in _RAW:
            handler = getattr(self, name)
            if config.record:
                setattr(self, name, watch(self, _recorded(config.record, handler)))
            elif name not in _SELF_WATCHED:
                setattr(self, name, watch(self, handler))

    def continue_from(self, state: State) -> None:
        """Go on from ``state``, saved a while ago: everything but the books, which the venue will send
        anew."""
        self.memory = state
        self._resumed = True

    # -- subscriptions ---------------------------------------------------------------------------------------

    def on_start(self) -> None:
        bars = self._c.bars
        now = self.started = self._closed = self.clock.timestamp_ns()
        for index, stream in enumerate(self._c.streams):
            if self._resumed and stream.book == "deltas":
                self._records.append(_pack(now, _CLEAR, index, LAST, 0.0, 0.0))
            self._subscribe(stream)
        if self._c.series:
            self.subscribe_topic("series", self._c.guard.watch(self, self._on_series))
        if bars.kind == "clock":
            first = now // bars.interval * bars.interval + bars.grace
            # A timer first fires one interval after its start: at the first close after now, plus the grace.
            self.clock.set_timer_ns("bars", bars.interval, start_time_ns=first, callback=self._fire)

    def on_stop(self) -> None:
        self.clock.cancel_timers()  # a live node goes on for a while after its actors have stopped

    def _subscribe(self, stream: HubStream) -> None:
        iid = stream.instrument_id
        if stream.book == "deltas":
            self.subscribe_book_deltas(iid, BookType.L2_MBP)
        elif stream.book == "quotes":
            self.subscribe_quotes(iid)
        if stream.trades:
            self.subscribe_trades(iid)
        if stream.mark:
            self.subscribe_mark_prices(iid)
        if stream.index:
            self.subscribe_index_prices(iid)
        if stream.funding:
            self.subscribe_funding_rates(iid)
        if stream.bars is not None:
            self.subscribe_bars(stream.bars)

    # -- raw data: read the fields, append one record --------------------------------------------------------

    def on_trade(self, trade: Any) -> None:
        try:
            stream = self._only
            if stream is None:
                stream = self._stream_of[trade.instrument_id]
            side = trade.aggressor_side
            kind = _TRADE_BUY if side is _BUYER else _TRADE_SELL if side is _SELLER else _TRADE
            self._records.append(
                _pack(trade.ts_init, kind, stream, 0, trade.price.as_double(), trade.size.as_double())
            )
        except Exception:
            self._c.guard.fail(self, traceback.format_exc())

    def _on_trade_counted(self, trade: Any) -> None:
        FeatureHub.on_trade(self, trade)
        try:
            if self._stream_of[trade.instrument_id] == 0:
                assert self._counter is not None
                close = self._counter.update(trade.ts_init, trade.price.as_double(), trade.size.as_double())
                if close is not None:
                    due = close + self._c.bars.grace
                    self.clock.set_time_alert_ns(f"bar-{close}", due, callback=self._fire)
        except Exception:
            self._c.guard.fail(self, traceback.format_exc())

    def on_quote(self, quote: Any) -> None:
        try:
            stream = self._only
            if stream is None:
                stream = self._stream_of[quote.instrument_id]
            ts = quote.ts_init
            append = self._records.append
            append(_pack(ts, _QUOTE_BID, stream, 0, quote.bid_price.as_double(), quote.bid_size.as_double()))
            append(
                _pack(ts, _QUOTE_ASK, stream, LAST, quote.ask_price.as_double(), quote.ask_size.as_double())
            )
        except Exception:
            self._c.guard.fail(self, traceback.format_exc())

    def on_book_deltas(self, deltas: Any) -> None:
        try:
            stream = self._only
            if stream is None:
                stream = self._stream_of[deltas.instrument_id]
            ts = deltas.ts_init
            append = self._records.append
            for delta in deltas.deltas:
                action = delta.action
                last = LAST if delta.flags & _F_LAST else 0
                if action is _CLEARS:
                    append(_pack(ts, _CLEAR, stream, last, 0.0, 0.0))
                    continue
                order = delta.order
                size = order.signed_size()  # one call for side and size, which are slow to ask for
                kind = _BID if size > 0.0 else _ASK if size < 0.0 else _BID if order.side is _BUYS else _ASK
                size = 0.0 if action is _DELETES else abs(size)
                append(_pack(ts, kind, stream, last, order.price.as_double(), size))
        except Exception:
            self._c.guard.fail(self, traceback.format_exc())

    def on_mark_price(self, mark: Any) -> None:
        self._slow(mark.ts_init, _MARK, self._stream_of[mark.instrument_id], mark.value.as_double())

    def on_index_price(self, index: Any) -> None:
        self._slow(index.ts_init, _INDEX, self._stream_of[index.instrument_id], index.value.as_double())

    def on_funding_rate(self, funding: Any) -> None:
        self._slow(funding.ts_init, _FUNDING, self._stream_of[funding.instrument_id], float(funding.rate))

    def _on_series(self, value: SeriesValue) -> None:
        self._slow(value.ts_init, _SERIES, self._c.series.index(value.name), value.value)

    def _slow(self, ts: int, kind: int, stream: int, value: float) -> None:
        self._records.append(_pack(ts, kind, stream, 0, value, 0.0))

    def on_bar(self, bar: Any) -> None:
        stream = self._stream_of[bar.bar_type.instrument_id]
        ts = bar.ts_init
        quarter = 0.25 * bar.volume.as_double()
        for price in (bar.open, bar.high, bar.low, bar.close):
            self._records.append(_pack(ts - 1, _TRADE, stream, 0, price.as_double(), quarter))
        if stream == 0 and self._c.bars.kind == "external":
            self.clock.set_time_alert_ns(f"bar-{ts}", ts + self._c.bars.grace, callback=self._fire)

    # -- bars ------------------------------------------------------------------------------------------------

    def _on_close_due(self, event: Any) -> None:
        self._close(event.ts_event - self._c.bars.grace)

    def _close(self, t1: int) -> None:
        """Close the bar that ends at ``t1``: compute its features and tell everyone."""
        records = self._records
        arrived = np.frombuffer(b"".join(records), EVENT)
        early = arrived["ts"] >= t1
        self._records = [records[i] for i in np.flatnonzero(early).tolist()]
        if self._records:
            arrived = arrived[~early]
        self.late += int(np.count_nonzero(arrived["ts"] < self._closed))
        self._closed = t1
        closing = np.empty(len(arrived) + 1, EVENT)
        closing[:-1] = sort_events(arrived)
        closing[-1] = (t1, _CLOSE, 0, 0, 0.0, 0.0)
        values, quote = self._c.kernel.step(self.memory, closing)
        bar = FeatureBar(t1, values, bool(np.isfinite(values).all()), *quote.tolist())
        self.publish_message("features", bar)
        if self._c.on_bar is not None:
            self._c.on_bar(t1)
        if self._c.guard.stop_requested:
            self.shutdown_system("stop requested")


def _recorded(record: Callable[[Any], None], handler: Callable[[Any], None]) -> Callable[[Any], None]:
    def both(data: Any) -> None:
        record(data)
        handler(data)

    return both
