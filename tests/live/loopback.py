"""A venue for tests: a data client that streams a catalog into a live node, in real or accelerated time."""

import asyncio
import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nautilus_trader.config import DataClientConfig
from nautilus_trader.live.clients import DataClientFactory, MarketDataClient
from nautilus_trader.model import (
    FundingRateUpdate,
    IndexPriceUpdate,
    MarkPriceUpdate,
    NautilusDataType,
    OrderBookDelta,
    OrderBookDeltas,
    QuoteTick,
    TradeTick,
    Venue,
)
from nautilus_trader.persistence import ParquetDataCatalog

_TYPES = (
    NautilusDataType.MarkPriceUpdate,
    NautilusDataType.IndexPriceUpdate,
    NautilusDataType.FundingRateUpdate,
    NautilusDataType.OrderBookDelta,
    NautilusDataType.QuoteTick,
    NautilusDataType.TradeTick,
)
_LAST = 128
_EIGHT_HOURS = 8 * 3_600 * 10**9


class LoopbackVenue(DataClientFactory):
    """Makes the client of one venue whose data is the catalog at ``path``.

    Streaming begins ``delay`` seconds after the first subscription. An event that was ``x`` ns after the
    catalog's first is sent ``x / speed`` ns after that; it is stamped ``ts_init`` when it is sent (no two
    alike), and ``ts_event`` when it was due.

    ``quiet = (interval, begin, end)``: nothing is sent from ``begin`` to ``end`` ns after any multiple of
    ``interval``; it waits. A bar is closed, and an order sent, some time after it was due: about a
    millisecond on an idle machine, many on a busy one. With the time around closes quiet, that does not
    change which book an order meets.
    """

    def __init__(
        self, path: Path, *, speed: float = 1.0, delay: float = 0.2, quiet: tuple[int, int, int] | None = None
    ) -> None:
        self.path, self.speed, self.delay, self.quiet = path, speed, delay, quiet

    def create(self, *, name: str, config: DataClientConfig, cache: Any, clock: Any) -> "LoopbackClient":  # type: ignore[override]
        return LoopbackClient(self, name=name, config=config, cache=cache, clock=clock, venue=Venue(name))


class LoopbackClient(MarketDataClient):
    """Sends what is subscribed to; the book begins with the catalog's first snapshot."""

    def __init__(self, played: LoopbackVenue, **context: Any) -> None:
        super().__init__(**context)
        self._played = played
        self._wanted: set[tuple[type, str]] = set()
        self._last = 0

    async def _connect(self) -> None:
        for instrument in ParquetDataCatalog(str(self._played.path)).instruments():
            self._handle_instrument(instrument)

    async def _disconnect(self) -> None:
        self._wanted.clear()

    def _want(self, kind: type, command: Any) -> None:
        if not self._wanted:
            self.create_task(self._stream())
        self._wanted.add((kind, str(command.instrument_id)))

    async def _stream(self) -> None:
        await asyncio.sleep(self._played.delay)
        begun = self.clock.timestamp_ns()
        first = None
        for item in recorded(self._played.path):
            first = item.ts_init if first is None else first
            due = begun + round((item.ts_init - first) / self._played.speed)
            await self._until(due)
            if (type(item), str(item.instrument_id)) not in self._wanted:
                continue
            self._last = max(self.clock.timestamp_ns(), self._last + 1)
            self._handle_data(_stamped(item, due, self._last))

    async def _until(self, due: int) -> None:
        await asyncio.sleep(0)  # also where we are behind, so that the node gets its turn
        while (wait := max(due, self._end_of_quiet()) - self.clock.timestamp_ns()) > 0:
            await asyncio.sleep(wait * 1e-9)

    def _end_of_quiet(self) -> int:
        if self._played.quiet is None:
            return 0
        interval, begin, end = self._played.quiet
        now = self.clock.timestamp_ns()
        past = (now - begin) % interval
        return now - past + end - begin if past < end - begin else 0

    async def _subscribe_trades(self, command: Any) -> None:
        self._want(TradeTick, command)

    async def _subscribe_quotes(self, command: Any) -> None:
        self._want(QuoteTick, command)

    async def _subscribe_book_deltas(self, command: Any) -> None:
        self._want(OrderBookDeltas, command)

    async def _subscribe_mark_prices(self, command: Any) -> None:
        self._want(MarkPriceUpdate, command)

    async def _subscribe_index_prices(self, command: Any) -> None:
        self._want(IndexPriceUpdate, command)

    async def _subscribe_funding_rates(self, command: Any) -> None:
        self._want(FundingRateUpdate, command)

    async def _unsubscribe_trades(self, command: Any) -> None: ...
    async def _unsubscribe_quotes(self, command: Any) -> None: ...
    async def _unsubscribe_book_deltas(self, command: Any) -> None: ...
    async def _unsubscribe_mark_prices(self, command: Any) -> None: ...
    async def _unsubscribe_index_prices(self, command: Any) -> None: ...
    async def _unsubscribe_funding_rates(self, command: Any) -> None: ...


def recorded(path: Path) -> Iterator[Any]:
    """The data objects of a catalog in order of time, the deltas of one book update together."""
    catalog = ParquetDataCatalog(str(path))
    return heapq.merge(*(_updates(catalog.query(kind)) for kind in _TYPES), key=lambda item: item.ts_init)


def _updates(objects: list[Any]) -> Iterator[Any]:
    update: list[OrderBookDelta] = []
    for item in objects:
        if not isinstance(item, OrderBookDelta):
            yield item
            continue
        update.append(item)
        if item.flags & _LAST:
            yield OrderBookDeltas(item.instrument_id, update)
            update = []


def _stamped(x: Any, event: int, init: int) -> Any:
    iid = x.instrument_id
    if isinstance(x, OrderBookDeltas):
        deltas = [OrderBookDelta(iid, d.action, d.order, d.flags, d.sequence, event, init) for d in x.deltas]
        return OrderBookDeltas(iid, deltas)
    if isinstance(x, TradeTick):
        return TradeTick(iid, x.price, x.size, x.aggressor_side, x.trade_id, event, init)
    if isinstance(x, QuoteTick):
        return QuoteTick(iid, x.bid_price, x.ask_price, x.bid_size, x.ask_size, event, init)
    if isinstance(x, FundingRateUpdate):
        settlement = (init // _EIGHT_HOURS + 1) * _EIGHT_HOURS
        return FundingRateUpdate(iid, x.rate, event, init, x.interval, settlement)
    return type(x)(iid, x.value, event, init)


def small_market(path: Path, seconds: float, *, seed: int = 7, start: int = 1_767_571_200 * 10**9) -> Any:
    """A catalog of a seeded toy market: a five-level book and trades that walk, mark prices and funding.

    Returns its instrument. About 60 book updates and 40 trades a second; volatility and drift change often.
    """
    from catalogs.instruments import PerpetualSettings
    from catalogs.writer import CatalogWriter

    instrument = PerpetualSettings(
        id="BTCUSDT-PERP.LOOP", base="BTC", quote="USDT", price_increment="0.1", size_increment="0.001"
    ).build()
    rng = np.random.default_rng(seed)
    writer = CatalogWriter(path)
    writer.instrument(instrument)
    n = int(60 * seconds)
    ts = start + np.cumsum(rng.exponential(1e9 / 60, n)).astype(np.int64) + np.arange(n)
    wild = np.repeat(rng.choice((1.0, 4.0), n // 240 + 1), 240)[:n]
    drift = np.repeat(rng.choice((-0.15, 0.0, 0.15), n // 360 + 1), 360)[:n]
    mid = 50_000 + 0.1 * np.rint(np.cumsum(wild * (rng.standard_normal(n) + drift)) * 4)
    _write_book(writer, instrument, ts, mid, rng)
    k = np.flatnonzero(rng.random(n) < 0.67)
    side = np.where(rng.random(len(k)) < 0.5 + 0.3 * np.sign(drift[k]), 1, -1)
    writer.trades(
        instrument,
        ts[k],
        ts[k] + 1_000,
        mid[k] + 0.1 * side,
        np.round(rng.exponential(0.2, len(k)) + 0.001, 3),
        side,
    )
    slow = ts[::60]
    writer.mark_prices(instrument, slow, slow + 2_000, mid[::60])
    rates = np.round(1e-4 + 1e-5 * rng.standard_normal(len(slow)), 8)
    settlement = np.full(len(slow), (start // _EIGHT_HOURS + 1) * _EIGHT_HOURS)
    writer.funding_rates(instrument, slow, slow + 3_000, rates, settlement, _EIGHT_HOURS)
    return instrument


def _write_book(
    writer: Any, instrument: Any, ts: np.ndarray, mid: np.ndarray, rng: np.random.Generator
) -> None:
    rows: list[tuple[Any, ...]] = [(ts[0], 4, 0, 0.0, 0.0, 32)]
    book: dict[tuple[int, float], float] = {}
    for t, m in zip(ts.tolist(), mid.tolist(), strict=True):
        want = {
            (s, round(m + s * 0.1 * i, 1)): round(0.5 + rng.exponential(2.0), 3)
            for s in (-1, 1)
            for i in range(1, 6)
        }
        changes = [(t, 3, -s, p, 0.0, 0) for (s, p) in book if (s, p) not in want]
        changes += [(t, 2 if key in book else 1, -key[0], key[1], size, 0) for key, size in want.items()]
        rows += [*changes[:-1], (*changes[-1][:5], _LAST)]
        book = want
    at, action, side, price, size, flags = (np.array(column) for column in zip(*rows, strict=True))
    writer.deltas(instrument, at, at, action, side, price, size, flags, np.arange(len(at)))
