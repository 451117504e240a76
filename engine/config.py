"""Run configs: TOML files read into typed models, with every error of a file listed at once."""

import difflib
import json
import os
import tomllib
import typing
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import tomli_w
from nautilus_trader.model import BarType, InstrumentId, Money
from pydantic import Field, ValidationInfo, field_validator, model_validator

import regimes
import strategies
import volatility
from engine.errors import BeaufortError
from features.bars import BarSpec, ExternalBars
from features.registry import choose
from features.settings import Duration, Settings, Time, format_time
from strategies import forecasters
from strategies.governor import RiskSettings
from volatility.gate import GateSettings

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
"""A name a config makes up: it stands in feature names and in the ids of Nautilus components."""

_MOST_FEE = Decimal("0.05")


class StreamSettings(Settings):
    """One instrument's feeds.

    ``book``: ``"deltas"`` keeps an L2 book, ``"quotes"`` the best bid and ask, ``"none"`` for bars alone.
    ``bars``: the bar type of external bars, such as ``"XBTUSD-PERP.BITMEX-1-MINUTE-LAST-EXTERNAL"``.
    """

    instrument: str
    book: Literal["deltas", "quotes", "none"] = "deltas"
    trades: bool = True
    mark: bool = False
    index: bool = False
    funding: bool = False
    bars: str | None = None

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
            raise ValueError(f"{value!r} are not of {instrument}")
        return value


class DataSettings(Settings):
    """Where the data is and which of it is read.

    The stream named by ``trade`` is traded; the others only inform. ``series`` maps a name used in features
    to ``"<series>/<id>"`` in the catalog.
    """

    catalog: Path
    trade: str
    streams: dict[Name, StreamSettings]
    series: dict[Name, str] = Field(default={})

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
            raise ValueError(f"trade = {trade!r} is not one of the streams: {', '.join(value)}")
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
                    f"{name} = {identifier!r} is not <series>/<id>, such as 'open_interest/BTCUSDT.SIM'"
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

    Fees are fractions of notional, negative where the venue pays them. ``queue_position`` makes limit orders
    wait until trades have gone through what stood before them at their price; it needs trades, and bars have
    none. What our orders took from a level stays taken until the level's size changes, and a trade fills all
    of them together by no more than its size. ``liquidation`` closes everything at market, and ends trading
    for good, at the close of the first bar in which equity came down to the instrument's maintenance margin.
    ``fill_probability`` is the chance that a touched limit order fills, ``slip_probability`` that a taker
    slips one tick (best bid/ask feeds and bars).
    """

    starting_balance: str = "100000 USDT"
    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.0005")
    latency: Annotated[Duration, Field(ge=0)] = 5_000_000
    default_leverage: Decimal = Field(default=Decimal(10), gt=0)
    queue_position: bool = True
    liquidation: bool = True
    fill_probability: float = Field(default=1.0, ge=0, le=1)
    slip_probability: float = Field(default=0.0, ge=0, le=1)

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
            raise ValueError(f"{value!r} is nothing to start with; write an amount and a currency")
        return value


class ScheduleSettings(Settings):
    """Walk-forward: a bundle every ``step``, each fitted on the ``window`` before it."""

    window: Annotated[Duration, Field(gt=0)]
    step: Annotated[Duration, Field(gt=0)]


class SpanSettings(Settings):
    """A stretch of market time."""

    start: Time
    end: Time

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> typing.Self:
        if self.end <= self.start:
            span = f"end {format_time(self.end)} is not after start {format_time(self.start)}"
            raise ValueError(f"{span}; change one of them")
        return self


class TrainSettings(SpanSettings):
    """The training span, and where bundles go. Nothing at or after ``end`` is read.

    ``catalog``: train on another catalog than is traded, one with the same instruments.
    """

    bundles: Path
    catalog: Path | None = None
    valid_to: Time | None = None
    schedule: ScheduleSettings | None = None


class BacktestSettings(SpanSettings):
    """The span that is traded. Data is read from ``warmup`` before ``start`` so that features are ready."""

    warmup: Annotated[Duration, Field(ge=0)] = 600 * 10**9
    runs: Path = Path("runs")


class LiveSettings(Settings):
    """A live session with simulated execution: which venue's data, and what is remembered between sessions.

    Parameters
    ----------
    adapter : str
        The venue; every stream must be an instrument of it.
    product : str
        Which of its markets: linear or inverse perpetuals, or spot.
    environment : str
        ``"testnet"`` reads the venue's test market.
    base_url_http, base_url_ws : str, optional
        Other addresses than the venue's own.
    instruments : Path, optional
        A catalog with the instruments' definitions; without it the venue is asked.
    connect_timeout : duration
        How long the venue may take to answer.
    state : Path
        Folder of the file ``<name>.npz`` that a session leaves for the next; without that file it starts
        anew.
    resume_within : duration
        Features and models go on from the file if its last bar is no older than this; else they warm up
        again.
    """

    adapter: Literal["binance", "bybit", "okx", "hyperliquid"]
    product: Literal["linear", "inverse", "spot"] = "linear"
    environment: Literal["live", "testnet"] = "live"
    base_url_http: str | None = None
    base_url_ws: str | None = None
    instruments: Path | None = None
    connect_timeout: Duration = 30 * 10**9
    state: Path = Path("runs/live-state")
    resume_within: Duration = 300 * 10**9


class RunConfig(Settings):
    """Everything one run needs: data, bars, features, models, strategies, risk, venue, spans.

    Relative paths start at the folder the command is run in, not at the config's.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=7, ge=0, lt=2**63)
    data: DataSettings
    bars: BarSpec
    features: tuple[str, ...] = ()
    regime: Annotated[regimes.union(), Field(discriminator="kind")]  # type: ignore[valid-type]
    volatility: Annotated[volatility.union(), Field(discriminator="kind")]  # type: ignore[valid-type]
    gate: GateSettings = GateSettings()
    forecast: Annotated[forecasters.union(), Field(discriminator="kind")] | None = None  # type: ignore[valid-type]
    strategies: dict[Name, Annotated[strategies.union(), Field(discriminator="kind")]]  # type: ignore[valid-type]
    risk: RiskSettings = RiskSettings()
    venue: VenueSettings = VenueSettings()
    train: TrainSettings
    backtest: BacktestSettings
    live: LiveSettings | None = None

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

    @field_validator("features", "regime", "volatility", "forecast")
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
    def _one_owner_a_regime[V: Mapping[str, Any]](cls, value: V) -> V:
        strategies.check_owners(value)
        return value

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Every feature the run computes: those listed, and those the models read."""
        models = (self.regime, self.volatility, *((self.forecast,) if self.forecast is not None else ()))
        return tuple(dict.fromkeys([*self.features, *(name for model in models for name in model.columns)]))


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config, with ``overrides`` of the form ``path.to.key=value`` applied on top.

    Raises
    ------
    BeaufortError
        Listing every problem of the file at once, each with its path in the file and the nearest known key.
    """
    return load_settings(RunConfig, path, overrides)


def load_settings[T: Settings](model: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into ``model``; see ``load_config``."""
    try:
        tree = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise BeaufortError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BeaufortError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise BeaufortError(f"{path}: not valid TOML: {error}") from None
    return settings_from(model, str(path), tree, overrides)


def settings_from[T: Settings](
    model: type[T], origin: str, tree: dict[str, Any], overrides: Sequence[str]
) -> T:
    """``tree`` with ``overrides`` applied, as ``model``; ``origin`` names the source in errors."""
    for override in overrides:
        _apply(tree, override)
    try:
        return model.model_validate(tree)
    except pydantic.ValidationError as error:
        problems = [_describe(model, e) for e in error.errors()]
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise BeaufortError("\n".join([f"{origin}: {count}", *(f"  {p}" for p in problems)])) from None


def to_toml(settings: Settings) -> str:
    """The resolved settings, defaults included, as TOML that reads back to the same."""
    return tomli_w.dumps(json.loads(settings.model_dump_json(exclude_none=True)))


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


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BeaufortError(f"--set {override!r}: write path.to.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string, so that --set name=abc needs no quotes
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise BeaufortError(f"--set {override!r}: {parent!r} is a value, not a table")
    node[last] = value


def _describe(model: type[Settings], error: Any) -> str:
    loc = error["loc"]
    place, _ = _walk(model, loc)
    if error["type"] == "extra_forbidden":
        table, members = _walk(model, loc[:-1])
        known = _keys(members)
        others = [m for m in _walk(model, loc[:-2])[1] if loc[-1] in m.model_fields and m not in members]
        kinds = [tag for other in others for tag in _tags(other)]
        if kinds and any(loc[-2] in _tags(member) for member in members):
            whole = f"--set '{table}={{kind=\"{loc[-2]}\"}}'"
            belongs = " and ".join(repr(kind) for kind in kinds)
            return f"{place}: belongs to kind {belongs}, not {loc[-2]!r}; to set the whole table: {whole}"
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"{place}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{place}: missing; this key is required"
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        return f"{place}.kind: {context['tag']!r} is not one of {context['expected_tags']}"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    shown = "" if isinstance(value, dict | list | tuple) or repr(value) in message else f" (got {value!r})"
    return f"{place}: {message}{shown}" if place else f"{message}{shown}"


def _walk(model: Any, loc: tuple[Any, ...]) -> tuple[str, list[type[Settings]]]:
    """``loc`` as it is written in the file, and the models that may stand there; pydantic also puts tags of
    unions into it."""
    written: list[str] = []
    for part in loc:
        while typing.get_origin(model) is Annotated:
            model = typing.get_args(model)[0]
        arguments = [a for a in typing.get_args(model) if a is not Ellipsis]
        members = _members(model)
        tagged = [member for member in members if part in _tags(member)]
        if typing.get_origin(model) in (dict, tuple, list):
            model = arguments[-1]
        elif tagged and len(members) > 1:
            model = tagged[0]
            continue
        else:
            field = next((m.model_fields[part] for m in members if part in m.model_fields), None)
            model = field.annotation if field else None
        written.append(str(part))
    return ".".join(written), _members(model)


def _keys(members: list[type[Settings]]) -> list[str]:
    return [name for member in members for name in member.model_fields]


def _members(model: Any) -> list[type[Settings]]:
    if isinstance(model, type):
        return [model] if issubclass(model, Settings) else []
    if isinstance(model, typing.TypeAliasType):
        return _members(model.__value__)
    return [member for argument in typing.get_args(model) for member in _members(argument)]


def _tags(model: type[Settings]) -> tuple[Any, ...]:
    """The values of ``kind`` that mean ``model``, whether or not it has a default."""
    return typing.get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()
