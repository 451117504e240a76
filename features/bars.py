"""When a bar closes: by the clock, by volume, by value, or when an external bar arrives.

A close is a moment in ns: the bar holds the events with ``ts`` before it (and not before the previous close).
"""

from typing import Annotated, ClassVar, Literal

import numba
import numpy as np
from pydantic import Field, field_validator

from core.causal import State
from core.contract import COIN, Contract, value, volume
from core.events import EVENT, EventKind
from core.settings import Duration, Number, Settings, default, format_duration, unit

_FUZZ = 1e-12  # of a bar's size: ten trades of 0.01 are a bar of 0.1, though not as floats
_TRADES = (int(EventKind.TRADE_BUY), int(EventKind.TRADE))


class _Bars(Settings):
    grace: Duration = default("100ms", most="1m")
    """How long after its end a bar is closed, so that late events of live queues still find it."""

    def closes(self, contract: Contract = COIN) -> "BarCloses":
        """The closes of a merged event array, chunk by chunk; ``contract`` is what is traded."""
        raise NotImplementedError

    def describe(self) -> str:
        """A few words for people."""
        raise NotImplementedError


class ClockBars(_Bars):
    """A bar every ``interval``, at its multiples since the epoch, also when nothing happened."""

    kind: Literal["clock"] = "clock"
    interval: Duration = default("1s")
    """Length of a bar, 100ms to 1h."""

    @field_validator("interval")
    @classmethod
    def _in_range(cls, value: int) -> int:
        if not 100_000_000 <= value <= 3_600 * 10**9:
            raise ValueError(f"{format_duration(value)} is not between 100ms and 1h")
        return value

    def closes(self, contract: Contract = COIN) -> "BarCloses":
        return ClockCloses(self.interval)

    def describe(self) -> str:
        return f"{format_duration(self.interval)} clock bars"


class _EventBars(_Bars):
    size: Annotated[Number, unit("contracts (volume), settlement currency (dollar)")] = Field(gt=0, le=1e15)
    """What must have traded on the traded stream until a bar closes."""
    by_value: ClassVar[bool]

    def closes(self, contract: Contract = COIN) -> "TradeCounter":
        return TradeCounter(self.size, self.by_value, contract)


class VolumeBars(_EventBars):
    """A bar whenever ``size`` of the base currency (``core.contract``) has been traded."""

    kind: Literal["volume"] = "volume"
    by_value: ClassVar[bool] = False

    def describe(self) -> str:
        return f"volume bars of {self.size:g}"


class DollarBars(_EventBars):
    """A bar whenever ``size`` of the quote currency (``core.contract``) has been traded."""

    kind: Literal["dollar"] = "dollar"
    by_value: ClassVar[bool] = True

    def describe(self) -> str:
        return f"dollar bars of {self.size:g}"


class ExternalBars(_Bars):
    """Bars that come from a vendor or venue, ``interval`` long, stamped at their close.

    To the kernel an external bar is four trades of a quarter of its volume, at its open, high, low and close.
    """

    kind: Literal["external"] = "external"
    interval: Duration = default("1m", positive=True, most="1d")
    """Their length, which must be that of the stream's bar type."""

    def closes(self, contract: Contract = COIN) -> "BarCloses":
        return TradeTimes()

    def describe(self) -> str:
        return f"{format_duration(self.interval)} external bars"


BarSpec = Annotated[ClockBars | VolumeBars | DollarBars | ExternalBars, Field(discriminator="kind")]


class BarCloses:
    """Finds closes in event arrays that follow each other without a gap; what it remembers between two of
    them is its state, so the three laws of ``core.causal`` hold for it."""

    def initial_state(self) -> State:
        """Before the first event; empty where nothing is remembered."""
        return {}

    def find(self, events: np.ndarray, start: int, end: int, state: State | None = None) -> np.ndarray:
        """Closes, int64 ascending, that become known from ``events``, which cover ``start <= ts < end``.

        They are found from ``state`` on (changed in place), or from nothing.
        """
        raise NotImplementedError

    def merge(self, events: np.ndarray, start: int, end: int, state: State | None = None) -> np.ndarray:
        """``events`` with a ``CLOSE`` record at each close."""
        return with_closes(events, self.find(events, start, end, state))


class ClockCloses(BarCloses):
    """The multiples of ``interval`` in ``(start, end]``."""

    def __init__(self, interval: int) -> None:
        self._interval = interval

    def find(self, events: np.ndarray, start: int, end: int, state: State | None = None) -> np.ndarray:
        step = self._interval
        return np.arange(start // step * step + step, end + 1, step, dtype=np.int64)


class TradeTimes(BarCloses):
    """1 ns after each moment with trades of the traded stream: where external bars, told as trades, end."""

    def find(self, events: np.ndarray, start: int, end: int, state: State | None = None) -> np.ndarray:
        traded = (events["stream"] == 0) & (events["kind"] == EventKind.TRADE)
        return np.unique(events["ts"][traded]) + 1


class TradeCounter(BarCloses):
    """Volume or value traded since the last close; a bar closes 1 ns after the trade that fills it.

    Trades of the same ``ts`` as that trade still belong to the bar and are not counted for the next one. Its
    state is ``counted``, what was counted since the last close, and ``close``, that close.
    """

    def __init__(self, size: float, by_value: bool, contract: Contract = COIN) -> None:
        self._size = size * (1 - _FUZZ)
        self._by_value = by_value
        self._contract = contract
        self._amount = (value if by_value else volume).py_func  # a compiled call costs more than its sum

    def initial_state(self) -> State:
        return {"counted": np.zeros(1), "close": np.zeros(1, np.int64)}

    def update(self, state: State, ts: int, price: float, size: float) -> int | None:
        """Count one trade; the close it brings, or None."""
        if ts < state["close"][0]:
            return None
        counted = state["counted"]
        total = counted[0] + self._amount(price, size, *self._contract)
        if total < self._size:
            counted[0] = total
            return None
        counted[0] = 0.0
        state["close"][0] = ts + 1
        return ts + 1

    def find(self, events: np.ndarray, start: int, end: int, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        closes = np.empty(len(events), np.int64)
        n = _find_closes(
            events, self._size, self._by_value, *self._contract, state["counted"], state["close"], closes
        )
        return closes[:n]


def bar_events(ts: np.ndarray, ohlcv: np.ndarray, stream: int) -> np.ndarray:
    """External bars as event records: ``ts`` ns of close, shape (n,); ``ohlcv`` floats, shape (n, 5)."""
    events = np.zeros(4 * len(ts), EVENT)
    events["ts"] = np.repeat(ts - 1, 4)
    events["kind"], events["stream"] = EventKind.TRADE, stream
    events["price"] = ohlcv[:, :4].ravel()
    events["size"] = np.repeat(0.25 * ohlcv[:, 4], 4)
    return events


@numba.njit(cache=True)
def _find_closes(events, size, by_value, multiplier, inverse, counted, last, closes):
    n = 0
    for i in range(len(events)):
        event = events[i]
        if event.stream != 0 or event.kind < _TRADES[0] or event.kind > _TRADES[1] or event.ts < last[0]:
            continue
        if by_value:
            total = counted[0] + value(event.price, event.size, multiplier, inverse)
        else:
            total = counted[0] + volume(event.price, event.size, multiplier, inverse)
        if total < size:
            counted[0] = total
        else:
            counted[0] = 0.0
            last[0] = event.ts + 1
            closes[n] = event.ts + 1
            n += 1
    return n


def with_closes(events: np.ndarray, closes: np.ndarray) -> np.ndarray:
    """``events`` (in canonical order) with a ``CLOSE`` before the first event at each close or later."""
    records = np.zeros(len(closes), EVENT)
    records["ts"], records["kind"] = closes, EventKind.CLOSE
    return np.insert(events, np.searchsorted(events["ts"], closes, side="left"), records)
