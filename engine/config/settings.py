"""Run configs: everything one run needs, as typed settings."""

import os
import typing
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from nautilus_trader.model import BarType, InstrumentId, Money
from pydantic import Field, ValidationInfo, field_validator, model_validator

import strategies
from core.errors import BeaufortError
from core.messages import STAGES
from core.plugins import Plugins
from core.settings import (
    Duration,
    Integer,
    Probability,
    Settings,
    Time,
    default,
    format_duration,
    format_time,
    shown,
    unit,
)
from engine.config.reading import load_settings, settings_from, to_toml
from features.bars import BarSpec, ExternalBars
from features.names import choose
from features.registry import Need
from regimes import RegimeSettings
from strategies import PolicySettings
from strategies.forecasters import ForecastSettings
from strategies.governor import RiskSettings
from volatility import VolatilitySettings
from volatility.gate import GateSettings

__all__ = ["RunConfig", "load_config", "load_settings", "output_folder", "settings_from", "to_toml"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
"""A name a config makes up: it stands in feature names and in the ids of Nautilus components."""

_MOST_FITS = 10_000
_MOST_FEE = Decimal("0.01")
Fee = Annotated[Decimal, Field(decimal_places=12), unit("fraction of notional, 0.0005 is 5 bps")]


class StreamSettings(Settings):
    """One instrument's feeds."""

    instrument: str
    """Its id in the catalog, such as ``"BTCUSDT-PERP.BINANCE"``."""
    book: Literal["deltas", "quotes", "none"] = "deltas"
    """An L2 book (deltas), the best bid and ask (quotes), or none, for trades or bars alone."""
    trades: bool = True
    """Whether its trades are read."""
    mark: bool = False
    """Whether features may read its mark price."""
    index: bool = False
    """Whether features may read its index price."""
    funding: bool = False
    """Whether features may read its funding rate."""
    bars: str | None = None
    """Bar type of external bars, such as ``"XBTUSD-PERP.BITMEX-1-MINUTE-LAST-EXTERNAL"``."""

    @property
    def feeds(self) -> frozenset[Need]:
        """What features can be made of."""
        books: dict[str, set[Need]] = {"deltas": {"book", "depth"}, "quotes": {"book"}, "none": set()}
        found = set(books[self.book])
        if self.trades:
            found |= {"trades", "ohlcv"}
        if self.bars is not None:
            found.add("ohlcv")
        others: tuple[Need, ...] = ("mark", "index", "funding")
        return frozenset(found.union(name for name in others if getattr(self, name)))

    @field_validator("instrument")
    @classmethod
    def _an_instrument(cls, value: str) -> str:
        InstrumentId.from_str(value)
        return value

    @field_validator("bars")
    @classmethod
    def _bars_of_this_instrument(cls, value: str | None, info: ValidationInfo) -> str | None:
        instrument = info.data.get("instrument")
        of = None if value is None else str(BarType.from_str(value).instrument_id)
        if of and instrument and of != instrument:
            raise ValueError(f"{shown(value)} are not of {instrument}")
        return value


class DataSettings(Settings):
    """Where the data is and which of it is read."""

    catalog: Path
    """Folder of the catalog, as ``beaufort data import`` writes it."""
    trade: str = ""
    """The stream that is traded; the others only inform. Absent: the only stream there is."""
    streams: dict[Name, StreamSettings]
    """The instruments that are read, each under a name of your own that features use (``basis@spot``)."""
    series: dict[Name, str] = Field(default={})
    """Slow series: a name used in features, and its ``"<series>/<id>"`` in the catalog."""

    @model_validator(mode="before")
    @classmethod
    def _the_only_stream(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        streams = tree.get("streams")
        if isinstance(streams, dict) and len(streams) == 1 and "trade" not in tree:
            return {**tree, "trade": next(iter(streams))}
        return tree

    @field_validator("streams")
    @classmethod
    def _streams_are_clear(
        cls, value: dict[str, StreamSettings], info: ValidationInfo
    ) -> dict[str, StreamSettings]:
        instruments = [stream.instrument for stream in value.values()]
        twice = {name for name in instruments if instruments.count(name) > 1}
        if twice:
            raise ValueError(
                f"{', '.join(sorted(twice))}: instrument of two streams; an instrument has one stream"
            )
        trade = info.data.get("trade")
        if trade is None:
            return value
        if trade not in value:
            raise ValueError(f"trade = {shown(trade)} is not one of the streams: {', '.join(value)}")
        traded = value[trade]
        if traded.book == "deltas" and not traded.trades and traded.bars is None:
            raise ValueError(
                f"{trade} is traded but has trades = false: with book deltas alone Nautilus "
                "denies every market order (it prices them by trades), and no position could be closed"
            )
        return value

    @field_validator("series")
    @classmethod
    def _series_are_clear(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name, identifier in value.items():
            series, _, instrument = identifier.partition("/")
            if not series or not instrument:
                raise ValueError(
                    f"{name} = {shown(identifier)} is not <series>/<id>, such as 'open_interest/BTCUSDT.SIM'"
                )
        both = set(info.data.get("streams", ())) & set(value)
        if both:
            raise ValueError(f"{', '.join(sorted(both))}: names a stream and a series; rename one")
        return value

    @property
    def aliases(self) -> list[str]:
        """Stream names, the traded one first: the order of stream indices in events."""
        return [self.trade, *(name for name in self.streams if name != self.trade)]


class VenueSettings(Settings):
    """The simulated venue of a backtest or a sandbox session.

    What our orders took from a level stays taken until the level's size changes, and a trade fills all of
    them together by no more than its size.

    What prices the orders of a backtest is the book, without one the trades, without them the bars. Where
    that feed is silent for longer than ``stale_after``, no price stands: what is sent then reaches the venue
    when the next one is known. Unset, it is twenty times the feed's usual interval (the median), at least
    5 s, and with bars every missing one. With bars alone an order fills at the open of the bar that follows
    (``bar_fills = "next_open"``), or with ``"close"`` at the close it was decided on, which nobody could have
    had; the report then says so.
    """

    starting_balance: str = "100000 USDT"
    """Amount and currency; that in which the traded instrument is settled."""
    maker_fee: Fee = Decimal("0.0002")
    """Of orders that rested; negative where the venue pays it."""
    taker_fee: Fee = Decimal("0.0005")
    """Of orders that took."""
    latency: Duration = default("5ms", most="1m")
    """From sending an order, a change or a cancellation to its arrival at the venue."""
    default_leverage: Annotated[Decimal, unit("times")] = Field(
        default=Decimal(10), gt=0, le=1_000_000, decimal_places=12
    )
    """Leverage that the venue's margin is computed with."""
    queue_position: bool = True
    """Whether limit orders wait until trades have gone through what stood before them at their price; bars
    have no trades."""
    liquidation: bool = True
    """Whether the position is taken over, and trading ends for good, where equity meets the instrument's
    maintenance margin: by the mark price where the traded stream has one, else by the range of its bars."""
    stale_after: Duration | None = Field(default=None, gt=0)
    """Silence after which the feed that prices orders says nothing any more."""
    bar_fills: Literal["next_open", "close"] = "next_open"
    """Where orders fill on bars alone: at the open of the bar that follows, or at the close before."""
    fill_probability: Probability = Field(default=1.0, ge=0, le=1)
    """Chance that a touched limit order fills (best bid/ask feeds and bars)."""
    slip_probability: Probability = Field(default=0.0, ge=0, le=1)
    """Chance that a taker slips one tick (best bid/ask feeds and bars)."""

    @field_validator("maker_fee", "taker_fee")
    @classmethod
    def _fraction(cls, value: Decimal) -> Decimal:
        if not -_MOST_FEE < value < _MOST_FEE:
            raise ValueError(
                f"{value} is not between -{_MOST_FEE} and {_MOST_FEE}; a fee is a fraction of notional "
                "(5 bps is 0.0005)"
            )
        return value

    @field_validator("starting_balance")
    @classmethod
    def _money(cls, value: str) -> str:
        if not Money.from_str(value).as_double() > 0:
            raise ValueError(f"{shown(value)} is nothing to start with; write an amount and a currency")
        return value


class ScheduleSettings(Settings):
    """Walk-forward: a bundle every ``step``, each fitted on the ``window`` before it."""

    window: Annotated[Duration, Field(gt=0)]
    """How much time each fit sees."""
    step: Annotated[Duration, Field(gt=0)]
    """Time from one fit to the next."""


class SpanSettings(Settings):
    """A stretch of market time."""

    start: Time
    """Where it begins."""
    end: Time
    """Where it ends; nothing at or after this moment belongs to it."""

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> typing.Self:
        if self.end <= self.start:
            span = f"end {format_time(self.end)} is not after start {format_time(self.start)}"
            raise ValueError(f"{span}; change one of them")
        return self


class TrainSettings(SpanSettings):
    """The training span, and where bundles go. Nothing at or after ``end`` is read."""

    bundles: Path
    """Folder that the fitted models are written to and read from."""
    catalog: Path | None = None
    """Train on another catalog than is traded, one with the same instruments."""
    valid_to: Time | None = None
    """Until when the last bundle may speak; absent: until replaced, with a schedule to the backtest's end."""
    schedule: ScheduleSettings | None = None
    """Fit anew as time goes on; without it there is one fit."""

    @model_validator(mode="after")
    def _speaks_after_its_end(self) -> typing.Self:
        if self.valid_to is not None and self.valid_to <= self.end:
            raise ValueError(
                f"valid_to {format_time(self.valid_to)} is not after end {format_time(self.end)}: models "
                "never trade the time they were trained on; move it"
            )
        return self


class BacktestSettings(SpanSettings):
    """The span that is traded. Data is read from ``warmup`` before ``start`` so that features are ready."""

    warmup: Duration = default("10m", most="366d")
    """How long before ``start`` data is read, so that features and models are ready."""
    runs: Path = Path("runs")
    """Where run folders are made."""


class LiveSettings(Settings):
    """A live session with simulated execution: whose data, and what is remembered between sessions."""

    adapter: Literal["binance", "bybit", "okx", "hyperliquid"]
    """The venue; every stream must be an instrument of it."""
    product: Literal["linear", "inverse", "spot"] = "linear"
    """Which of its markets: linear or inverse perpetuals, or spot."""
    environment: Literal["live", "testnet"] = "live"
    """``"testnet"`` reads the venue's test market."""
    base_url_http: str | None = None
    """Another address than the venue's own."""
    base_url_ws: str | None = None
    """Another address than the venue's own."""
    instruments: Path | None = None
    """A catalog with the instruments' definitions; without it the venue is asked."""
    connect_timeout: Duration = default("30s", positive=True, most="1h")
    """How long the venue may take to answer."""
    state: Path = Path("runs/live-state")
    """Folder of the file ``<name>.npz`` that a session leaves for the next; without it one starts anew."""
    resume_within: Duration = default("5m", most="30d")
    """How long ago the market may have been heard for features and models to go on from that file."""


class RunConfig(Settings):
    """Everything one run needs: data, bars, features, models, strategies, risk, venue, spans.

    Relative paths start at the folder the command is run in, not at the config's.
    """

    plugins: Plugins = ()
    """Packages of your own whose features and kinds can be named here, found where Python looks or in the
    current folder."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Names the run and its folders."""
    seed: Annotated[Integer, unit("any")] = Field(default=7, ge=0, lt=2**63)
    """Of everything random: fits and the venue's luck."""
    data: DataSettings
    """Which data is read, and where it is."""
    bars: BarSpec
    """When a bar closes."""
    features: tuple[str, ...] = ()
    """Features to compute beside those that the models read; see ``beaufort features --list``."""
    regime: RegimeSettings
    """What kind of market it is."""
    volatility: VolatilitySettings
    """How far prices will move."""
    gate: GateSettings = GateSettings()
    """When risk goes off and comes back."""
    forecast: ForecastSettings | None = None
    """Which way prices will move; without it nobody forecasts direction."""
    strategies: dict[Name, PolicySettings]
    """Who trades in which regime, each under a name of your own."""
    risk: RiskSettings = RiskSettings()
    """Limits that hold for every strategy."""
    venue: VenueSettings = VenueSettings()
    """The simulated venue."""
    train: TrainSettings
    """What the models are fitted on."""
    backtest: BacktestSettings
    """What is traded."""
    live: LiveSettings | None = None
    """A live session, of ``beaufort live`` alone."""

    @field_validator("bars")
    @classmethod
    def _external_bars_come_from_somewhere(cls, value: BarSpec, info: ValidationInfo) -> BarSpec:
        data = info.data.get("data")
        if isinstance(value, ExternalBars) and data is not None:
            traded, place = data.streams[data.trade], f"data.streams.{data.trade}"
            if traded.bars is None:
                raise ValueError(f"kind = 'external' needs {place}.bars, the type of the bars")
            if traded.trades:
                raise ValueError(f"kind = 'external' needs {place}.trades = false: bars stand for the trades")
            length = BarType.from_str(traded.bars).spec.timedelta
            if length != timedelta(microseconds=value.interval / 1_000):
                raise ValueError(f"interval is not the length of {traded.bars}, {length}")
        return value

    @field_validator("regime", "forecast")
    @classmethod
    def _features_suit_the_data[V](cls, value: V, info: ValidationInfo) -> V:
        data = info.data.get("data")
        if data is None:
            return value
        feeds = data.streams[data.trade].feeds
        if isinstance(value, ForecastSettings):
            return value.suited(feeds, data.series)
        return value.suited(feeds) if isinstance(value, RegimeSettings) else value

    @field_validator("features", *(stage.name for stage in STAGES))
    @classmethod
    def _features_are_known[V](cls, value: V) -> V:
        unknown = []
        for name in value if isinstance(value, tuple) else getattr(value, "columns", ()):
            try:
                choose(name)
            except ValueError as error:
                unknown.append(str(error))
        if unknown:
            raise ValueError("; ".join(unknown))
        return value

    @field_validator("strategies")
    @classmethod
    def _one_owner_a_regime[V: Mapping[str, Any]](cls, value: V, info: ValidationInfo) -> V:
        strategies.check_owners(value)
        if info.data.get("forecast", ...) is None:
            for name, policy in value.items():
                if policy.on_forecast:
                    raise ValueError(
                        f"{name} (kind {policy.kind!r}) trades on a forecast, and there is none: write a "
                        "[forecast] table, or take the strategy out"
                    )
        return value

    @model_validator(mode="after")
    def _so_many_fits(self) -> typing.Self:
        train = self.train
        if train.schedule is not None:
            last = train.valid_to or self.backtest.end
            fits = 1 + max(0, last - train.end) // train.schedule.step
            if fits > _MOST_FITS:
                raise ValueError(
                    f"train.schedule: a step of {format_duration(train.schedule.step)} from train.end "
                    f"{format_time(train.end)} until {format_time(last)} makes {fits:,} fits, at most "
                    f"{_MOST_FITS:,} are made; lengthen the step"
                )
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Every feature the run computes: those listed, and those the models read."""
        models = [part for stage in STAGES if (part := getattr(self, stage.name)) is not None]
        return tuple(dict.fromkeys([*self.features, *(name for model in models for name in model.columns)]))


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config, with ``overrides`` of the form ``path.to.key=value`` applied on top.

    Raises
    ------
    BeaufortError
        Listing every problem of the file at once, each with its path in the file and the nearest known key.
    """
    return load_settings(RunConfig, path, overrides)


def output_folder(key: str, path: Path) -> Path:
    """``path``, made if it is not there.

    Raises
    ------
    BeaufortError
        If no folder can be there, or nothing may be written in it; ``key`` names the setting.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if path.is_file() else error.strerror
        raise BeaufortError(f"{key} = '{path}' cannot be a folder: {why}") from None
    if not os.access(path, os.W_OK):
        raise BeaufortError(f"{key} = '{path}': nothing may be written there")
    return path
