"""A governor that lets nobody trade and a trader without desks, for components tested without an account."""

from decimal import Decimal
from typing import Any

from actors.governor import GovernorConfig
from actors.guard import RunGuard
from actors.trader import TraderConfig
from core.journal import MemoryJournal
from strategies.account import Account, AccountTerms
from strategies.contracts import ContractSpec
from strategies.governor import DrawdownGovernor
from tests.strategies.tiny_market import USDT, linear_perpetual


def idle(guard: RunGuard) -> dict[str, Any]:
    """What hub and replay have in common."""
    instrument = linear_perpetual()
    account = Account(AccountTerms(ContractSpec.of(instrument), Decimal(1_000)))
    governor = GovernorConfig(
        drawdown=DrawdownGovernor(),
        account=account,
        instrument=instrument,
        trade_from=2**62,
        journal=MemoryJournal(),
        guard=guard,
    )
    trader = TraderConfig(instrument, (), account, USDT, MemoryJournal())
    return {"governor": governor, "trader": trader, "guard": guard}
