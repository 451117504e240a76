"""A governor that lets nobody trade and a trader without desks, for components tested without an account."""

from typing import Any

from actors.governor import GovernorConfig
from actors.guard import RunGuard
from strategies import TraderConfig
from strategies.governor import DrawdownGovernor
from tests.strategies.tiny_market import USDT, linear_perpetual


def idle(guard: RunGuard) -> dict[str, Any]:
    """What hub and replay have in common."""
    instrument = linear_perpetual()
    governor = GovernorConfig(
        drawdown=DrawdownGovernor(),
        instrument=instrument,
        currency=USDT,
        liquidation=True,
        trade_from=2**62,
        equity_log=[],
        funding_log=[],
        guard=guard,
    )
    return {"governor": governor, "trader": TraderConfig(instrument, ()), "guard": guard}
