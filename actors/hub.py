"""The feature hub: the one consumer of every raw stream, in backtest and live.

Per tick it reads the fields and appends one packed record; per bar it hands the records to the compiled kernel and
publishes a ``FeatureBar``. Nautilus runs handlers of equal priority in an order that differs between processes, so
nothing else may subscribe to raw data: everything downstream listens to the hub, at distinct priorities.
"""

import dataclasses
import struct
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
from features.bars import BarSpec, EventBarClock
from features.events import EVENT, LAST, EventKind, sort_events
from features.kernel import FeatureKernel
from features.messages import FeatureBar

_pack = struct.Struct("=qhhidd").pack  # the layout of EVENT
assert struct.calcsize("=qhhidd") == EVENT.itemsize

_TRADE_BUY, _TRADE_SELL, _TRADE = int(EventKind.TRADE_BUY), int(EventKind.TRADE_SELL), int(EventKind.TRADE)
_BID, _ASK, _CLEAR = int(EventKind.BID), int(EventKind.ASK), int(EventKind.CLEAR)
_QUOTE_BID, _QUOTE_ASK = int(EventKind.QUOTE_BID), int(EventKind.QUOTE_ASK)
_CLOSE, _SERIES = int(EventKind.CLOSE), int(EventKind.SERIES)
_MARK, _INDEX, _FUNDING = int(EventKind.MARK), int(EventKind.INDEX), int(EventKind.FUNDING)
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
    """What the hub needs; ``on_bar(ts, events)`` is told of each closed bar (progress)."""

    actor_id: ActorId
    kernel: FeatureKernel
    streams: tuple[HubStream, ...]
    bars: BarSpec
    guard: RunGuard
    on_bar: Callable[[int, int], None] | None = None


class FeatureHub(DataActor):
    """Buffers raw events, closes bars by ``ts_init``, runs the kernel, publishes features."""

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        self._c = config
        self._kernel = config.kernel
        self.state = config.kernel.initial_state()
        self._records: list[bytes] = []
        self._stream_of = {s.instrument_id: i for i, s in enumerate(config.streams)}
        self._single = len(config.streams) == 1
        self._event_clock = EventBarClock(config.bars) if config.bars.kind in ("volume", "dollar") else None
