"""A backtest engine with one venue, for tests that bring their own data and components."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common import LoggerConfig, LogLevel
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import AccountType, Money, OmsType, Venue


@contextmanager
def tiny_engine(instrument: Any, balance: str = "1000 USDT", **venue: Any) -> Iterator[BacktestEngine]:
    """An engine whose venue SIM trades ``instrument`` on margin, netting, and free of charge unless told."""
    engine = BacktestEngine(
        BacktestEngineConfig(
            shutdown_on_error=True,
            run_analysis=False,
            logging=LoggerConfig(stdout_level=LogLevel.ERROR, bypass_logging=True),
        )
    )
    free = {"fee_model": MakerTakerFeeModel(Decimal(0), Decimal(0))}
    try:
        engine.add_venue(
            Venue("SIM"), OmsType.NETTING, AccountType.MARGIN, [Money.from_str(balance)], **(free | venue)
        )
        engine.add_instrument(instrument)
        yield engine
    finally:
        engine.dispose()
