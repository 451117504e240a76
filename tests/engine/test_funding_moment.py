"""Funding where orders fill at the very moment of a settlement: who held before it pays."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import small_market
from small_market import MINUTE, MINUTES

from catalogs.reader import Catalog
from catalogs.synthetic.writing import SynthSettings
from catalogs.writer import CatalogWriter
from engine.reports import summary
from engine.research.training import train
from engine.sessions.backtest import run_backtest


@pytest.fixture(scope="module", params=[True, False], ids=["mark", "no mark"])
def run(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pd.DataFrame], Any, Any]:
    """A settlement at the close of every minute, where bars fill resting orders too."""
    work = tmp_path_factory.mktemp("settled")
    catalog = small_market.make_minutes(work / "market")
    bars = Catalog(catalog).bars(MINUTES)
    perpetual = SynthSettings().instrument.build()
    rate = np.random.default_rng(4).normal(0, 1e-4, len(bars.ts)).round(8)
    with CatalogWriter(catalog) as writer:
        writer.funding_rates(perpetual, bars.ts, bars.ts, rate, bars.ts, MINUTE)
        if request.param:
            writer.mark_prices(perpetual, bars.ts, bars.ts, bars.values[:, 3])
    config = small_market.minutes_config(catalog, work)
    train(config)
    folder, complete = run_backtest(config, "replay", quiet=True)
    assert complete
    other, _ = run_backtest(config, "faithful", quiet=True)
    assert summary(folder)["fingerprint"] == summary(other)["fingerprint"]
    tables = {path.stem: pq.read_table(path).to_pandas() for path in folder.glob("*.parquet")}
    return (
        tables,
        pd.DataFrame({"ts": bars.ts, "rate": rate, "close": bars.values[:, 3]}),
        {**summary(folder), "marked": request.param},
    )


def test_those_who_held_before_the_settlement_pay(run: tuple[dict[str, pd.DataFrame], Any, Any]) -> None:
    tables, settled, figures = run
    fills, paid = tables["fills"], tables["funding"].set_index("ts")["amount"]
    at_once = fills["ts"].isin(settled["ts"]).sum()
    assert at_once > 20
    for row in settled[settled["ts"].isin(paid.index)].itertuples():
        before = fills[fills["ts"] < row.ts]
        held = round(float((before["side"] * before["qty"]).sum()), 9)
        # Without marks the price is one of about then: the venue's, or that of a fill.
        near = 1e-9 if figures["marked"] else abs(held * row.rate * row.close) * 3e-2 + 1e-9
        assert paid[row.ts] == pytest.approx(-held * row.close * row.rate, abs=near)
        assert (paid[row.ts] == 0) == (held == 0 or row.rate == 0)


def test_the_parts_add_up(run: tuple[dict[str, pd.DataFrame], Any, Any]) -> None:
    """Every settlement belongs to the round trip that was open, and the books to the venue's account."""
    tables, _, figures = run
    paid, trips, fills = tables["funding"], tables["positions"], tables["fills"]
    fills = fills.assign(signed=fills["side"] * fills["qty"])

    def held(ts: int) -> pd.Series:
        before = fills[fills["ts"] < ts]
        return before.groupby("strategy")["signed"].sum().round(9)

    shares = pd.DataFrame(
        {row.ts: row.amount * held(row.ts) / held(row.ts).sum() for row in paid.itertuples()}
    ).T
    for trip in trips.itertuples():
        mine = shares.get(trip.strategy)
        met = mine[(mine.index > trip.opened) & (mine.index <= trip.closed)]
        assert trip.funding == pytest.approx(met.fillna(0.0).sum(), abs=1e-9)
    assert len(trips) > 20
    last = {}
    for name, mine in fills.groupby("strategy"):
        position = (mine["side"] * mine["qty"]).cumsum().round(9)
        flat = mine["ts"][(position == 0) | (np.sign(position) != np.sign(position.shift()))]
        last[name] = flat.iloc[-1]
    rest = paid[paid["ts"] > min(last.values())]["amount"].abs().sum()
    assert abs(trips["funding"].sum() - paid["amount"].sum()) <= rest + 1e-9
    assert figures["funding"] == pytest.approx(paid["amount"].sum(), abs=1e-9)
    assert abs(figures["unexplained"]) < 1e-6
    assert not [warning for warning in figures["warnings"] if "venue's account" in warning]
