"""Backtests: the assembled components over a catalog, faithful (every tick through the hub) or replay."""

import dataclasses
import hashlib
import importlib.metadata
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import CacheConfig, LoggerConfig, LogLevel
from nautilus_trader.execution import DefaultFillModel, MakerTakerFeeModel, StaticLatencyModel
from nautilus_trader.model import AccountType, BookType, InstrumentId, Money, NautilusDataType, OmsType

from actors.guard import RunGuard
from catalogs.instruments import definition
from catalogs.layout import DataType
from core.errors import BeaufortError
from core.journal import Journal, MemoryJournal, Tables
from core.plugins import plugin_code
from core.records import EquityMark, Liquidation
from core.settings import format_duration, format_time
from engine.bundles import Models
from engine.config import RunConfig, output_folder, to_toml
from engine.pipeline import Market
from engine.progress import Meter, meter
from engine.reports.run_folder import floats
from engine.sessions.assembly import assemble
from engine.sessions.coverage import PriceFeed, gaps_met, price_feed, silent_stretches, stale_stretches
from engine.sessions.orders import order_records, order_warnings
from engine.sessions.runs import abandon_run, bars_without_price, begin_run, end_run, new_run_folder
from engine.sessions.settlement import account_balance, venue_differs
from engine.sessions.venue_feed import VenueFeed

Mode = Literal["faithful", "replay"]

_CHUNK = 20_000  # events Nautilus streams at a time
_TYPES = {
    "deltas": NautilusDataType.OrderBookDelta,
    "quotes": NautilusDataType.QuoteTick,
    "trades": NautilusDataType.TradeTick,
    "bars": NautilusDataType.Bar,
    "mark": NautilusDataType.MarkPriceUpdate,
    "index": NautilusDataType.IndexPriceUpdate,
    "funding": NautilusDataType.FundingRateUpdate,
}


@dataclasses.dataclass(frozen=True)
class Feed:
    """One kind of data of one instrument that the backtest plays."""

    data_type: DataType
    identifier: str  # instrument id, or bar type
    instrument: str


def run_backtest(config: RunConfig, mode: Mode, *, quiet: bool = False) -> tuple[Path, bool]:
    """Run ``config`` and write its run folder.

    Returns
    -------
    folder : Path
    complete : bool
        False where the run was interrupted; what it did until then is in the folder all the same.

    Raises
    ------
    BeaufortError
        If data or bundles are missing or do not fit, or a component failed (the partial run is written
        first).
    """
    market = Market(config)
    market.require_data("backtest", config.backtest.start, config.backtest.end)
    models = market.models()
    # Sooner than when the work is done: what the run folder will need.
    _refuse_idle(market, models)
    fingerprint = data_fingerprint(market)
    text = to_toml(config)
    output_folder("backtest.runs", config.backtest.runs)
    warnings = [
        *stale_stretches(market),
        *silent_stretches(market, models),
        *models.warnings(config.backtest.start, config.backtest.end),
    ]
    begun = {
        "name": config.name,
        "mode": mode,
        "warnings": warnings,
        "started": datetime.now(UTC).isoformat(),
        "wall_s": 0.0,
        "events": 0,
        "start": config.backtest.start,
        "end": config.backtest.start,
        "complete": False,
        "data_fingerprint": fingerprint,
        **describe(market, models),
    }
    folder = new_run_folder(config.backtest.runs, config.name)
    journal = begin_run(folder, begun, text, durable=False)
    try:
        with meter(f"{mode} backtest {config.name}") as running:
            outcome = play(market, models, mode, None if quiet else running, journal)
        warnings += [
            *bars_without_price(outcome.tables[EquityMark], str(market.traded.id)),
            *gaps_met(market, outcome.prices, outcome.tables, outcome.reached),
            *outcome.warnings,
        ]
        ended = {
            "warnings": warnings,
            "wall_s": outcome.wall_s,
            "events": outcome.events,
            "end": outcome.reached,
            "complete": outcome.complete,
            "dust": outcome.dust,
        }
        end_run(folder, begun | ended, text, journal)
    except BaseException:
        abandon_run(folder, journal)
        raise
    if outcome.traces:
        (folder / "failure.txt").write_text("\n".join(outcome.traces))
    if outcome.failures:
        raise BeaufortError(
            f"{outcome.failures[0]}\n"
            f"the run failed after {outcome.events:,} events; what it did until then is in {folder}"
            + (", the trace in failure.txt" if outcome.traces else "")
        )
    return folder, outcome.complete


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a backtest did, in memory."""

    tables: Tables
    prices: PriceFeed
    events: int
    wall_s: float
    reached: int
    complete: bool
    failures: list[str]
    warnings: list[str]
    dust: list[dict[str, Any]]  # see ``Trader.dust``
    traces: list[str]  # of the failures


def play(
    market: Market, models: Models, mode: Mode, running: Meter | None = None, journal: Journal | None = None
) -> Outcome:
    """Run the assembled components over the market's backtest span; without a journal its records are kept in
    memory."""
    config = market.config
    span = config.backtest
    _refuse_idle(market, models)
    first = market.data_start(span.start)
    market.refuse_changes(first, span.end)
    prices = price_feed(market, first, span.end)
    feeds = played_feeds(market, mode)
    total = played_events(market, feeds, first, span.end)
    guard = RunGuard()
    reached = [span.start]

    def on_bar(ts: int) -> None:
        reached[0] = ts
        if running is not None:
            share = (ts - first) / (span.end - first)
            running.update(share, round(share * total))

    journal = MemoryJournal() if journal is None else journal
    conductor = assemble(
        market,
        models,
        mode,
        journal,
        guard,
        first=first,
        trade_from=span.start,
        end=span.end,
        holes=prices.holes.tolist(),
        on_bar=on_bar,
    )
    folder = tempfile.TemporaryDirectory(prefix="beaufort-")
    venue_feed = VenueFeed(market, prices, Path(folder.name), first, span.end)
    node = BacktestNode([node_config(market, feeds, first, venue_feed)])
    try:
        try:
            node.build()
            node.add_strategy(config.name, conductor)
        except RuntimeError as error:
            raise BeaufortError(f"the backtest could not be built: {error}") from error
        with _stop_on_interrupt(guard):
            began = time.perf_counter()
            try:
                (result,) = node.run()
                failures = guard.failures
            except RuntimeError as error:
                result, failures = None, [*guard.failures, _plainly(str(error), reached[0])]
            wall = time.perf_counter() - began
        cache = node.get_engine_cache(config.name)
        orders = order_records(cache, conductor.trader) if result else []
        dust = conductor.trader.dust()
        account = conductor.governor.account
        liquidated = journal.latest(Liquidation) is not None
        differs = None if liquidated else venue_differs(cache, account, market.traded)
    finally:
        node.dispose()
        folder.cleanup()
    for order in orders:
        journal.write(order)
    tables = journal.tables()
    price = floats(tables[EquityMark], "price")
    if not failures and len(price) and not np.any(price > 0):
        failures = [
            f"{market.traded.id} had no price at any bar of the span: there is no book of it; see what "
            "`beaufort data check` says of the deltas, or trade another span"
        ]
    if not failures and not guard.stop_requested and not len(price):
        failures = [
            "no bar closed in the span; Nautilus says nothing when a subscription fails: is there data in it?"
        ]
    early = config.bars.kind == "clock" and reached[0] + config.bars.interval < span.end
    if early and not failures and not guard.stop_requested:
        failures = [f"the run ended at {format_time(reached[0])}, before its span did, and did not say why"]
    complete = not failures and not guard.stop_requested
    return Outcome(
        tables,
        prices,
        result.iterations - venue_feed.played(reached[0]) if result else 0,
        wall,
        span.end if complete else reached[0],
        complete,
        failures,
        [*([differs] if differs and result else []), *order_warnings(orders, dust)],
        dust,
        guard.traces,
    )


def _plainly(failure: str, reached: int) -> str:
    """What Nautilus stopped at, with what to do about it where that is known."""
    if failure.startswith("Funding settlement failed"):
        return (
            f"{failure}, after the bar at {format_time(reached)}: a position was held, and there was neither "
            "a mark price nor a book to pay on; import mark prices and set mark = true for its stream, "
            "or end the span before"
        )
    return failure


def _refuse_idle(market: Market, models: Models) -> None:
    """Raise where nothing could be traded: a contract that cannot be accounted, no money in its currency, no
    valid model, no data, no bar."""
    span = market.config.backtest
    account_balance(market.traded, market.config.venue.starting_balance)
    asked = f"{format_time(span.start)} .. {format_time(span.end)}"
    bar = getattr(market.config.bars, "interval", 0)
    if bar and span.start // bar == span.end // bar:
        raise BeaufortError(
            f"no bar closes in {asked}: they are {format_duration(bar)} long and close at multiples of that; "
            "trade a longer span"
        )
    valid = [bundle.validity for bundle in models.bundles]
    if not any(v.valid_from < span.end and span.start < v.valid_to for v in valid):
        known = ", ".join(f"{format_time(v.valid_from)} .. {format_time(v.valid_to)}" for v in valid)
        raise BeaufortError(
            f"no bundle is valid in {asked}, only in {known}; a model never trades the time it was trained "
            "on: move the backtest, or train on an earlier span"
        )


def played_feeds(market: Market, mode: Mode) -> list[Feed]:
    """What Nautilus plays: all that the venue of the traded instrument needs to match, and in faithful mode
    also what
    the hub reads of the others. In replay the kernel's reading was done in batch."""
    config = market.config
    feeds = []
    for alias, stream in zip(config.data.aliases, market.streams, strict=True):
        traded = alias == config.data.trade
        if not traded and mode == "replay":
            continue
        settings = config.data.streams[alias]
        wanted: list[DataType] = list(stream.data_types())
        if traded:
            wanted += [settings.book] if settings.book != "none" else []
            wanted += ["trades"] if settings.trades else []
            wanted += [
                t for t in ("mark", "funding") if stream.instrument_id in market.catalog.identifiers(t)
            ]
        feeds += [Feed(t, stream.instrument_id, stream.instrument_id) for t in dict.fromkeys(wanted)]
        if settings.bars is not None:
            feeds.append(Feed("bars", settings.bars, stream.instrument_id))
    return feeds


def data_fingerprint(market: Market) -> str:
    """A hash over all that a run on the market's backtest span reads, in either mode, and its instruments.

    Raises BeaufortError where a file of it is damaged: Nautilus would say so in no words for people, or not.
    """
    span = market.config.backtest
    feeds = [(feed.data_type, feed.identifier) for feed in played_feeds(market, "faithful")]
    first = market.data_start(span.start)
    try:
        for data_type, identifier in feeds:
            market.catalog.verify(data_type, identifier, first, span.end)  # Nautilus reads every column
    except (KeyError, ValueError) as error:
        raise BeaufortError(str(error.args[0])) from None
    (read,) = market.fingerprints(first, [span.end], feeds)
    terms = [definition(instrument) for instrument in market.instruments.values()]
    return hashlib.sha256(f"{read} {terms}".encode()).hexdigest()


def played_events(market: Market, feeds: list[Feed], start: int, end: int) -> int:
    """About how many records the feeds hold between two moments."""
    total = 0.0
    for feed in feeds:
        try:
            first, last, rows = market.catalog.coverage(feed.identifier, feed.data_type)
        except (KeyError, ValueError) as error:
            raise BeaufortError(str(error.args[0])) from None
        share = (min(last, end) - max(first, start)) / max(last - first, 1)
        total += rows * min(max(share, 0.0), 1.0)
    return round(total)


def node_config(
    market: Market, feeds: list[Feed], first: int, venue_feed: VenueFeed | None = None
) -> BacktestRunConfig:
    """What Nautilus runs; where moments are equal it plays the data in this order."""
    config = market.config
    end = config.backtest.end
    path = str(market.catalog.path.resolve())  # Nautilus finds no files under a relative path
    data = [
        BacktestDataConfig(
            data_type=_TYPES[feed.data_type],
            catalog_path=path,
            instrument_id=InstrumentId.from_str(feed.instrument),
            bar_types=[feed.identifier] if feed.data_type == "bars" else None,
            # An external bar belongs to the time before its stamp, any other event to the time after it.
            start_time=first + (feed.data_type == "bars"),
            end_time=end - (feed.data_type != "bars"),
            batch_deltas=feed.data_type == "deltas",
        )
        for feed in feeds
    ]
    books = {feed.instrument.rpartition(".")[2] for feed in feeds if feed.data_type == "deltas"}
    quotes = {feed.instrument.rpartition(".")[2] for feed in feeds if feed.data_type == "quotes"}
    ticks = {feed.instrument.rpartition(".")[2] for feed in feeds if feed.data_type == "trades"}
    balance = account_balance(market.traded, config.venue.starting_balance)
    if venue_feed is not None:
        data = [*venue_feed.before, *data, *venue_feed.after]
    venues = [
        _venue(config, venue, venue in books, venue in quotes, venue in ticks, balance)
        for venue in dict.fromkeys(feed.instrument.rpartition(".")[2] for feed in feeds)
    ]
    return BacktestRunConfig(
        id=config.name,
        venues=venues,
        data=data,
        engine=BacktestEngineConfig(
            shutdown_on_error=True,
            run_analysis=False,
            logging=LoggerConfig(stdout_level=LogLevel.ERROR, bypass_logging=True),
            cache=CacheConfig(tick_capacity=100, bar_capacity=100),
        ),
        chunk_size=_CHUNK,
        raise_exception=True,
        dispose_on_completion=False,
        start=first,
        end=end + config.bars.grace,  # so that the last bar's close still comes
    )


def _venue(
    config: RunConfig, name: str, has_book: bool, has_quotes: bool, has_trades: bool, balance: Money
) -> BacktestVenueConfig:
    venue = config.venue
    return BacktestVenueConfig(
        name=name,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[str(balance)],
        book_type=BookType.L2_MBP if has_book else BookType.L1_MBP,
        default_leverage=venue.default_leverage,
        fee_model=MakerTakerFeeModel(venue.maker_fee, venue.taker_fee),
        fill_model=DefaultFillModel(venue.fill_probability, venue.slip_probability, config.seed),
        latency_model=StaticLatencyModel(base_latency_nanos=venue.latency),
        liquidity_consumption=True,  # nor does what stood in the book, or a trade, fill us twice
        bar_execution=not (has_book or has_quotes or has_trades),  # what bars say of prices is late
        queue_position=venue.queue_position and has_trades,  # a queue that no trade shortens would never fill
    )


@contextmanager
def _stop_on_interrupt(guard: RunGuard) -> Iterator[None]:
    """The first Ctrl-C asks the run to stop at its next bar; a second one gives up at once."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if guard.stop_requested:
            raise KeyboardInterrupt
        guard.stop_requested = True

    try:
        previous = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread: nobody can interrupt
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def describe(market: Market, models: Models) -> dict[str, Any]:
    """What a run folder's manifest says of instrument, bars and models."""
    instrument = market.traded
    amount, _, currency = market.config.venue.starting_balance.partition(" ")
    return {
        "instrument": str(instrument.id),
        "definition": definition(instrument),
        "currency": currency.strip(),
        "starting_equity": float(Decimal(amount.replace("_", ""))),
        "bars": market.config.bars.describe(),
        "multiplier": float(instrument.multiplier.as_double()),
        "inverse": bool(getattr(instrument, "is_inverse", False)),
        "bundles": {bundle.name: bundle.sha256 for bundle in models.bundles},
        "plugins": plugin_code(market.config.plugins),
        "versions": {
            name: importlib.metadata.version(name) for name in ("beaufort", "nautilus_trader", "numpy")
        },
    }
