"""The risk governor's shell: watches equity once a bar, says what strategies may do, and keeps the account's
books.

It is a Nautilus ``Strategy`` that never sends an order, because Nautilus gives the portfolio to strategies
alone.
"""

import dataclasses
from typing import Any

from nautilus_trader.model import Currency, InstrumentId, Price, StrategyId, Venue
from nautilus_trader.trading import Strategy

from actors.guard import RunGuard
from features.messages import REGIMES, FeatureBar, RegimeState, RiskState, VolatilityState
from strategies.governor import DrawdownGovernor

_MARK_PRECISION = 9  # decimal places of the mark: a mid lies between ticks


@dataclasses.dataclass(frozen=True)
class GovernorConfig:
    """What the governor needs.

    ``trade_from`` (ns): until then nobody may trade, because features and filters are warming up.
    ``equity_log`` receives ``(ts, equity, price, position, regime, risk_on)`` a bar from then on,
    ``funding_log`` ``(ts, rate, amount)`` a settlement.
    """

    strategy_id: StrategyId
    governor: DrawdownGovernor
    instrument_id: InstrumentId
    venue: Venue
    currency: Currency
    trade_from: int
    priority: int
    equity_log: list[tuple[Any, ...]]
    funding_log: list[tuple[Any, ...]]
    guard: RunGuard
    order_id_tag: str = "RISK"


class RiskGovernor(Strategy):
    """Publishes a ``RiskState`` for every bar, before the strategies decide."""

    def __init__(self, config: GovernorConfig) -> None:
        super().__init__(config)
        self._c = config
        self.memory = config.governor.initial_state()
        self._regime = "none"
        self._risk_on = False
        self._boundaries: set[int] = set()
        self.on_funding_rate = config.guard.watch(self, self._on_funding_rate)  # type: ignore[method-assign, assignment]

    def on_start(self) -> None:
        watch, priority = self._c.guard.watch, self._c.priority
        self.subscribe_topic("regime", watch(self, self._on_regime), priority=priority)
        self.subscribe_topic("volatility", watch(self, self._on_volatility), priority=priority)
        self.subscribe_topic("features", watch(self, self._on_features), priority=priority)
        self.subscribe_funding_rates(self._c.instrument_id)

    def _on_regime(self, state: RegimeState) -> None:
        self._regime = REGIMES[state.label] if state.label >= 0 else "none"

    def _on_volatility(self, state: VolatilityState) -> None:
        self._risk_on = state.risk_on

    def _on_features(self, bar: FeatureBar) -> None:
        c = self._c
        if bar.ts <= c.trade_from:
            self.publish_message("risk", RiskState(bar.ts, "halted", 0.0, float("nan"), 0.0))
            return
        # Nautilus copies the account, with every event it has seen, wherever it looks at it (at each event of
        # the market when liquidation is on): forget them, or a run slows down as it trades.
        self.cache.purge_account_events(self.clock.timestamp_ns())
        account = self.portfolio.account(c.venue)
        balance = None if account is None else account.balance_total(c.currency)
        equity = float("nan") if balance is None else balance.as_double()
        position = 0.0
        # Marked here at the bar's price: Nautilus's own mark stands still while there are only book deltas.
        for held in self.cache.positions_open(None, c.instrument_id):
            position += held.signed_qty
            equity += held.unrealized_pnl(Price(bar.price, _MARK_PRECISION)).as_double()
        c.equity_log.append((bar.ts, equity, bar.price, position, self._regime, self._risk_on))
        self.publish_message("risk", c.governor.judge(self.memory, bar.ts, equity))

    # -- funding: Nautilus settles it without telling strategies, so the books are read after each time ------

    def _on_funding_rate(self, funding: Any) -> None:
        boundary = funding.next_funding_ns
        if boundary is None or boundary in self._boundaries or boundary < self.clock.timestamp_ns():
            return
        self._boundaries.add(boundary)
        after = self._c.guard.watch(self, lambda _event: self._on_settled(boundary))
        self.clock.set_time_alert_ns(f"funding-{boundary}", boundary + 1, callback=after)

    def _on_settled(self, boundary: int) -> None:
        for position in self.cache.positions_open(instrument_id=self._c.instrument_id):
            for adjustment in position.adjustments():
                if adjustment.ts_event == boundary and adjustment.pnl_change is not None:
                    amount = adjustment.pnl_change.as_double()
                    self._c.funding_log.append((boundary, float("nan"), amount))
