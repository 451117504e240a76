"""The risk governor: marks the account once a bar, says what strategies may do, keeps the account's books.

It lives in the component that publishes bars. Liquidation is its own, not Nautilus's: that one prices
positions by quotes alone, so that it never comes where there are only book deltas or bars, is unknown to the
sandbox, and copies every open position with all its fills at each event of the market.
"""

import dataclasses
import math
from typing import Any

from nautilus_trader.model import Currency, Price
from nautilus_trader.trading import Strategy

from actors.guard import RunGuard
from features.messages import REGIMES, RegimeState, RiskState, VolatilityState
from strategies.governor import DrawdownGovernor
from strategies.sizing import ContractSpec

_MARK_PRECISION = 9  # decimal places of the mark: a mid lies between ticks
_NAN = math.nan


@dataclasses.dataclass(frozen=True)
class GovernorConfig:
    """What the governor needs.

    ``liquidation``: whether maintenance margin is watched. ``trade_from`` (ns): until then nobody may trade,
    because features and filters are warming up. ``equity_log`` receives ``(ts, equity, price, position,
    regime, risk_on)`` a bar from then on, ``funding_log`` ``(ts, rate, amount)`` a settlement.
    """

    drawdown: DrawdownGovernor
    instrument: Any
    currency: Currency
    liquidation: bool
    trade_from: int
    equity_log: list[tuple[Any, ...]]
    funding_log: list[tuple[Any, ...]]
    guard: RunGuard


class RiskGovernor:
    """Judges every bar before the strategies decide on it.

    Parameters
    ----------
    host : Strategy
        The component it lives in: Nautilus gives the portfolio to strategies alone.
    config : GovernorConfig

    Attributes
    ----------
    memory : State
        Of the drawdown filter.
    """

    def __init__(self, host: Strategy, config: GovernorConfig) -> None:
        self._host = host
        self._c = config
        self._iid = config.instrument.id
        self._spec = ContractSpec.of(config.instrument)
        self._margin = float(config.instrument.margin_maint) if config.liquidation else _NAN
        self._held = 0.0  # position at the close before
        self._mark = _NAN  # the last known price
        self._boundaries: set[int] = set()
        self.memory = config.drawdown.initial_state()

    def judge(
        self,
        ts: int,
        price: float,
        low: float,
        high: float,
        regime: RegimeState,
        volatility: VolatilityState,
    ) -> RiskState:
        """What strategies may do at the bar that closes at ``ts`` (ns); without a price, by the last one."""
        c, host = self._c, self._host
        if ts <= c.trade_from:
            return RiskState("halted", 0.0, _NAN, 0.0)
        # Nautilus copies the account, with every event it has seen, wherever it looks at it: forget them, or
        # a run slows down as it trades.
        host.cache.purge_account_events(host.clock.timestamp_ns())
        account = host.portfolio.account(self._iid.venue)
        balance = None if account is None else account.balance_total(c.currency)
        equity = _NAN if balance is None else balance.as_double()
        position = 0.0
        if price > 0:
            self._mark = price
        else:  # no book: a position is worth what it was worth when there last was one
            low = high = self._mark
        # Marked here at the bar's price: Nautilus's own mark stands still while there are only book deltas.
        for held in host.cache.positions_open(None, self._iid):
            position += held.signed_qty
            mark = self._mark if self._mark > 0 else held.avg_px_open
            equity += held.unrealized_pnl(Price(mark, _MARK_PRECISION)).as_double()
        label = REGIMES[regime.label] if regime.label >= 0 else "none"
        c.equity_log.append((ts, equity, price, position, label, volatility.risk_on))
        excess = _NAN
        if position:
            # The bar's range counts against a position held throughout, its close against a newer one.
            worst = (low if position > 0 else high) if position == self._held else self._mark
            margin = abs(position) * self._spec.value(worst) * self._margin
            excess = equity + position * self._spec.profit(self._mark, worst) - margin
        self._held = position
        return c.drawdown.judge(self.memory, ts, equity, excess)

    # -- funding: Nautilus settles it without telling strategies, so the books are read after each time ------

    def on_funding_rate(self, funding: Any) -> None:
        """Have the settlement that ``funding`` announces read after its time."""
        boundary, clock = funding.next_funding_ns, self._host.clock
        if boundary is None or boundary in self._boundaries or boundary < clock.timestamp_ns():
            return
        self._boundaries.add(boundary)
        after = self._c.guard.watch(self._host, lambda _event: self._on_settled(boundary))
        clock.set_time_alert_ns(f"funding-{boundary}", boundary + 1, callback=after)

    def _on_settled(self, boundary: int) -> None:
        for position in self._host.cache.positions_open(instrument_id=self._iid):
            for adjustment in position.adjustments():
                if adjustment.ts_event == boundary and adjustment.pnl_change is not None:
                    amount = adjustment.pnl_change.as_double()
                    self._c.funding_log.append((boundary, _NAN, amount))
