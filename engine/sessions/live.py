"""Live sessions: the assembled components on a Nautilus live node, with simulated execution, recorded."""

import json
import math
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nautilus_trader.adapters.sandbox import SandboxExecutionClientConfig, SandboxExecutionClientFactory
from nautilus_trader.common import Cache, CacheConfig
from nautilus_trader.execution import DefaultFillModel, MakerTakerFeeModel, StaticLatencyModel
from nautilus_trader.live import LiveExecutionEngineConfig, LiveNode, LiveNodeBuilder
from nautilus_trader.model import (
    AccountId,
    AccountType,
    BookType,
    LiquiditySide,
    Money,
    OmsType,
    OrderFilled,
    OrderSide,
    Venue,
)

from actors.guard import RunGuard
from actors.hub import FeatureHub
from actors.orders import desk_of
from catalogs.recording import CatalogRecorder
from core.errors import BeaufortError
from core.journal import FolderJournal, Tables
from core.records import EquityMark, Fill, Liquidation
from engine.bundles import Models
from engine.config import LiveSettings, RunConfig, to_toml
from engine.identity import bar_identity
from engine.pipeline import Market
from engine.progress import console
from engine.reports.run_folder import read_run
from engine.reports.summary import all_refused, summarize
from engine.sessions.assembly import assemble
from engine.sessions.backtest import describe
from engine.sessions.live_state import SessionState, fitting
from engine.sessions.orders import order_records, order_warnings
from engine.sessions.runs import describe_run, end_run, new_run_folder
from engine.sessions.settlement import account_balance
from engine.venues import DataSource, build, find_instruments, node_config, run, venue_source
from strategies.account import Account

_FLUSH = 60 * 10**9  # ns between two writes of the recording
_LINGER = 1.0  # seconds a stopping node waits, so that cancellations and exits are seen to arrive


def run_live(config: RunConfig, seconds: float | None = None, source: DataSource | None = None) -> int:
    """Trade live data with simulated execution until SIGINT or SIGTERM, or for ``seconds``.

    The run folder it leaves holds what a backtest's holds and ``catalog/``: everything that was received, as
    it was received. Its ``config.toml`` is the config of a backtest of that catalog, so ``beaufort backtest
    <folder>/config.toml`` takes the decisions of the session again (of one that began from nothing; one that
    resumed had a memory that the catalog does not hold).

    Parameters
    ----------
    config : RunConfig
        With a ``[live]`` section.
    seconds : float, optional
        Stop by itself after this long.
    source : DataSource, optional
        Where data comes from, instead of the venue that ``live.adapter`` names.

    Returns
    -------
    int
        The exit code: 0, or 1 where orders were sent and every one was refused.

    Raises
    ------
    BeaufortError
        If the venue does not answer, bundles are missing or do not fit, or a component failed (what was done
        until then is in the run folder all the same).
    """
    if config.live is None:
        raise BeaufortError("live: the config has no [live] section; see configs/live")
    if config.data.series:
        names = ", ".join(config.data.series)
        raise BeaufortError(
            f"live: nothing publishes the series {names} in a live session; remove data.series"
        )
    source = source or venue_source(config.live)
    wanted = [config.data.streams[alias].instrument for alias in config.data.aliases]
    folder = journal = None
    try:
        with _interruptible() as from_now_on:
            folder = new_run_folder(config.backtest.runs, config.name)
            from_now_on()
            instruments = find_instruments(config.live, source, wanted, folder)
            recorder = CatalogRecorder(folder / "catalog", list(instruments.values()))
            journal = FolderJournal(folder, durable=True)
            session = Session(config, config.live, source, folder, recorder, journal)
    except BaseException:
        if journal is not None:
            journal.close()
        if folder is not None:
            shutil.rmtree(folder)  # nothing has run
        raise
    session.run(seconds)
    if refused := all_refused(summarize(read_run(folder))):
        console.print(f"warning: {refused}", highlight=False, soft_wrap=True)
        return 1
    return 0


def build_node(
    config: RunConfig,
    live: LiveSettings,
    strategies: Sequence[Any],
    source: DataSource,
    log: Path,
    balance: Money,
) -> LiveNode:
    """A live node: the data client of ``source``, and simulated execution at its venue.

    Parameters
    ----------
    strategies : sequence
        Such as the hub.
    log : Path
        Folder for the node's log file.
    balance : Money
        What the simulated account begins with.

    Raises
    ------
    BeaufortError
        If an adapter refuses its settings.
    """
    common = node_config(
        live,
        log,
        delay_post_stop_secs=_LINGER,
        exec_engine=LiveExecutionEngineConfig(reconciliation=False),  # a simulated account has no past
        cache=CacheConfig(tick_capacity=100, bar_capacity=100),
    )
    builder = LiveNodeBuilder.from_config("beaufort", common)
    builder = builder.add_data_client(source.venue, source.factory, source.config)
    account = _simulated_account(config, source.venue, balance)
    node = build(builder.add_simulated_exec_client(source.venue, SandboxExecutionClientFactory(), account))
    for strategy in strategies:
        node.add_strategy(strategy)
    return node


def _simulated_account(config: RunConfig, venue: str, balance: Money) -> SandboxExecutionClientConfig:
    """The venue of a backtest, but that here Nautilus settles no funding."""
    settings, traded = config.venue, config.data.streams[config.data.trade]
    return SandboxExecutionClientConfig(
        venue=Venue(venue),
        starting_balances=[balance],
        account_id=AccountId(f"{venue}-001"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        default_leverage=settings.default_leverage,
        book_type=BookType.L2_MBP if traded.book == "deltas" else BookType.L1_MBP,
        fee_model=MakerTakerFeeModel(settings.maker_fee, settings.taker_fee),
        fill_model=DefaultFillModel(settings.fill_probability, settings.slip_probability, config.seed),
        latency_model=StaticLatencyModel(base_latency_nanos=settings.latency),
        # Without it the sandbox replays the last trade at every order sent, and fills what rests once more.
        liquidity_consumption=True,
        bar_execution=traded.book == "none" and not traded.trades,
        queue_position=settings.queue_position and traded.trades,
    )


class Session:
    """One live session: what it is made of, and what it leaves behind."""

    def __init__(
        self,
        config: RunConfig,
        live: LiveSettings,
        source: DataSource,
        folder: Path,
        recorder: CatalogRecorder,
        journal: FolderJournal,
    ) -> None:
        self._live, self._source, self._folder, self._recorder = live, source, folder, recorder
        self._guard, self._journal = RunGuard(), journal
        self._last_bar = self._flushed = 0
        self._started = datetime.now(UTC).isoformat()
        data = config.data.model_copy(update={"catalog": folder / "catalog"})
        spans = config.train.model_copy(update={"catalog": config.train.catalog or config.data.catalog})
        config = config.model_copy(update={"data": data, "train": spans})
        market = Market(config)
        self._models = market.models()
        self._identity = identity(market, self._models)
        self._state_file = live.state / f"{config.name}.npz"
        remembered = SessionState.load(self._state_file)
        now = self._made = time.time_ns() // 1_000 * 1_000  # configs write times to the microsecond
        resumed = remembered is not None and self._fits(remembered, now)
        self._trade_from = now if resumed else now + config.backtest.warmup
        if remembered is not None and remembered.balance:
            config = self._with_balance(config, remembered.balance)
        self._config = config
        self._market = Market(config)
        hub = assemble(
            self._market,
            self._models,
            "live",
            self._journal,
            self._guard,
            first=now,
            trade_from=self._trade_from,
            on_bar=self._on_bar,
            record=recorder,
        )
        assert isinstance(hub, FeatureHub)
        self._hub = hub
        if remembered is not None:
            # The account's history counts however old it is.
            governor = self._hub.governor
            governor.memory.update(fitting("governor", remembered.parts["governor"], governor.memory))
            if resumed:
                try:
                    self._hub.load(remembered.parts)
                    for name, stage in self._hub.stages.items():
                        stage.load(remembered.parts.get(name, {}))
                    self._hub.trader.load(remembered.policies)
                except ValueError as error:
                    raise BeaufortError(f"{self._state_file}: {error}; remove it to begin anew") from error
        balance = account_balance(self._market.traded, config.venue.starting_balance)
        self._node = build_node(config, live, [self._hub], source, folder, balance)

    def _fits(self, remembered: SessionState, now: int) -> bool:
        """Whether features and models may go on from there."""
        age = now - remembered.heard
        if remembered.identity != self._identity:
            why = "is of a session that failed, or of other instruments, features, bars or bundles"
        elif age < 0:
            why = f"is {-age / 1e9:.0f} s ahead of this machine's clock"
        elif age > self._live.resume_within:
            why = f"is {age / 1e9:.0f} s old"
        else:
            console.print(f"going on from {self._state_file}", highlight=False)
            return True
        console.print(f"{self._state_file} {why}: features and models begin anew", highlight=False)
        return False

    def _with_balance(self, config: RunConfig, balance: str) -> RunConfig:
        """The simulated account begins with what the last session's ended with."""
        asked = config.venue.starting_balance
        if balance.split()[-1] != asked.split()[-1]:
            raise BeaufortError(
                f"{self._state_file}: the account of the last session is in {balance.split()[-1]}, "
                f"venue.starting_balance is {asked}; remove the file to begin anew"
            )
        console.print(f"the account goes on with {balance} from {self._state_file}", highlight=False)
        venue = config.venue.model_copy(update={"starting_balance": balance})
        return config.model_copy(update={"venue": venue})

    def run(self, seconds: float | None) -> None:
        """Run until stopped, then write the run folder and the state; see ``run_live``."""
        began = time.perf_counter()
        problems: list[str] = []
        describe_run(self._folder, *self._described())
        console.print(f"live at {self._source.venue}; Ctrl-C stops; {self._folder}", highlight=False)
        with _stopping(self._node, seconds):
            try:
                run(self._node, self._source.venue, self._live)
            except BeaufortError as error:
                problems.append(str(error))
        orders = order_records(self._node.cache, self._hub.trader)
        account = self._hub.governor.account
        mark = self._journal.latest(EquityMark)
        for fill in _unseen_fills(self._node.cache, self._journal.tables(), mark, account):
            self._journal.write(fill)
        for order in orders:
            self._journal.write(order)
        self._node.dispose()
        del (
            self._node
        )  # one process holds one live node at a time, and the node's components hold this session
        problems += self._guard.failures[:1]
        # First of all, because another Ctrl-C may cut short what follows.
        self._save_state(account.equity(math.nan), failed=bool(problems))
        try:
            self._recorder.close()
        except (OSError, ValueError) as error:
            problems.append(f"live: the recording is incomplete: {error}")
        manifest, config = self._described()
        manifest |= {
            "wall_s": time.perf_counter() - began,
            "complete": not problems,
            "warnings": [
                *order_warnings(orders, ()),
                *self._models.warnings(self._trade_from, self._last_bar + 1),
            ],
        }
        end_run(self._folder, manifest, config, self._journal)
        if self._guard.traces:
            (self._folder / "failure.txt").write_text("\n".join(self._guard.traces))
        if problems:
            raise BeaufortError("\n".join([*problems, f"what was done until then is in {self._folder}"]))

    def _on_bar(self, ts: int) -> None:
        self._last_bar = ts
        if ts - self._flushed >= _FLUSH:
            self._flushed = ts
            self._recorder.flush(ts)
            describe_run(self._folder, *self._described())
            mark = self._journal.latest(EquityMark)
            if mark is not None:  # for the case that this process is killed
                self._save_state(mark.equity, failed=False)

    def _described(self) -> tuple[dict[str, Any], str]:
        """Manifest and config of the run folder, as they are while the session goes on."""
        config, hub = self._config, self._hub
        # A backtest of the recording begins where the hub began, so that it closes the same bars, and ends
        # where the last one was closed.
        warmup = max(self._trade_from - (hub.started or self._made), 0)
        last = max(self._last_bar, self._trade_from)
        end = max(last + config.bars.grace, self._trade_from + 1)
        span = {"start": self._trade_from, "end": end, "warmup": warmup}
        played = config.model_copy(update={"backtest": config.backtest.model_copy(update=span)})
        manifest = {
            "name": config.name,
            "mode": "sandbox",
            "started": self._started,
            "wall_s": 0.0,
            "events": self._recorder.received,
            "late_events": hub.late,
            "start": self._trade_from,
            "end": last,
            "complete": False,
            "warnings": self._models.warnings(self._trade_from, last + 1),
            **describe(self._market, self._models),
        }
        return manifest, to_toml(played)

    def _save_state(self, equity: float, *, failed: bool) -> None:
        """Keep what the next session needs; of one that failed the account's history alone."""
        hub = self._hub
        if not hub.heard or (failed and not self._last_bar):
            return  # what an earlier session left still holds
        parts = {"governor": hub.governor.memory}
        policies: dict[str, bytes] = {}
        if not failed:
            parts |= hub.save()
            parts |= {name: stage.save() for name, stage in hub.stages.items()}
            policies = hub.trader.save()
        identity = "" if failed else self._identity
        currency = self._config.venue.starting_balance.split()[-1]
        balance = f"{equity:.8f} {currency}" if math.isfinite(equity) else ""
        SessionState(parts, policies, hub.heard, balance, identity).save(self._state_file)


def identity(market: Market, models: Models) -> str:
    """What states of features and models must agree on to be gone on from."""
    instruments = [str(instrument.id) for instrument in market.instruments.values()]
    bundles = [[bundle.name, bundle.sha256] for bundle in models.bundles]
    closes = market.config.bars.closes(market.kernel.streams[0].contract)
    shapes = [
        {name: list(array.shape) for name, array in part.initial_state().items()}
        for part in (market.kernel, closes)
    ]
    return json.dumps([instruments, market.kernel.schema_hash, shapes, bar_identity(market.config), bundles])


def _unseen_fills(cache: Cache, tables: Tables, mark: EquityMark | None, account: Account) -> list[Fill]:
    """Fills after the strategies had stopped, those that close positions; they are booked here.

    Parameters
    ----------
    tables
        What the strategies saw.
    mark
        The last one before they stopped.
    """
    if len(tables[Liquidation]):
        return []  # whatever fills later is the venue's
    seen = Counter(tables[Fill]["client_order_id"].to_pylist())
    price, regime, risk_on = (
        (math.nan, "none", False) if mark is None else (mark.price, mark.regime, mark.risk_on)
    )
    unseen = []
    for order in cache.orders():
        identity = str(order.client_order_id)
        fills = [event for event in order.events() if isinstance(event, OrderFilled)]
        for fill in fills[seen[identity] :]:
            maker = fill.liquidity_side is LiquiditySide.MAKER
            signed = fill.last_qty.as_decimal() * (1 if fill.is_buy else -1)
            fee = account.fill(fill.ts_event, signed, fill.last_px.as_decimal(), maker=maker)
            unseen.append(
                Fill(
                    fill.ts_event,
                    identity,
                    desk_of(order),
                    str(order.instrument_id),
                    1 if order.side is OrderSide.BUY else -1,
                    fill.last_qty.as_double(),
                    fill.last_px.as_double(),
                    fee,
                    maker,
                    price,
                    regime,
                    risk_on,
                )
            )
    return sorted(unseen, key=lambda fill: (fill.ts, fill.client_order_id))


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM raise KeyboardInterrupt once the function it gives was called: until then they wait.

    They raise at the end if it was lost in some callback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []
    waiting = True

    def interrupt(number: int, _frame: Any) -> None:
        came.append(number)
        if not waiting:
            raise KeyboardInterrupt

    def from_now_on() -> None:
        nonlocal waiting
        waiting = False
        if came:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield from_now_on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def _stopping(node: LiveNode, seconds: float | None) -> Iterator[None]:
    """SIGTERM, and the end of ``seconds``, stop the node as SIGINT does (which Nautilus handles itself)."""
    handle = node.handle()
    timer = None if seconds is None else threading.Timer(seconds, handle.stop)
    if timer is not None:
        timer.daemon = True
        timer.start()
    previous = None
    if threading.current_thread() is threading.main_thread():
        previous = signal.signal(signal.SIGTERM, lambda _signal, _frame: handle.stop())
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
