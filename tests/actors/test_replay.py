"""The replay actor and the player of slow series, on the clock of a real backtest engine."""

import dataclasses
from typing import Any

import numpy as np
from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common import DataActor, LoggerConfig, LogLevel
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import AccountType, ActorId, Money, OmsType, Venue

from actors.guard import RunGuard
from actors.replay import Recording, ReplayActor, ReplayConfig
from actors.series import SeriesConfig, SeriesPlayer
from tests.strategies.tiny_market import START, S, linear_perpetual, quotes

TOPICS = ("regime", "volatility", "forecast", "features", "series")


@dataclasses.dataclass(frozen=True)
class EarConfig:
    actor_id: ActorId
    heard: list[tuple[int, str, Any]]


class Ear(DataActor):
    """Writes down what is published, and when."""

    def __init__(self, config: EarConfig) -> None:
        super().__init__(config)
        self._c = config

    def on_start(self) -> None:
        for priority, topic in enumerate(TOPICS, start=1):
            self.subscribe_topic(topic, self._hear(topic), priority=priority)

    def _hear(self, topic: str) -> Any:
        return lambda message: self._c.heard.append((self.clock.timestamp_ns(), topic, message))


def _run(actor: DataActor, seconds: int = 10) -> list[tuple[int, str, Any]]:
    heard: list[tuple[int, str, Any]] = []
    engine = BacktestEngine(
        BacktestEngineConfig(
            shutdown_on_error=True,
            run_analysis=False,
            logging=LoggerConfig(stdout_level=LogLevel.ERROR, bypass_logging=True),
        )
    )
    try:
        instrument = linear_perpetual()
        engine.add_venue(
            Venue("SIM"),
            OmsType.NETTING,
            AccountType.MARGIN,
            [Money.from_str("1000 USDT")],
            fee_model=MakerTakerFeeModel(0, 0),
        )
        engine.add_instrument(instrument)
        engine.add_data(quotes(instrument, [100.0] * seconds))
        engine.add_actor(Ear(EarConfig(ActorId("EAR-1"), heard)))
        engine.add_actor(actor)
        engine.run(start=START, end=START + seconds * S)
    finally:
        engine.dispose()
    return heard


def _recording(ts: np.ndarray, *, forecast: bool = True) -> Recording:
    n = len(ts)
    i = np.arange(n, dtype=float)
    features = np.column_stack((i, np.where(i == 0, np.nan, i)))
    regime = np.column_stack((0.2 + 0 * i, 0.7 + 0 * i, 0.1 + 0 * i, np.where(i == 0, np.nan, 1.0)))
    volatility = np.column_stack((0.01 * i, 0.001 * i, np.where(i == 0, np.nan, i % 2)))
    said = np.column_stack((0.5 + 0 * i, 0.25 + 0 * i)) if forecast else None
    return Recording(ts, features, np.column_stack((100 + i, 99 + i, 101 + i)), regime, volatility, said)


def test_each_bar_is_published_when_the_hub_would_have() -> None:
    ts = START + np.arange(1, 6) * S
    bars: list[int] = []
    config = ReplayConfig(ActorId("R-1"), _recording(ts), S // 10, S, RunGuard(), bars.append)
    heard = _run(ReplayActor(config))
    assert [(at, topic) for at, topic, _ in heard] == [
        (int(t) + S // 10, topic) for t in ts for topic in ("regime", "volatility", "forecast", "features")
    ]
    assert bars == ts.tolist()
    first, second = [m for _, topic, m in heard if topic == "features"][:2]
    assert (first.ts, first.ready, first.price, first.bid, first.ask) == (
        START + S,
        False,
        100.0,
        99.0,
        101.0,
    )
    assert (second.ready, second.values.tolist()) == (True, [1.0, 1.0])
    regimes = [m for _, topic, m in heard if topic == "regime"]
    assert [m.label for m in regimes[:2]] == [-1, 1]  # NaN: no model has spoken
    assert regimes[1].posterior == (0.2, 0.7, 0.1)
    gates = [m.risk_on for _, topic, m in heard if topic == "volatility"]
    assert gates == [False, True, False, True, False]  # silence is risk off


def test_bars_at_irregular_times() -> None:
    ts = START + np.array([1, 2, S, S + 1, 3 * S, 7 * S + 5])
    config = ReplayConfig(ActorId("R-1"), _recording(ts, forecast=False), 0, None, RunGuard())
    heard = _run(ReplayActor(config))
    assert [at for at, topic, _ in heard if topic == "features"] == ts.tolist()
    assert "forecast" not in {topic for _, topic, _ in heard}


def test_nothing_recorded() -> None:
    config = ReplayConfig(ActorId("R-1"), _recording(np.array([], np.int64)), 0, None, RunGuard())
    assert _run(ReplayActor(config)) == []


def test_slow_series_come_at_their_publication_times() -> None:
    oi = (START + np.array([-5, S, 3 * S, 3 * S, 20 * S]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    mood = (START + np.array([2 * S]), np.array([-1.0]))
    heard = _run(SeriesPlayer(SeriesConfig(ActorId("S-1"), {"oi": oi, "mood": mood}, RunGuard())))
    assert [(at, m.name, m.ts_init, m.value) for at, _, m in heard] == [
        (START + S, "oi", START + S, 2.0),
        (START + 2 * S, "mood", START + 2 * S, -1.0),
        (START + 3 * S, "oi", START + 3 * S, 3.0),
        (START + 3 * S, "oi", START + 3 * S, 4.0),
    ]
