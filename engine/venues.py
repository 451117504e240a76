"""Where a live session's data comes from: one adapter of Nautilus a venue, and the instruments it knows."""

import dataclasses
import difflib
import gc
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nautilus_trader.adapters import binance, bybit, hyperliquid, okx
from nautilus_trader.common import DataActor, Environment, FileWriterConfig, LoggerConfig, LogLevel
from nautilus_trader.live import LiveNode, LiveNodeBuilder, LiveNodeConfig
from nautilus_trader.model import ActorId, TraderId

from catalogs.instruments import Instrument
from catalogs.reader import Catalog
from core.errors import BeaufortError
from engine.config import LiveSettings


@dataclasses.dataclass(frozen=True)
class DataSource:
    """A data client: the venue it serves, and what Nautilus makes it from."""

    venue: str
    factory: Any
    config: Any


def venue_source(live: LiveSettings) -> DataSource:
    """The data client of ``live.adapter``. Market data needs no keys.

    Raises
    ------
    BeaufortError
        If the adapter refuses its settings.
    """
    make = _ADAPTERS[live.adapter]
    try:
        return DataSource(live.adapter.upper(), *make(live))
    except (RuntimeError, TypeError, ValueError) as error:
        raise BeaufortError(f"live: the {live.adapter} adapter refuses its settings: {error}") from None


def _binance(live: LiveSettings) -> tuple[Any, Any]:
    products = binance.BinanceProductType
    config = binance.BinanceDataClientConfig(
        product_type={"linear": products.USD_M, "inverse": products.COIN_M, "spot": products.SPOT}[
            live.product
        ],
        environment=_environment(live, binance.BinanceEnvironment.LIVE, binance.BinanceEnvironment.TESTNET),
        base_url_http=live.base_url_http,
        base_url_ws=live.base_url_ws,
    )
    return binance.BinanceDataClientFactory(), config


def _bybit(live: LiveSettings) -> tuple[Any, Any]:
    products = bybit.BybitProductType
    config = bybit.BybitDataClientConfig(
        product_types=[
            {"linear": products.LINEAR, "inverse": products.INVERSE, "spot": products.SPOT}[live.product]
        ],
        environment=_environment(live, bybit.BybitEnvironment.MAINNET, bybit.BybitEnvironment.TESTNET),
        base_url_http=live.base_url_http,
        base_url_ws_public=live.base_url_ws,
    )
    return bybit.BybitDataClientFactory(), config


def _okx(live: LiveSettings) -> tuple[Any, Any]:
    types: Any = okx.OKXInstrumentType  # type: ignore[attr-defined]  # absent from the stubs
    config = okx.OKXDataClientConfig(
        instrument_types=[types.SPOT if live.product == "spot" else types.SWAP],
        environment=_environment(live, okx.OKXEnvironment.LIVE, okx.OKXEnvironment.DEMO),
        base_url_http=live.base_url_http,
        base_url_ws_public=live.base_url_ws,
    )
    return okx.OKXDataClientFactory(), config


def _hyperliquid(live: LiveSettings) -> tuple[Any, Any]:
    environments = hyperliquid.HyperliquidEnvironment
    config = hyperliquid.HyperliquidDataClientConfig(
        environment=_environment(live, environments.MAINNET, environments.TESTNET),
        base_url_http=live.base_url_http,
        base_url_ws=live.base_url_ws,
    )
    return hyperliquid.HyperliquidDataClientFactory(), config


_ADAPTERS: dict[str, Callable[[LiveSettings], tuple[Any, Any]]] = {
    "binance": _binance,
    "bybit": _bybit,
    "okx": _okx,
    "hyperliquid": _hyperliquid,
}


def _environment(live: LiveSettings, real: Any, testnet: Any) -> Any:
    return testnet if live.environment == "testnet" else real


def node_config(live: LiveSettings, log: Path, **more: Any) -> LiveNodeConfig:
    """What every node has in common; it logs into a file in the folder ``log``, and nothing on the screen."""
    return LiveNodeConfig(
        environment=Environment.LIVE,
        trader_id=TraderId("BEAUFORT-001"),
        shutdown_on_error=True,
        timeout_connection_secs=live.connect_timeout / 1e9,
        logging=LoggerConfig(
            stdout_level=LogLevel.OFF,
            fileout_level=LogLevel.INFO,
            file_config=FileWriterConfig(directory=str(log), file_name="node"),
        ),
        **more,
    )


def find_instruments(
    live: LiveSettings, source: DataSource, wanted: Sequence[str], log: Path
) -> dict[str, Instrument]:
    """Definitions of ``wanted`` (instrument ids), from the catalog ``live.instruments`` or else the venue.

    Raises
    ------
    BeaufortError
        If the venue does not answer within ``live.connect_timeout``, or there is no such instrument.
    """
    for name in wanted:
        if name.rpartition(".")[2] != source.venue:
            raise BeaufortError(
                f"live: {name} is not an instrument of {source.venue}, where this session listens"
            )
    known = _ask(live, source, wanted, log) if live.instruments is None else _look_up(live.instruments)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {len(known)} others"
            raise BeaufortError(f"live: {live.instruments or source.venue} has no instrument {name}; {hint}")
    return {name: known[name] for name in wanted}


def _look_up(catalog: Path) -> dict[str, Instrument]:
    try:
        known, now = Catalog(catalog), time.time_ns()
        ids = [str(instrument.id) for instrument in known.instruments()]
        return {name: known.definitions(name, now, now + 1)[-1] for name in ids}
    except (FileNotFoundError, ValueError) as error:
        raise BeaufortError(f"live.instruments: {error}") from None


_PATIENCE = 5.0  # seconds that an interrupted question may take to end


@dataclasses.dataclass(frozen=True)
class _AskConfig:
    actor_id: ActorId
    wanted: tuple[str, ...]
    known: dict[str, Any]


class _Ask(DataActor):
    """Notes the instruments that a connected node knows, and ends it."""

    def __init__(self, config: _AskConfig) -> None:
        super().__init__(config)
        self._c = config

    def on_start(self) -> None:
        for instrument_id in self.cache.instrument_ids():
            name = str(instrument_id)
            self._c.known[name] = self.cache.instrument(instrument_id) if name in self._c.wanted else None
        self.shutdown_system("the instruments are known")


def _ask(live: LiveSettings, source: DataSource, wanted: Sequence[str], log: Path) -> dict[str, Any]:
    """Connect to the venue for as long as it takes to learn its instruments.

    In a thread of its own: in the main one the node takes a Ctrl-C for itself, for the stop that it is about
    to make anyway, and the session would go on to trade.
    """
    known: dict[str, Any] = {}
    stops: list[Callable[[], None]] = []
    problems: list[BeaufortError] = []

    def asking() -> None:
        try:
            _connect(live, source, wanted, log, known, stops)
        except BeaufortError as error:
            problems.append(BeaufortError(str(error)))  # the original's trace holds the node
        except ValueError:
            pass  # a node that could not connect puts signal handlers back, which no thread but main may
        gc.collect()  # Nautilus wants its nodes dropped in the thread that made them

    thread = threading.Thread(target=asking, name="instruments", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for stop in stops:
            stop()
        thread.join(_PATIENCE)
        raise
    if problems:
        raise problems[0]
    if not known:  # some adapters log that they could not connect, and go on
        raise BeaufortError(
            f"live: {source.venue} told of no instrument within {live.connect_timeout / 1e9:g} s; check the "
            "network (and live.base_url_http)"
        )
    return known


def _connect(
    live: LiveSettings,
    source: DataSource,
    wanted: Sequence[str],
    log: Path,
    known: dict[str, Any],
    stops: list[Callable[[], None]],
) -> None:
    builder = LiveNodeBuilder.from_config("beaufort", node_config(live, log, delay_post_stop_secs=0.0))
    node = build(builder.add_data_client(source.venue, source.factory, source.config))
    try:
        stops.append(node.handle().stop)
        node.add_actor(_Ask(_AskConfig(ActorId("ASK-001"), tuple(wanted), known)))
        run(node, source.venue, live)
    finally:
        node.dispose()


def build(builder: LiveNodeBuilder) -> LiveNode:
    """The node; what an adapter objects to becomes a ``BeaufortError``."""
    try:
        return builder.build()
    except (RuntimeError, TypeError, ValueError) as error:
        raise BeaufortError(f"live: the node could not be built: {error}") from None


def run(node: LiveNode, venue: str, live: LiveSettings) -> None:
    """Run ``node`` until it is stopped.

    Raises
    ------
    BeaufortError
        If the venue does not answer in time, or an error ends the node.
    """
    try:
        node.run()
    except RuntimeError as error:
        if "timeout" not in str(error):
            raise BeaufortError(f"live: the node ended: {error}") from None
        seconds = live.connect_timeout / 1e9
        raise BeaufortError(
            f"live: {venue} did not answer within {seconds:g} s; check the network (and live.base_url_http)"
        ) from None
