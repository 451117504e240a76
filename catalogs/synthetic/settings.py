"""What a synthetic market is made of; the defaults have the sizes and rates of a large perpetual."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, model_validator

from catalogs.instruments import PerpetualSettings, SpotSettings
from core.settings import (
    Count,
    Duration,
    Integer,
    Multiple,
    Number,
    Probability,
    Settings,
    Time,
    default,
    format_duration,
    format_time,
    unit,
)

BP = 1e-4
SECOND = 1_000_000_000

_Share = Annotated[Probability, Field(ge=0, le=1)]
_Span = Annotated[Duration, Field(gt=0)]
_Lean = Annotated[Number, Field(ge=-1, le=1), unit("share of the trades")]
_Bps = Annotated[Number, Field(gt=0, le=1_000), unit("basis points a root second")]
_Drift = Annotated[Number, Field(ge=-10, le=10), unit("a root second")]
_Coins = Annotated[Number, Field(gt=0, le=1e12), unit("base currency")]


class WeatherSettings(Settings):
    """One kind of weather."""

    dwell: _Span
    """Mean length of a stay; stays are gamma distributed with shape ``dwell_shape`` and at least
    ``dwell_minimum`` long."""
    volatility: _Bps
    """Standard deviation of the log return over one second: the root mean square of the stochastic
    volatility, jumps aside."""
    drift: _Drift = 0.0
    """Mean log return of a second over ``volatility``, that is the signal-to-noise ratio a root second. A
    trend down has the opposite sign."""
    flow: _Lean = 0.0
    """Lean of the trades that nothing else triggers: buyers less sellers, over both. A trend down has the
    opposite sign."""


class TrendSettings(WeatherSettings):
    """A trend: steady drift, order flow that leans with it. Signs are those of a trend up."""

    dwell: _Span = default("6m")
    """Mean length of a stay."""
    volatility: _Bps = 1.25
    """Standard deviation of the log return over one second."""
    drift: _Drift = 0.12
    """Mean log return of a second over ``volatility``."""
    flow: _Lean = 0.3
    """Buyers less sellers, over both."""


class ChopSettings(WeatherSettings):
    """Chop: calm, returning to a slowly moving fair value."""

    dwell: _Span = default("8m")
    """Mean length of a stay."""
    volatility: _Bps = 0.65
    """Standard deviation of the log return over one second."""


class StressSettings(WeatherSettings):
    """Stress: short and violent, with jumps and liquidations, falling a little more than rising."""

    dwell: _Span = default("150s")
    """Mean length of a stay."""
    volatility: _Bps = 4.0
    """Standard deviation of the log return over one second."""
    drift: _Drift = -0.02
    """Mean log return of a second over ``volatility``."""


class SynthSettings(Settings):
    """A seeded synthetic perpetual future, and a spot pair beside it, with known truth.

    Weather: a semi-Markov path over trend (up or down), chop and stress. Chop goes to a trend with
    probability ``chop_to_trend``, else to stress; a trend goes to chop with ``trend_to_chop``, else to
    stress; stress goes to chop with ``stress_to_chop``, else to a trend. Up and down are equally likely.

    Difficulty: with the defaults a trend drifts by 0.12 standard deviations a root second, that is 0.9 in a
    minute, its untriggered order flow leans by 0.3, and trend is 1.9 times as volatile as chop.
    Measured: the absolute return of one second names the regime in 64 % of cases, ten seconds of realized
    volatility in 81 %, a hidden Markov filter with true parameters on realized volatility and trade count of
    ten-second bars in 93 %. In trends the order flow of a minute correlates by 0.4 to 0.5 with the return of
    the next, over all weather by 0.2 to 0.3.
    """

    seed: Annotated[Integer, Field(ge=0, lt=2**63), unit("any")] = 1
    """Everything random follows from it. Equal settings give equal files."""
    start: Time = default("2026-01-05")
    """When the market begins to exist: a whole second."""
    duration: Duration = default("2h", positive=True, most="3650d")
    """For how long it exists: a whole number of seconds."""
    instrument: PerpetualSettings = PerpetualSettings(
        id="BTCUSDT-PERP.SIM",
        base="BTC",
        quote="USDT",
        price_increment=Decimal("0.1"),
        size_increment=Decimal("0.001"),
    )
    """Linear, one coin a contract."""
    spot: bool = False
    """Also write the spot pair ``BASEQUOTE.VENUE`` (a calmer book around the index). The perpetual's data do
    not depend on it."""
    base_price: Annotated[Number, Field(gt=0, le=1e12), unit("quote currency")] = 60_000.0
    """Price at the start."""
    rate: Annotated[Multiple, Field(gt=0, le=1_000)] = 1.0
    """Multiplies how often orders come, change and trade, at unchanged volume traded a second. The truth does
    not depend on it. 1 is about 140 events a second."""
    levels: Annotated[Count, Field(ge=5, le=200)] = 25
    """Fewest levels on each side of the book."""
    trend: TrendSettings = TrendSettings()
    """The weather called trend, up or down."""
    chop: ChopSettings = ChopSettings()
    """The weather called chop."""
    stress: StressSettings = StressSettings()
    """The weather called stress."""
    dwell_shape: Annotated[Number, Field(ge=0.1, le=1_000), unit("shape parameter")] = 2.5
    """Of the gamma distribution of stays."""
    dwell_minimum: _Span = default("30s")
    """Shortest stay."""
    chop_to_trend: _Share = 0.65
    """Chop goes to a trend with it, else to stress."""
    trend_to_chop: _Share = 0.65
    """A trend goes to chop with it, else to stress."""
    stress_to_chop: _Share = 0.6
    """Stress goes to chop with it, else to a trend."""
    reversion: _Span = default("2m")
    """Time constant with which chop returns to its slowly moving fair value."""
    leverage: Annotated[Number, Field(ge=-1, le=1), unit("correlation")] = -0.6
    """Correlation between return and log-volatility innovations, negative in markets."""
    volatility_fast: Annotated[Number, Field(ge=0, le=3), unit("log volatility")] = 0.2
    """Standard deviation of the fast mean-reverting (Ornstein-Uhlenbeck) part of log volatility."""
    volatility_fast_time: _Span = default("20s")
    """Its time constant."""
    volatility_slow: Annotated[Number, Field(ge=0, le=3), unit("log volatility")] = 0.12
    """Standard deviation of the slow part of log volatility."""
    volatility_slow_time: _Span = default("15m")
    """Its time constant."""
    tail: Annotated[Number, Field(gt=2, le=1e9), unit("degrees of freedom")] = 5.0
    """Of the Student t that drives each tenth of a second."""
    jumps: Annotated[Number, Field(ge=0, le=10), unit("a second")] = 0.01
    """How often prices jump in chop and trend; four times as often in stress. A jump falls in 60 % of
    cases."""
    jump_size: Annotated[Number, Field(ge=0, le=1_000), unit("one-second standard deviations")] = 1.7
    """Scale of a jump, a Laplace variable."""
    trades: Annotated[Number, Field(gt=0, le=10_000), unit("a second")] = 2.0
    """Market orders in calm chop that nothing triggers; grows with volatility to the power 0.7. Those that
    chase the last move, and those excited by others, come on top."""
    excitation: Annotated[Multiple, Field(ge=0, le=1)] = 0.5
    """Hawkes branching: further orders that one order causes on its own side."""
    cross_excitation: Annotated[Multiple, Field(ge=0, le=1)] = 0.1
    """The same on the other side."""
    trade_size: _Coins = 0.03
    """Median of a market order in calm chop."""
    level_size: _Coins = 0.5
    """Median of a level near the best price in calm chop."""
    funding_interval: _Span = default("8h")
    """Time between settlements, which fall on whole multiples of it since the epoch."""
    open_interest: _Coins = 50_000.0
    """At the start."""
    latency: Duration = default("2ms")
    """``ts_init`` of market data less ``ts_event``."""
    publication_delay: Duration = default("3s")
    """The same for open interest and liquidations."""

    @model_validator(mode="after")
    def _check(self) -> "SynthSettings":
        if self.instrument.inverse or self.instrument.multiplier != 1:
            raise ValueError(
                f"instrument {self.instrument.id}: only linear contracts of multiplier 1 are simulated"
            )
        if self.start % SECOND:
            raise ValueError(f"start {format_time(self.start)} is not a whole second")
        if self.duration % SECOND:
            raise ValueError(f"duration {format_duration(self.duration)} is not a whole number of seconds")
        if self.funding_interval % (60 * SECOND):
            raise ValueError(
                f"funding_interval {format_duration(self.funding_interval)} is not a whole number of minutes"
            )
        if self.excitation + self.cross_excitation > 0.9:
            raise ValueError(
                f"excitation + cross_excitation is {self.excitation + self.cross_excitation}:"
                " above 0.9 the order flow explodes"
            )
        if self.base_price * self.chop.volatility * BP < float(self.instrument.price_increment):
            raise ValueError(
                f"base_price {self.base_price} moves less than one tick ({self.instrument.price_increment})"
                " a second in chop; raise base_price or lower price_increment"
            )
        return self

    @property
    def seconds(self) -> int:
        """Length in seconds."""
        return self.duration // SECOND

    @property
    def regimes(self) -> tuple[WeatherSettings, WeatherSettings, WeatherSettings]:
        """In the order of ``core.messages.REGIMES``."""
        return self.trend, self.chop, self.stress

    def spot_instrument(self) -> SpotSettings:
        """The pair written where ``spot`` is asked for, with the perpetual's increments."""
        perpetual = self.instrument
        return SpotSettings(
            kind="spot",
            id=f"{perpetual.base}{perpetual.quote}.{perpetual.id.rpartition('.')[2]}",
            base=perpetual.base,
            quote=perpetual.quote,
            price_increment=perpetual.price_increment,
            size_increment=perpetual.size_increment,
        )
