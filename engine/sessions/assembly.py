"""One assembly for every mode: the same governor and strategies behind a hub with its stages, or behind a
recording.

One Nautilus component, hub or replay, with the governor and the trader in it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from nautilus_trader.model import BarType, InstrumentId

from actors.governor import GovernorConfig
from actors.guard import RunGuard
from actors.hub import FeatureHub, HubConfig, HubStream
from actors.replay import Recording, ReplayActor, ReplayConfig
from actors.trader import TraderConfig
from core.errors import BeaufortError
from core.journal import Journal
from engine.bundles import Models
from engine.pipeline import Market, run_stages
from engine.sessions.settlement import account_currency, starting_cash
from features.bars import ClockBars, ExternalBars
from strategies import DeskConfig
from strategies.account import Account, AccountTerms
from strategies.contracts import ContractSpec

Mode = Literal["faithful", "replay", "live"]

_YEAR = 365 * 86_400 * 10**9


def assemble(
    market: Market,
    models: Models,
    mode: Mode,
    journal: Journal,
    guard: RunGuard,
    *,
    first: int,
    trade_from: int,
    end: int | None = None,
    holes: Sequence[tuple[int, int]] = (),
    on_bar: Callable[[int], None] | None = None,
    record: Callable[[Any], None] | None = None,
) -> FeatureHub | ReplayActor:
    """Everything that runs on a node, as its one component.

    Parameters
    ----------
    market, models
        The config with its data, and its verified bundles.
    journal, guard
        Filled and asked while the run goes on.
    first, end : int
        Span of market data, ns; ``end`` is needed in a backtest.
    trade_from : int
        Nothing is traded or recorded until a bar closes after it.
    holes : sequence of (int, int)
        Where no price stands, ns, in a backtest: see ``TraderConfig``.
    on_bar : callable, optional
        Told of each closed bar (progress).
    record : callable, optional
        Given each raw data object before it is read (live sessions).
    """
    config = market.config
    spec, bars_per_year = ContractSpec.of(market.traded), _bars_per_year(market, models)
    account = Account(_terms(market, spec))
    governor = GovernorConfig(
        drawdown=config.risk.governor(),
        account=account,
        instrument=market.traded,
        trade_from=trade_from,
        journal=journal,
        guard=guard,
    )
    trader = TraderConfig(
        instrument=market.traded,
        desks=tuple(
            DeskConfig(
                name=name,
                settings=settings,
                instrument=str(market.traded.id),
                spec=spec,
                risk=config.risk,
                bars_per_year=bars_per_year,
                horizon=config.volatility.horizon,
                maker_fee=float(config.venue.maker_fee),
                features=market.kernel.names,
                trade_from=trade_from,
                journal=journal,
                bundle_at=models.bundle_at,
            )
            for name, settings in config.strategies.items()
        ),
        account=account,
        currency=account_currency(market.traded),
        journal=journal,
        latency=0 if mode == "live" else config.venue.latency,
        holes=holes,
        flatten_on_stop=mode == "live",
    )
    common = {"governor": governor, "trader": trader, "guard": guard, "on_bar": on_bar}
    if mode == "replay":
        assert end is not None
        return _replay(market, models, common, first, end)
    return _hub(market, models, common, mode, first, record)


def _terms(market: Market, spec: ContractSpec) -> AccountTerms:
    config = market.config
    traded = config.data.streams[config.data.trade]
    return AccountTerms(
        spec=spec,
        starting=starting_cash(config.venue.starting_balance),
        maker_fee=config.venue.maker_fee,
        taker_fee=config.venue.taker_fee,
        maintenance=float(market.traded.margin_maint) if config.venue.liquidation else math.nan,
        untimed=traded.bars is not None,
    )


def _hub(
    market: Market,
    models: Models,
    common: dict[str, Any],
    mode: Mode,
    first: int,
    record: Callable[[Any], None] | None,
) -> FeatureHub:
    config = market.config
    streams = []
    for alias, needed in zip(config.data.aliases, market.streams, strict=True):
        settings = config.data.streams[alias]
        bar_type = settings.bars
        # The simulated account of a live session sees only what somebody subscribes to: so all that is
        # configured.
        stream = needed if mode == "faithful" else settings
        streams.append(
            HubStream(
                instrument_id=InstrumentId.from_str(settings.instrument),
                book=stream.book,
                trades=stream.trades,
                mark=stream.mark,
                index=stream.index,
                funding=stream.funding,
                bars=None if bar_type is None else BarType.from_str(bar_type),
            )
        )
    return FeatureHub(
        HubConfig(
            **common,
            kernel=market.kernel,
            streams=tuple(streams),
            bars=config.bars,
            stages={name: stage.online(market.kernel.names) for name, stage in models.stages.items()},
            series=_series(market, first) if mode == "faithful" else {},
            record=record,
        )
    )


def _series(market: Market, first: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The recorded external series from ``first`` on: publication times and values by alias."""
    values = {}
    for alias, ref in zip(market.kernel.series, market.series, strict=True):
        try:
            _, last, _ = market.catalog.coverage(ref.identifier, "series")
        except KeyError as error:
            raise BeaufortError(str(error.args[0])) from None
        if last >= first:  # else it stays unknown, as in a batch
            rows = market.catalog.series(ref.name, ref.id, first)
            values[alias] = (rows["ts_init"], rows["value"])
    return values


def _replay(
    market: Market,
    models: Models,
    common: dict[str, Any],
    first: int,
    end: int,
) -> ReplayActor:
    series = market.features(first, end)
    said = run_stages(models, series.table)
    recording = Recording(
        ts=series.table.ts,
        features=series.table.values,
        quotes=series.quotes,
        said={name: table.values for name, table in said.items()},
    )
    bars = market.config.bars
    interval = bars.interval if isinstance(bars, ClockBars) else None
    return ReplayActor(
        ReplayConfig(
            **common,
            recording=recording,
            publish_delay=bars.grace,
            interval=interval,
        )
    )


def _bars_per_year(market: Market, models: Models) -> float:
    """By the interval where there is one; for event bars as counted on the training span of the first
    bundle."""
    bars = market.config.bars
    if isinstance(bars, ClockBars | ExternalBars):
        return _YEAR / bars.interval
    return float(models.bundles[0].manifest["metrics"]["bars_per_year"])
