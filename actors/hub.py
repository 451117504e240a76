"""The feature hub: the one consumer of every raw stream, in backtest and live.

Per tick it reads the fields and appends one packed record; per bar it hands the records to the compiled
kernel, steps the stages and publishes a ``BarState``. Nautilus runs handlers
of equal priority in an order that differs between processes, so nothing else may subscribe to raw data:
everything downstream is called by the hub, in a fixed order.
"""

import dataclasses
import heapq
import sys
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from nautilus_trader.model import BarType, BookType, InstrumentId

from actors.conductor import Conductor, ConductorConfig
from actors.records import code, delta_reader, pack, quote_reader, trade_reader
from core.causal import State
from core.events import EVENT, LAST, EventKind, sort_events, split_at
from core.messages import SeriesValue
from features.bars import BarSpec, ClockBars, TradeCounter
from features.kernel import FeatureKernel


class Online(Protocol):
    """A stage with its running state (``engine.stages.OnlineStage``)."""

    def step(self, ts: int, row: np.ndarray) -> np.ndarray: ...
    def save(self) -> State: ...
    def load(self, arrays: State) -> None: ...


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubConfig(ConductorConfig):
    """What the hub needs.

    Parameters
    ----------
    kernel : FeatureKernel
    streams : tuple of HubStream
    bars : BarSpec
    stages : mapping of str to Online
        Every stage there is (see ``core.messages.STAGES``).
    series : mapping of str to (int64 array, float64 array)
        Recorded external series by name, ``ts_init`` (ascending, ns) and value.
    record : callable, optional
        Given each data object before it is read.
    """

    kernel: FeatureKernel
    streams: tuple[HubStream, ...]
    bars: BarSpec
    stages: Mapping[str, Online]
    series: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    record: Callable[[Any], None] | None = None


class FeatureHub(Conductor):
    """Buffers raw events, closes bars by ``ts_init``, runs the kernel and the stages, publishes the bar.

    A bar that ends at ``t1`` holds the events with ``ts_init < t1``. It is closed ``grace`` after ``t1``,
    because live queues may hand over a timer before a late event; what came with ``ts_init >= t1`` waits for
    the next bar.

    Attributes
    ----------
    memory : State
        Of the kernel.
    counted : State
        Of the rule that closes bars.
    stages : mapping of str to Online
    started : int
        When the hub began to listen, ns.
    late : int
        Events that came after the bar they belong to was closed: each went into a later bar.
    """

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        self._c = config
        self.memory = config.kernel.initial_state()
        self._closes = config.bars.closes(config.kernel.streams[0].contract)
        self.counted = self._closes.initial_state()
        self.stages = config.stages
        self.started = 0
        self.late = 0
        self._closed = 0
        self._interval = config.bars.interval if isinstance(config.bars, ClockBars) else 0
        self._due: list[int] = []  # closes still to be made: a heap
        self._resumed = False
        self._records: list[bytes] = []
        self._coming = _merged(config.series)
        self._next = next(self._coming, None)  # the value of a recorded series to be published next
        self._fire = config.guard.watch(self, self._on_close_due)
        for name, handler in self._handlers().items():
            if config.record:
                handler = config.guard.watch(self, _recorded(config.record, handler))
            setattr(self, name, handler)

    def save(self) -> dict[str, State]:
        """What another hub needs to go on: ``kernel``, and ``bars``, which is what was counted of the open
        bar, the events that came (``EVENT`` records, as bytes), and closes that wait for their grace."""
        events = np.frombuffer(b"".join(self._records), np.uint8)
        due = np.array(sorted(self._due), np.int64)
        return {"kernel": self.memory, "bars": {**self.counted, "events": events, "due": due}}

    @property
    def heard(self) -> int:
        """Until when this hub, or the one whose state it took over, has heard the market, ns; 0 if never."""
        events = np.frombuffer(b"".join(self._records), EVENT)
        told = events["ts"][events["kind"] != EventKind.CLEAR]  # of those, some are its own
        return max(0, int(self.memory["times"][0]), int(told.max(initial=0)))

    def load(self, parts: Mapping[str, State]) -> None:
        """Go on from what ``save`` gave a while ago; of order books, the venue will send them anew.

        Raises
        ------
        ValueError
            If it is not the state of such a hub.
        """
        kernel, bars = dict(parts.get("kernel", {})), dict(parts.get("bars", {}))
        events, due = bars.pop("events", _NOTHING), bars.pop("due", _NOTHING)
        for name, found, own in (("kernel", kernel, self.memory), ("bars", bars, self.counted)):
            if _shapes(found) != _shapes(own):
                raise ValueError(f"the state of {name} is that of another config or version")
        if events.dtype != np.uint8 or events.size % EVENT.itemsize or due.dtype != np.int64 or due.ndim != 1:
            raise ValueError("what is kept of the open bar are not events and closes")
        self.memory, self.counted = kernel, bars
        kept, size = events.tobytes(), EVENT.itemsize
        self._records += [kept[i : i + size] for i in range(0, len(kept), size)]
        self._due = due.tolist()
        self._resumed = True

    # -- subscriptions ---------------------------------------------------------------------------------------

    def on_start(self) -> None:
        super().on_start()
        c = self._c
        now = self.started = self._closed = self.clock.timestamp_ns()
        if self._resumed:
            self._go_on(now)
        for index, stream in enumerate(c.streams):
            self._subscribe(stream, traded=index == 0)
        while self._next is not None and self._next.ts_init < now:
            self._next = next(self._coming, None)
        if self._interval:
            first = now // self._interval * self._interval + c.bars.grace
            # A timer first fires one interval after its start: at the first close after now, plus the grace.
            self.clock.set_timer_ns("bars", self._interval, start_time_ns=first, callback=self._fire)

    def _go_on(self, now: int) -> None:
        """Have the bars made that were due or open when the last session stopped; empty its books.

        A clock bar that was open then is closed at its own end, with what came of it, so that the first bar
        of this session is not of both. In what followed nobody listened: no bars are made of it.
        """
        self._closed = max(0, int(self.memory["times"][0]))
        due, self._due = self._due, []
        if self._interval and not due:
            events = np.frombuffer(b"".join(self._records), EVENT)
            since = self._closed or int(events["ts"].min(initial=now))
            due = self._closes.find(events, since, min(now, since + self._interval)).tolist()
        for close in due:
            self._expect(close)
        for index, stream in enumerate(self._c.streams):
            if stream.book == "deltas":
                self._records.append(pack(now, code(EventKind.CLEAR, index, LAST), 0.0, 0.0))

    def _subscribe(self, stream: HubStream, *, traded: bool) -> None:
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
        if stream.funding or traded:  # what is traded pays it
            self.subscribe_funding_rates(iid)
        if stream.bars is not None:
            self.subscribe_bars(stream.bars)

    # -- raw data: read the fields, append one record --------------------------------------------------------

    def _handlers(self) -> dict[str, Callable[[Any], None]]:
        """Nautilus's callbacks, each guarded: unwatched, an exception would end a backtest without a word.

        They are functions built around the list they append to, not methods, and those of ticks guard
        themselves: every look-up and every call a tick is felt.
        """
        streams = [s.instrument_id for s in self._c.streams]
        append = self._records.append
        trades = [trade_reader(append, i, self._fail) for i in range(len(streams))]
        if isinstance(self._closes, TradeCounter):
            trades[0] = self._counting(trades[0], self._closes)
        quotes = [quote_reader(append, i, self._fail) for i in range(len(streams))]
        deltas = [delta_reader(append, i, self._fail) for i in range(len(streams))]
        watch = self._c.guard.watch
        index = {iid: i for i, iid in enumerate(streams)}

        def each(readers: list[Callable[[Any], None]]) -> Callable[[Any], None]:
            if len(readers) == 1:
                return readers[0]
            by_instrument = dict(zip(streams, readers, strict=True))
            return watch(self, lambda data: by_instrument[data.instrument_id](data))

        def slow(kind: EventKind, data: Any, value: float) -> None:
            append(pack(data.ts_init, code(kind, index[data.instrument_id]), value, 0.0))

        def on_funding_rate(data: Any) -> None:
            slow(EventKind.FUNDING, data, float(data.rate))
            if data.instrument_id == streams[0]:
                self.governor.on_funding_rate(data)

        return {
            "on_trade": each(trades),
            "on_quote": each(quotes),
            "on_book_deltas": each(deltas),
            "on_mark_price": watch(self, lambda mark: slow(EventKind.MARK, mark, mark.value.as_double())),
            "on_index_price": watch(self, lambda i: slow(EventKind.INDEX, i, i.value.as_double())),
            "on_funding_rate": watch(self, on_funding_rate),
            "on_bar": watch(self, lambda bar: self._on_bar(bar, index[bar.bar_type.instrument_id])),
        }

    def _fail(self) -> None:
        self._c.guard.fail(self, sys.exception())

    def _counting(self, read: Callable[[Any], None], counter: TradeCounter) -> Callable[[Any], None]:
        """``read``, and a timer for the bar that a trade completes."""

        def on_trade(trade: Any) -> None:
            read(trade)
            try:
                price, size = trade.price.as_double(), trade.size.as_double()
                close = counter.update(self.counted, trade.ts_init, price, size)
                if close is not None:
                    self._expect(close)
            except Exception:
                self._fail()

        return on_trade

    def _on_series(self, value: SeriesValue) -> None:
        field = code(EventKind.SERIES, self._c.kernel.series.index(value.name))
        self._records.append(pack(value.ts_init, field, value.value, 0.0))

    def _on_bar(self, bar: Any, stream: int) -> None:
        ts = bar.ts_init
        field = code(EventKind.TRADE, stream)
        quarter = 0.25 * bar.volume.as_double()
        for price in (bar.open, bar.high, bar.low, bar.close):
            self._records.append(pack(ts - 1, field, price.as_double(), quarter))
        if stream == 0 and self._c.bars.kind == "external":
            self._expect(ts)

    # -- bars ------------------------------------------------------------------------------------------------

    def _expect(self, close: int) -> None:
        """Have the bar that ends at ``close`` made after its grace."""
        heapq.heappush(self._due, close)
        self.clock.set_time_alert_ns(f"bar-{close}", close + self._c.bars.grace, callback=self._fire)

    def _on_close_due(self, event: Any) -> None:
        t1 = event.ts_event - self._c.bars.grace
        if self._interval and t1 % self._interval == 0:
            heapq.heappush(self._due, t1)
        # A live clock fires alerts about a millisecond apart in any order, and one already past at its own
        # time: bars are made in the order of their closes, each as of its close.
        while self._due and self._due[0] <= t1:
            close = heapq.heappop(self._due)
            if close > self._closed:  # else its trade came so late that a later bar was closed before it
                self._close(close)

    def _close(self, t1: int) -> None:
        """Close the bar that ends at ``t1``: compute its features, hear the stages, tell everyone."""
        c = self._c
        values, quote = c.kernel.step(self.memory, self._cut(t1))
        self.conduct(
            t1,
            values,
            quote.tolist(),
            {name: stage.step(t1, values).tolist() for name, stage in c.stages.items()},
        )

    def _cut(self, t1: int) -> np.ndarray:
        """The events of the bar that ends at ``t1``, in canonical order, with its ``CLOSE``."""
        while self._next is not None and self._next.ts_init < t1:
            self._on_series(self._next)
            self._next = next(self._coming, None)
        records, close = self._records, pack(t1, _CLOSE, 0.0, 0.0)
        records.append(close)
        arrived = bytearray().join(records)
        records.pop()
        events = np.frombuffer(arrived, EVENT)
        n, late = split_at(events, self._closed, t1)
        if n >= 0:  # the close goes where the events of the next bar begin
            arrived[n * EVENT.itemsize : (n + 1) * EVENT.itemsize] = close
            del records[:n]
            events = events[: n + 1]
        else:
            own = events["ts"] < t1
            own[-1] = True
            records[:] = [records[i] for i in np.flatnonzero(~own).tolist()]
            events = sort_events(events[own])
            late = int(np.count_nonzero(events["ts"] < self._closed))
        self.late += late
        self._closed = t1
        return events


_CLOSE = code(EventKind.CLOSE, 0)
_NOTHING = np.empty(0)


def _shapes(state: State) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    return {name: (array.shape, array.dtype) for name, array in state.items()}


def _recorded(record: Callable[[Any], None], handler: Callable[[Any], None]) -> Callable[[Any], None]:
    def both(data: Any) -> None:
        record(data)
        handler(data)

    return both


def _merged(series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[SeriesValue]:
    """The values of all series, by time of publication."""
    each = (
        [SeriesValue(name, ts, value) for ts, value in zip(*(a.tolist() for a in arrays), strict=True)]
        for name, arrays in series.items()
    )
    return heapq.merge(*each, key=attrgetter("ts_init"))
