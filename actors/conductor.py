"""The one Nautilus component of a run: it has every bar judged and traded, and publishes it.

Hub and replay are made of it. There is one and no more, because Nautilus's backtest engine looks at the clock
of every component at every event: each costs a replay three per cent.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from nautilus_trader.model import StrategyId
from nautilus_trader.trading import Strategy

from actors.governor import GovernorConfig, RiskGovernor
from actors.guard import RunGuard
from actors.trader import Trader, TraderConfig
from core.messages import STAGES, BarState
from strategies.account import Marks

_NAME = StrategyId("Beaufort-001")
_KNOWN = ("regime", "volatility", "forecast")  # what a bar's message has fields for


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConductorConfig:
    """The part of their configs that hub and replay share.

    ``on_bar(ts)`` is told of each closed bar (progress).
    """

    governor: GovernorConfig
    trader: TraderConfig
    guard: RunGuard
    on_bar: Callable[[int], None] | None = None
    strategy_id: StrategyId = _NAME
    order_id_tag: str = "001"


class Conductor(Strategy):
    """Has each bar judged by the governor, hands it to the trader, and publishes it on topic ``bar`` for
    whoever else listens.

    Attributes
    ----------
    governor : RiskGovernor
    trader : Trader
    """

    def __init__(self, config: ConductorConfig) -> None:
        super().__init__(config)
        self._guard, self._on_bar_closed = config.guard, config.on_bar
        watch = config.guard.watch
        self.trader = Trader(self, config.trader, lambda callback: watch(self, callback))
        self.governor = RiskGovernor(self, config.governor, self.trader.surrender)
        self.on_order_event = watch(self, self.trader.on_order_event)  # type: ignore[method-assign, assignment]
        self.on_position_event = watch(self, self.trader.on_position_event)  # type: ignore[method-assign, assignment]
        self.on_funding_rate = watch(self, self.governor.on_funding_rate)  # type: ignore[method-assign, assignment]

    def on_start(self) -> None:
        self.trader.recover()

    def on_stop(self) -> None:
        self.clock.cancel_timers()  # a live node goes on for a while after its components have stopped
        self.trader.stop()

    def conduct(
        self,
        ts: int,
        features: np.ndarray,
        quote: list[float],
        said: Mapping[str, list[float]],
    ) -> None:
        """Have the bar judged and traded, and tell everyone.

        Parameters
        ----------
        ts : int
            Its close, ns.
        features : float64 array
        quote : list of float
            ``features.kernel.QUOTE_COLUMNS``.
        said : mapping of str to list of float
            The outputs of every stage there is, in the order of ``core.messages.STAGES``; NaN while silent.
        """
        price, bid, ask, mark, first, low, high, low_age, high_age = quote
        messages = {
            stage.name: stage.message(said.get(stage.name) or [math.nan] * len(stage.outputs))
            for stage in STAGES
        }
        regime, volatility, forecast = (messages.pop(name) for name in _KNOWN)
        marks = Marks(mark, first, low, high, ts - int(low_age), ts - int(high_age))
        risk = self.governor.judge(ts, price, marks, regime, volatility)
        bar = BarState(ts, features, price, bid, ask, low, high, regime, volatility, forecast, risk, messages)
        self.trader.on_bar(bar)
        self.publish_message("bar", bar)
        if self._on_bar_closed is not None:
            self._on_bar_closed(ts)
        if self._guard.stop_requested:
            self.shutdown_system("stop requested")
