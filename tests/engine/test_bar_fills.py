"""When and at what price orders fill on bars, recounted from the bars themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import small_market
from small_market import MINUTE, MINUTES, START

from catalogs.reader import Catalog
from catalogs.synthetic.writing import SynthSettings
from catalogs.writer import CatalogWriter
from engine.config import RunConfig
from engine.reports import summary
from engine.research.training import train
from engine.sessions.backtest import run_backtest
from strategies.governor import StopSettings

TICK = 0.1
LATENCY = 5_000_000


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Two days of minutes: some missing, many opening away from the close before, a few with a jump."""
    work = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(21)
    n = 2880
    steps = rng.standard_t(4, size=(n, 10)) * 2e-4
    steps[:, 0] += np.where(rng.random(n) < 0.02, rng.choice([-1, 1], n) * 0.012, 0.0)
    path = np.round(60_000 * np.exp(np.cumsum(steps.ravel()).reshape(n, 10)), 1)
    ts = START + np.arange(1, n + 1) * MINUTE
    there = rng.random(n) > 0.02
    columns = (path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1], rng.uniform(50, 500, n).round(3))
    perpetual = SynthSettings().instrument.build()
    writer = CatalogWriter(work / "market")
    writer.instrument(perpetual)
    writer.bars(perpetual, MINUTES, ts[there], ts[there], *(column[there] for column in columns))
    config = small_market.minutes_config(work / "market", work)
    train(config)
    near = config.risk.model_copy(update={"stop": StopSettings(rule="fraction", fraction=0.004)})
    return config.model_copy(update={"risk": near})


def _run(config: RunConfig, **venue: Any) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    changed = config.model_copy(update={"venue": config.venue.model_copy(update=venue)})
    folder, complete = run_backtest(changed, "replay", quiet=True)
    assert complete
    fills, orders = (pq.read_table(folder / f"{name}.parquet").to_pandas() for name in ("fills", "orders"))
    return fills.merge(orders, on="client_order_id", suffixes=("", "_asked")), orders, summary(folder)


@pytest.fixture(scope="module")
def bars(config: RunConfig) -> pd.DataFrame:
    table = Catalog(config.data.catalog).bars(MINUTES)
    found = pd.DataFrame(table.values, columns=list(table.names))
    found["closed"] = table.ts
    found["opened"] = table.ts - MINUTE
    return found


def test_a_market_order_fills_at_the_open_of_the_bar_that_follows_or_worse(
    config: RunConfig, bars: pd.DataFrame
) -> None:
    fills, orders, _ = _run(config)
    market = fills[fills["type"] == "market"]
    assert len(market) > 50
    late = 0
    for fill in market.itertuples():
        follows = bars[bars["opened"] >= fill.ts_asked - LATENCY].iloc[0]
        # An exit may first wait for the cancel of the stop that could close the same position.
        assert fill.ts - int(follows["opened"]) in (LATENCY, 2 * LATENCY)
        worse = fill.side * (fill.price - follows["open"])
        assert -1e-9 <= worse <= TICK + 1e-9  # a tick for what is more than a quarter of the bar
        late += follows["opened"] > fill.ts_asked
    assert late > 0  # the minute after the decision was missing
    held = orders[orders["held"] > 0]
    assert len(held) >= late
    assert (held["ts"] + held["held"]).isin(bars["opened"]).all()


def test_a_stop_that_the_open_gapped_through_fills_at_the_open(config: RunConfig, bars: pd.DataFrame) -> None:
    fills, _, _ = _run(config)
    stops = fills[fills["type"] == "stop_market"]
    gapped = within = 0
    for fill in stops.itertuples():
        level = (fill.side * bars["open"][bars["opened"] == fill.ts]).min()  # NaN where no bar opens
        over = bars[(bars["closed"] == fill.ts) & (bars["closed"] > fill.ts_asked)]
        reached = fill.side * (over["high" if fill.side > 0 else "low"] - fill.price_asked) >= 0
        if reached.any():  # within a bar, which is heard of at its close: at its own level
            expected = fill.side * fill.price_asked
            within += 1
        else:
            assert level >= fill.side * fill.price_asked
            expected = level
            gapped += 1
        assert -1e-9 <= fill.side * fill.price - expected <= TICK + 1e-9
    assert within >= 3
    assert gapped >= 3


def test_a_limit_order_sees_the_open_first_and_then_the_range(config: RunConfig, bars: pd.DataFrame) -> None:
    fills, _, _ = _run(config)
    limits = fills[fills["type"] == "limit"]
    assert len(limits) > 50
    at_open = 0
    for fill in limits.itertuples():
        side = fill.side
        opening = bars[bars["opened"] == fill.ts]
        closing = bars[bars["closed"] == fill.ts]
        reached = [side * (row["open"] - fill.price) <= 0 for _, row in opening.iterrows()]
        at_open += any(reached)
        reached += [
            side * (row["low" if side > 0 else "high"] - fill.price) <= 0 for _, row in closing.iterrows()
        ]
        assert any(reached), fill
    assert at_open > 3


def test_at_the_close_only_if_asked_and_the_run_says_so(
    config: RunConfig, bars: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    fills, _, figures = _run(config, bar_fills="close")
    market = fills[(fills["type"] == "market") & (fills["held"] == 0)]
    assert len(market) > 50
    for fill in market.itertuples():
        closed = bars[bars["closed"] <= fill.ts_asked].iloc[-1]
        assert fill.ts_asked - int(closed["closed"]) in (0, LATENCY)
        decided = closed["close"]
        assert fill.ts == fill.ts_asked + LATENCY
        assert -1e-9 <= fill.side * (fill.price - decided) <= TICK + 1e-9
    assert any("venue.bar_fills = 'close'" in warning for warning in figures["warnings"])
    _, _, honest = _run(config)
    assert not any("bar_fills" in warning for warning in honest["warnings"])


@pytest.mark.parametrize("jumps", [0, 1])
def test_bars_that_open_at_the_close_before_are_said_to(
    config: RunConfig, tmp_path: Path, jumps: int
) -> None:
    table = Catalog(config.data.catalog).bars(MINUTES)
    first, top, bottom, last, volume = table.values.T
    copied = np.concatenate((first[:1], last[:-1]))
    copied[2000 : 2000 + jumps] += 100.0  # one that does not is enough: the opens are its own
    top[2000 : 2000 + jumps] = bottom[2000 : 2000 + jumps] = last[2000 : 2000 + jumps] = copied[2000]
    copied[2001] = last[2000]
    perpetual = SynthSettings().instrument.build()
    writer = CatalogWriter(tmp_path / "market")
    writer.instrument(perpetual)
    ranges = (np.maximum(top, copied), np.minimum(bottom, copied))
    writer.bars(perpetual, MINUTES, table.ts, table.ts, copied, *ranges, last, volume)
    data = config.data.model_copy(update={"catalog": tmp_path / "market"})
    _, _, figures = _run(config.model_copy(update={"data": data}))
    said = any("open at the close before, as their vendor writes" in w for w in figures["warnings"])
    assert said == (not jumps)
