"""One assembly for every mode: the same stages, governor and strategies behind a hub or a recording.

The order of a bar is fixed by message-bus priorities, higher first: regime, volatility, forecast, governor, strategies.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from nautilus_trader.model import ActorId, BarType, Currency, InstrumentId, StrategyId, Venue

from actors.governor import GovernorConfig, RiskGovernor
from actors.guard import RunGuard
from actors.hub import FeatureHub, HubConfig, HubStream
from actors.replay import Recording, ReplayActor, ReplayConfig
from actors.series import SeriesConfig, SeriesPlayer
from actors.stages import StageActor, StageConfig, forecast_state, regime_state, volatility_state
from engine.bundles import Models
from engine.config import RunConfig
from engine.pipeline import Market, run_stages
from engine.runs import RunLogs
