"""The risk governor: marks the account once a bar, says what strategies may do, keeps the run's books.

It lives in the component that publishes bars. Liquidation is its own, not Nautilus's: that one prices
positions by quotes alone, so that it never comes where there are only book deltas or bars, is unknown to the
sandbox, and copies every open position with all its fills at each event of the market.
"""

import dataclasses
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from nautilus_trader.trading import Strategy

from actors.guard import RunGuard
from core import records
from core.journal import Journal
from core.messages import REGIMES, RegimeState, RiskState, VolatilityState
from strategies.account import Account, Liquidation, Marks
from strategies.governor import DrawdownGovernor

_NAN = math.nan


@dataclasses.dataclass(frozen=True)
class GovernorConfig:
    """What the governor needs.

    ``trade_from`` (ns): until then nobody may trade, because features and filters are warming up.
    ``journal`` receives an ``EquityMark`` a bar from then on, a ``Funding`` a settlement, and a
    ``Liquidation`` if the account ends so.
    """

    drawdown: DrawdownGovernor
    account: Account
    instrument: Any
    trade_from: int
    journal: Journal
    guard: RunGuard


class RiskGovernor:
    """Judges every bar before the strategies decide on it.

    Parameters
    ----------
    host : Strategy
        The component it lives in: Nautilus gives the portfolio to strategies alone.
    config : GovernorConfig
    surrender : callable
        Has the strategies give up what they hold; called before a liquidation is booked.

    Attributes
    ----------
    account : Account
    memory : State
        Of the drawdown filter.
    """

    def __init__(
        self, host: Strategy, config: GovernorConfig, surrender: Callable[[int, Liquidation], None]
    ) -> None:
        self._host = host
        self._c = config
        self._iid = config.instrument.id
        self._name = str(self._iid)
        self._surrender = surrender
        self.account = config.account
        self._rates: dict[int, Decimal] = {}  # by settlement
        self.memory = config.drawdown.initial_state()

    def judge(
        self, ts: int, price: float, marks: Marks, regime: RegimeState, volatility: VolatilityState
    ) -> RiskState:
        """What strategies may do at the bar that closes at ``ts`` (ns); without a price, by the last one."""
        c, host = self._c, self._host
        if ts <= c.trade_from:
            return RiskState("halted", 0.0, _NAN, 0.0)
        # Nautilus copies the account, with every event it has seen, wherever it looks at it: forget them, or
        # a run slows down as it trades.
        host.cache.purge_account_events(host.clock.timestamp_ns())
        marked = c.account.mark(ts, price, marks)
        ended = marked.liquidation
        if ended is not None:
            position = float(c.account.position)
            self._surrender(max(ts, c.account.changed), ended)
            c.account.liquidate(ended)
            c.journal.write(
                records.Liquidation(
                    ended.at,
                    self._name,
                    position,
                    ended.price,
                    ended.level,
                    ended.mark,
                    ended.charge,
                    marked.equity,
                )
            )
        label = REGIMES[regime.label] if regime.label >= 0 else "none"
        position = float(c.account.position)
        c.journal.write(
            records.EquityMark(
                ts,
                self._name,
                marked.equity,
                marked.lowest,
                price,
                position,
                label,
                volatility.risk_on,
            )
        )
        return c.drawdown.judge(self.memory, ts, marked.equity, marked.lowest, liquidated=ended is not None)

    # -- funding ---------------------------------------------------------------------------------------------

    def on_funding_rate(self, funding: Any) -> None:
        """Have the settlement that ``funding`` announces booked after its time."""
        boundary, clock = funding.next_funding_ns, self._host.clock
        if boundary is None or boundary < clock.timestamp_ns():
            return
        known = boundary in self._rates
        self._rates[boundary] = Decimal(str(funding.rate))
        if known:
            return
        after = self._c.guard.watch(self._host, lambda _event: self._settle(boundary))
        clock.set_time_alert_ns(f"funding-{boundary}", boundary + 1, callback=after)

    def _settle(self, boundary: int) -> None:
        """Pay on what was held just before ``boundary``, at the mark price of that time.

        Nautilus pays too, without telling strategies, on what is held after the fills of that very moment.
        """
        rate, account = self._rates[boundary], self._c.account
        paid, after = self._paid_by_nautilus(boundary)
        held, price = account.before(boundary)
        mark = self._host.cache.mark_price(self._iid)
        if mark is not None:
            amount = -account.notional(held, mark.value.as_decimal()) * rate
        elif paid:
            amount = paid * held / after
        else:
            amount = -account.notional(held, Decimal(price)) * rate if held else Decimal(0)
        if amount or paid:
            account.settle(boundary, amount, paid)
        if held or boundary > self._c.trade_from:  # flat: what a holder would have met
            self._c.journal.write(records.Funding(boundary, self._name, float(rate), float(amount)))

    def _paid_by_nautilus(self, boundary: int) -> tuple[Decimal, Decimal]:
        """What it paid at ``boundary``, and the position it paid on."""
        paid = after = Decimal(0)
        for position in self._host.cache.positions_open(instrument_id=self._iid):
            for adjustment in position.adjustments():
                if adjustment.ts_event == boundary and adjustment.pnl_change is not None:
                    paid += adjustment.pnl_change.as_decimal()
                    after += Decimal(str(position.signed_qty))
        return paid, after
