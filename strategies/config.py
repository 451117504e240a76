"""What the engine gives a strategy shell."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from nautilus_trader.model import StrategyId

from strategies.governor import RiskSettings
from strategies.policy import PolicySettings


class Log(Protocol):
    """Takes records, such as a list."""

    def append(self, row: Any, /) -> None: ...


class Guard(Protocol):
    """Wraps callbacks: a failure is recorded and shuts the system down (``actors.guard.RunGuard``)."""

    def watch(self, component: Any, callback: Callable[[Any], None]) -> Callable[[Any], None]: ...


@dataclasses.dataclass(frozen=True)
class StrategyConfig:
    """What a strategy shell needs.

    Parameters
    ----------
    strategy_id, order_id_tag
        Nautilus names; the tag is unique in a run.
    name : str
        Name in records.
    settings : PolicySettings
        Of the strategy.
    instrument
        The traded Nautilus instrument.
    risk : RiskSettings
        Limits common to all strategies.
    priority : int
        On the message bus, distinct for each strategy.
    bars_per_year, horizon
        Measured bars a year and the bars a volatility forecast covers, to annualise it.
    maker_fee : float
        Fraction of notional.
    features : tuple of str
        Names of the features of a ``BarState``.
    trade_from : int
        Bars up to this time (ns) warm up the policy: nothing is decided or recorded.
    decisions, fills : Log
        Receive records in the order of ``DECISION_COLUMNS`` and ``FILL_COLUMNS``.
    guard : Guard
    bundle_at : callable
        From a bar's ``ts`` to the name of the valid model bundle, ``""`` if there is none.
    latency : int
        Nanoseconds that commands take to the venue of a backtest, 0 elsewhere.
    flatten_on_stop : bool
        Whether a stop cancels every order and closes the position at market, instead of leaving the position
        with its protective stop.
    """

    strategy_id: StrategyId
    order_id_tag: str
    name: str
    settings: PolicySettings
    instrument: Any
    risk: RiskSettings
    priority: int
    bars_per_year: float
    horizon: int
    maker_fee: float
    features: tuple[str, ...]
    trade_from: int
    decisions: Log
    fills: Log
    guard: Guard
    bundle_at: Callable[[int], str]
    latency: int = 0
    flatten_on_stop: bool = False
