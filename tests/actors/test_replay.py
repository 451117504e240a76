"""The replay actor, on the clock of a real backtest engine."""

import dataclasses
from collections.abc import Callable

import numpy as np
from nautilus_trader.common import DataActor
from nautilus_trader.model import ActorId

from actors.guard import RunGuard
from actors.replay import Recording, ReplayActor, ReplayConfig
from core.messages import BarState
from tests.actors.idle import idle
from tests.strategies.tiny_market import START, S, linear_perpetual, quotes
from tests.tiny_engine import tiny_engine


@dataclasses.dataclass(frozen=True)
class EarConfig:
    actor_id: ActorId
    heard: list[tuple[int, BarState]]


class Ear(DataActor):
    """Writes down what is published, and when."""

    def __init__(self, config: EarConfig) -> None:
        super().__init__(config)
        self._c = config

    def on_start(self) -> None:
        self.subscribe_topic("bar", lambda bar: self._c.heard.append((self.clock.timestamp_ns(), bar)))


def _run(
    recording: Recording,
    *,
    publish_delay: int = 0,
    interval: int | None = None,
    on_bar: Callable[[int], None] | None = None,
    seconds: int = 10,
) -> list[tuple[int, BarState]]:
    heard: list[tuple[int, BarState]] = []
    guard = RunGuard()
    replay = ReplayActor(
        ReplayConfig(
            **idle(guard),
            recording=recording,
            publish_delay=publish_delay,
            interval=interval,
            on_bar=on_bar,
        )
    )
    instrument = linear_perpetual()
    with tiny_engine(instrument) as engine:
        engine.add_data(quotes(instrument, [100.0] * seconds))
        engine.add_actor(Ear(EarConfig(ActorId("EAR-1"), heard)))
        engine.add_strategy(replay)
        engine.run(start=START, end=START + seconds * S)
    assert guard.failures == []
    return heard


def _recording(ts: np.ndarray, *, forecast: bool = True) -> Recording:
    n = len(ts)
    i = np.arange(n, dtype=float)
    features = np.column_stack((i, np.where(i == 0, np.nan, i)))
    regime = np.column_stack((0.2 + 0 * i, 0.7 + 0 * i, 0.1 + 0 * i, np.where(i == 0, np.nan, 1.0)))
    volatility = np.column_stack((0.01 * i, 0.001 * i, np.where(i == 0, np.nan, i % 2)))
    said = np.column_stack((0.5 + 0 * i, 0.25 + 0 * i))
    return Recording(
        ts,
        features,
        np.column_stack((100 + i, 99 + i, 101 + i, 100 + i, 100 + i, 98 + i, 102 + i, 0 * i, 0 * i)),
        {"regime": regime, "volatility": volatility} | ({"forecast": said} if forecast else {}),
    )


def test_each_bar_is_published_when_the_hub_would_have() -> None:
    ts = START + np.arange(1, 6) * S
    closed: list[int] = []
    heard = _run(_recording(ts), publish_delay=S // 10, interval=S, on_bar=closed.append)
    assert [at for at, _ in heard] == (ts + S // 10).tolist()
    assert closed == [bar.ts for _, bar in heard] == ts.tolist()
    first, second = (bar for _, bar in heard[:2])
    assert (first.price, first.bid, first.ask, first.low, first.high) == (100.0, 99.0, 101.0, 98.0, 102.0)
    assert second.features.tolist() == [1.0, 1.0]
    assert [bar.regime.label for _, bar in heard[:2]] == [-1, 1]  # NaN: no model has spoken
    assert second.regime.posterior == (0.2, 0.7, 0.1)
    gates = [bar.volatility.risk_on for _, bar in heard]
    assert gates == [False, True, False, True, False]  # silence is risk off
    assert second.forecast == (0.5, 0.25)


def test_bars_at_irregular_times() -> None:
    ts = START + np.array([1, 2, S, S + 1, 3 * S, 7 * S + 5])
    heard = _run(_recording(ts, forecast=False))
    assert [at for at, _ in heard] == ts.tolist()
    assert all(np.isnan(bar.forecast).all() for _, bar in heard)


def test_nothing_recorded() -> None:
    assert _run(_recording(np.array([], np.int64))) == []
