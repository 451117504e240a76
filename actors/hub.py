"""The feature hub: the one consumer of every raw stream, in backtest and live.

Per tick it reads the fields and appends one packed record; per bar it hands the records to the compiled
kernel, steps the stages (regime, volatility, forecast) and publishes a ``BarState``. Nautilus runs handlers
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
from features.bars import BarSpec, DollarBars, VolumeBars
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
        ``regime``, ``volatility`` and, unless nothing forecasts, ``forecast``.
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
        self.stages = config.stages
        self._regime, self._volatility = config.stages["regime"], config.stages["volatility"]
        self._forecast = config.stages.get("forecast")
        self.started = 0
        self.late = 0
        self._closed = 0
        self._due: list[int] = []  # closes of volume, dollar and external bars still to be made: a heap
        self._resumed = False
        self._records: list[bytes] = []
        self._coming = _merged(config.series)
        self._next = next(self._coming, None)  # the value of a recorded series to be published next
        self._fire = config.guard.watch(self, self._on_close_due)
        for name, handler in self._handlers().items():
            if config.record:
                handler = config.guard.watch(self, _recorded(config.record, handler))
            setattr(self, name, handler)

    def continue_from(self, state: State) -> None:
        """Go on from ``state``, saved a while ago: everything but the books, which the venue will send
        anew."""
        self.memory = state
        self._resumed = True

    # -- subscriptions ---------------------------------------------------------------------------------------

    def on_start(self) -> None:
        super().on_start()
        c = self._c
        now = self.started = self._closed = self.clock.timestamp_ns()
        for index, stream in enumerate(c.streams):
            if self._resumed and stream.book == "deltas":
                self._records.append(pack(now, code(EventKind.CLEAR, index, LAST), 0.0, 0.0))
            self._subscribe(stream, traded=index == 0)
        while self._next is not None and self._next.ts_init < now:
            self._next = next(self._coming, None)
        if c.bars.kind == "clock":
            first = now // c.bars.interval * c.bars.interval + c.bars.grace
            # A timer first fires one interval after its start: at the first close after now, plus the grace.
            self.clock.set_timer_ns("bars", c.bars.interval, start_time_ns=first, callback=self._fire)

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
        if isinstance(self._c.bars, VolumeBars | DollarBars):
            trades[0] = self._counted(trades[0], self._c.bars)
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

    def _counted(self, read: Callable[[Any], None], bars: VolumeBars | DollarBars) -> Callable[[Any], None]:
        """``read``, and a timer for the bar that a trade completes."""
        counter = bars.closes(self._c.kernel.streams[0].contract)

        def on_trade(trade: Any) -> None:
            read(trade)
            try:
                close = counter.update(trade.ts_init, trade.price.as_double(), trade.size.as_double())
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
        if self._c.bars.kind == "clock":
            self._close(t1)
            return
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
        forecast = self._forecast
        self.conduct(
            t1,
            values,
            quote.tolist(),
            self._regime.step(t1, values).tolist(),
            self._volatility.step(t1, values).tolist(),
            None if forecast is None else forecast.step(t1, values).tolist(),
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
