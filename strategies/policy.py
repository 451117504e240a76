"""The language between a strategy's pure policy and its desk: what is seen, what is wanted."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from core.kinds import Family
from core.messages import REGIMES
from core.settings import Multiple
from strategies.contracts import ContractSpec
from strategies.governor import RiskSettings
from strategies.sizing import SizingSettings

OrderKind = Literal["market", "limit", "stop"]
"""At once at what the market gives; at a price or better; at what the market gives once it is at a price."""


class WorkingOrder(NamedTuple):
    """One of the strategy's own orders that may still fill."""

    id: str
    role: str  # the label it was placed under
    kind: OrderKind  # "market" for whatever does not rest
    side: int  # +1 buys, -1 sells
    quantity: float  # what may still fill, contracts
    price: float  # limit or trigger price, NaN for market orders
    reduce_only: bool
    pending: bool  # the venue has not answered the last command yet
    touched: bool = False  # part of it was filled
    capped: bool = False  # the venue was told that it only reduces

    @property
    def exits(self) -> bool:
        """Whether it closes the position now."""
        return self.reduce_only and self.kind == "market"

    @property
    def protects(self) -> bool:
        """Whether it is a protective stop."""
        return self.reduce_only and self.kind == "stop"


class Place(NamedTuple):
    """Wanted: a new order.

    ``kind`` and ``reduce_only`` say what it is: door and desk go by these alone; ``role`` is a label for the
    records. ``algorithm`` names who makes of it the orders that the venue gets, with their ``time_in_force``
    and whether they are ``post_only`` (see ``strategies.execution``).
    """

    role: str
    side: int  # +1 buys, -1 sells
    quantity: float
    price: float | None = None  # limit or trigger price, None at market
    reduce_only: bool = False
    kind: OrderKind = "market"
    time_in_force: Literal["gtc", "ioc"] = "gtc"
    post_only: bool = False
    algorithm: str = "market"

    @classmethod
    def passive(
        cls, role: str, side: int, quantity: float, price: float, reduce_only: bool = False
    ) -> "Place":
        """A limit order that only rests: the algorithm ``passive``."""
        return cls(role, side, quantity, price, reduce_only, "limit", algorithm="passive")

    @classmethod
    def stop(cls, side: int, quantity: float, price: float) -> "Place":
        """A protective stop: at market once the market is at ``price``."""
        return cls("stop", side, quantity, price, True, "stop")

    @property
    def resting(self) -> bool:
        """Whether it stands at the venue at its price; what does not counts as one at market."""
        return self.kind != "market" and self.time_in_force != "ioc"

    @property
    def exits(self) -> bool:
        """Whether it closes the position now."""
        return self.reduce_only and not self.resting


class Amend(NamedTuple):
    """Wanted: a working order at another price or (remaining) quantity."""

    id: str
    quantity: float
    price: float


class Cancel(NamedTuple):
    """Wanted: a working order gone."""

    id: str


Intent = Place | Amend | Cancel


class Limits(NamedTuple):
    """What the door lets through at this bar.

    ``quantity`` is the most contracts, long or short, that position and adding orders together may come to,
    ``bound`` the cap that says so; ``margin`` the further contracts that free margin carries. ``others`` is
    what the other strategies hold (net, signed contracts): against it nothing is opened, because the venue
    has one net position, and what was held both ways could not be reduced there.
    """

    permit: str  # "active", "reduce_only", "halted" or "liquidated"
    may_add: bool  # the permit is active, and the strategy owns the regime of a valid model
    quantity: float
    bound: str
    margin: float
    others: float = 0.0


class MarketView(NamedTuple):
    """Everything a policy may look at, at one bar. All of it comes from the bar's message and the strategy's
    own orders, so that a replay sees what a faithful run and a live session see."""

    ts: int  # bar close, ns
    price: float  # mid (or last trade or bar close)
    bid: float  # best prices at the close, NaN without a book
    ask: float
    features: np.ndarray  # in the order of ``PolicyContext.features``
    regime: int  # index into REGIMES, -1 without a valid model
    posterior: tuple[float, ...]
    volatility: float  # forecast over its horizon, NaN while silent
    bar_volatility: float
    risk_on: bool
    p_up: float
    p_down: float
    permit: str
    size_factor: float
    equity: float
    drawdown: float
    position: float  # own, signed contracts
    entry_price: float  # average, NaN while flat
    orders: tuple[WorkingOrder, ...]
    limits: Limits


class Decision(NamedTuple):
    """What a policy wants at one bar. ``action`` is "none", "hold" or a verb; ``reason`` a few words."""

    action: str
    reason: str
    intents: tuple[Intent, ...] = ()
    size: float = 0.0
    bound: str = ""


@dataclasses.dataclass(frozen=True)
class PolicyContext:
    """What a policy is built with.

    ``bars_per_year`` and ``horizon`` (bars the volatility forecast covers) annualise forecasts; ``maker_fee``
    is a fraction of notional; ``features`` names the columns of ``MarketView.features``.
    """

    spec: ContractSpec
    risk: RiskSettings
    bars_per_year: float
    horizon: int
    maker_fee: float
    features: tuple[str, ...] = ()

    def annual_volatility(self, volatility: float) -> float:
        """A forecast over the horizon as volatility a year."""
        return volatility * float(np.sqrt(self.bars_per_year / self.horizon))


class Policy(Protocol):
    """The pure part of a strategy: no Nautilus, no clock, no randomness; what it remembers it can save."""

    def decide(self, view: MarketView) -> Decision:
        """Called at every bar, also while the strategy may not trade: then its wishes are not carried out."""
        ...

    def stop_price(self, position: float, entry_price: float) -> float:
        """Where the protective stop of ``position`` (signed contracts, not zero) stands.

        Asked at every bar and every fill; the desk keeps an order of the position's size there, so a level
        that moves costs a command. NaN leaves it to ``risk.stop.fraction`` of the entry price.
        """
        ...

    def stopped(self, ts: int) -> None:
        """The protective stop was reached, at ``ts`` (ns)."""
        ...

    def save(self) -> dict[str, Any]:
        """Memory as JSON values."""
        ...

    def load(self, memory: dict[str, Any]) -> None:
        """Continue from what ``save`` gave."""
        ...


class PolicySettings(Family):
    """What every strategy is configured with."""

    verbs: ClassVar[tuple[str, ...]] = ("policy",)

    on_forecast: ClassVar[bool] = False
    """Whether it trades on a forecast of direction, and never without one."""

    regimes: tuple[Literal["trend", "chop"], ...] = Field(min_length=1)
    """Where it may take risk; stress is not among them, so nobody adds risk there."""
    on_leave: Literal["flatten", "reduce_only"] = "flatten"
    """What becomes of its position when it loses its regime or its model: closed at market, or worked out by
    reduce-only orders."""
    risk_off_size: Multiple = Field(default=0.5, ge=0, le=1)
    """Factor on new sizes while the gate is risk-off; 0 for no entries."""
    stop_trigger: Literal["last", "mark", "bid_ask"] = "last"
    """Price that triggers stop orders, as the venue offers it."""
    sizing: SizingSettings = SizingSettings()
    """How large its positions are."""

    @property
    def labels(self) -> frozenset[int]:
        """The owned regimes as indices into ``REGIMES``."""
        return frozenset(REGIMES.index(name) for name in self.regimes)

    def policy(self, context: PolicyContext) -> Policy:
        """The policy of these settings."""
        raise NotImplementedError(f"{type(self).__name__} has no policy")
