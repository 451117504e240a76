"""A governor that lets nobody trade, for components under test without an account."""

from actors.governor import GovernorConfig
from actors.guard import RunGuard
from strategies.governor import DrawdownGovernor
from tests.strategies.tiny_market import USDT, linear_perpetual


def idle_governor(guard: RunGuard) -> GovernorConfig:
    return GovernorConfig(
        drawdown=DrawdownGovernor(),
        instrument=linear_perpetual(),
        currency=USDT,
        liquidation=True,
        trade_from=2**62,
        equity_log=[],
        funding_log=[],
        guard=guard,
    )
