"""What hub and replay have in common: they publish each bar, judged by the governor, in one message.

There are as few components as can be, because Nautilus's backtest engine looks at the clock of every one at
every event: each costs a replay about three per cent.
"""

import dataclasses
import math

import numpy as np
from nautilus_trader.model import StrategyId
from nautilus_trader.trading import Strategy

from actors.governor import GovernorConfig, RiskGovernor
from features.messages import BarState, Forecast, RegimeState, VolatilityState

_SILENT = Forecast(math.nan, math.nan)


_NAME = StrategyId("Publisher-BARS")


@dataclasses.dataclass(frozen=True)
class PublisherConfig:
    """The part of their configs that hub and replay share."""

    governor: GovernorConfig
    strategy_id: StrategyId = _NAME
    order_id_tag: str = "BARS"


class BarPublisher(Strategy):
    """Publishes one ``BarState`` a bar. It is a ``Strategy`` that never sends an order, for the portfolio."""

    def __init__(self, config: PublisherConfig) -> None:
        super().__init__(config)
        self.governor = RiskGovernor(self, config.governor)

    def publish_bar(
        self,
        ts: int,
        features: np.ndarray,
        quote: list[float],
        regime: list[float],
        volatility: list[float],
        forecast: list[float] | None,
    ) -> None:
        """Judge the bar and tell everyone.

        Parameters
        ----------
        ts : int
            Its close, ns.
        features : float64 array
        quote : list of float
            ``features.kernel.QUOTE_COLUMNS``.
        regime : list of float
            ``p_trend, p_chop, p_stress, regime``, NaN while silent.
        volatility : list of float
            ``volatility, bar_volatility, risk_on``; silence means risk off.
        forecast : list of float or None
            ``p_up, p_down``; None where nothing forecasts.
        """
        price, bid, ask, low, high = quote
        trend, chop, stress, label = regime
        expected, expected_bar, risk_on = volatility
        said = RegimeState(int(label) if label == label else -1, (trend, chop, stress))
        gate = VolatilityState(expected, expected_bar, risk_on == 1.0)
        hoped = _SILENT if forecast is None else Forecast(*forecast)
        risk = self.governor.judge(ts, price, low, high, said, gate)
        bar = BarState(ts, features, price, bid, ask, low, high, said, gate, hoped, risk)
        self.publish_message("bar", bar)
