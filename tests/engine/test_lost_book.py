"""A run whose instrument loses its book for a while: nothing is opened or closed there, and it says so."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import small_market
from small_market import MINUTE, SPLIT

from catalogs.checks.check import check_catalog
from core.errors import BeaufortError
from engine.config import RunConfig
from engine.reports.run_folder import read_run
from engine.research.training import train
from engine.sessions.backtest import run_backtest

LOST, BACK = SPLIT + 3 * MINUTE, SPLIT + 6 * MINUTE


def _with(trained: RunConfig, catalog: Path, runs: Path) -> RunConfig:
    data = trained.data.model_copy(update={"catalog": catalog})
    backtest = trained.backtest.model_copy(update={"runs": runs})
    return trained.model_copy(update={"data": data, "backtest": backtest})


@pytest.fixture(scope="module")
def gap(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_market.lose_book(catalog, tmp_path_factory.mktemp("gap") / "market", LOST, BACK)


def test_nothing_is_done_without_a_book(trained: RunConfig, gap: Path, tmp_path: Path) -> None:
    folder, complete = run_backtest(_with(trained, gap, tmp_path), "faithful", quiet=True)
    assert complete
    run = read_run(folder)
    ts, price = run.equity["ts"].to_numpy(), run.equity["price"].to_numpy()
    # The bar that ends with the clearing is the last before it; the snapshot is of the bar after its own.
    silent = (ts > LOST) & (ts <= BACK)
    assert silent.sum() == 180
    np.testing.assert_array_equal(np.isnan(price), silent)
    equity, position = run.equity["equity"].to_numpy()[silent], run.equity["position"].to_numpy()[silent]
    decisions = run.decisions.to_pandas()
    asleep = decisions[(decisions.ts > LOST) & (decisions.ts <= BACK)]
    assert set(asleep.action) <= {"none", "hold", "cancel"}
    assert set(asleep.reason) == {"no price"}
    orders = run.orders.to_pandas()
    grace = 10**8
    assert not ((orders.ts > LOST + 10**9) & (orders.ts < BACK + grace)).any()
    assert (orders.ts > BACK + grace).any()  # it goes on afterwards
    assert not np.diff(position).any()
    paid = [row["amount"] for row in run.funding.to_pylist() if LOST < row["ts"] <= BACK]
    assert np.ptp(equity) == pytest.approx(abs(sum(paid)))  # what is held is worth what it was worth
    (line,) = [line for line in run.manifest["warnings"] if "no price" in line]
    assert f"no price at 180 of {len(ts)} bars, in 1 stretch, the longest" in line
    (finding,) = [item for _, item in check_catalog(gap).findings if item.defect == "lost book"]
    assert (finding.count, finding.first) == (1, LOST)
    assert "3 min" in finding.detail


def test_faithful_and_replay_agree_across_a_lost_book(trained: RunConfig, gap: Path, tmp_path: Path) -> None:
    tables = []
    for mode in ("faithful", "replay"):
        folder, _ = run_backtest(_with(trained, gap, tmp_path / mode), mode, quiet=True)  # type: ignore[arg-type]
        tables.append(
            [pq.read_table(folder / f"{name}.parquet") for name in ("decisions", "fills", "equity")]
        )
    for faithful, replay in zip(*tables, strict=True):
        assert faithful.to_pandas().equals(replay.to_pandas())


def test_a_span_without_any_book_fails(trained: RunConfig, gap: Path, tmp_path: Path) -> None:
    config = _with(trained, gap, tmp_path)
    span = config.backtest.model_copy(update={"start": LOST + MINUTE, "end": BACK - MINUTE})
    config = config.model_copy(update={"backtest": span})
    with pytest.raises(BeaufortError, match="no price at any bar of the span"):
        run_backtest(config, "replay", quiet=True)


def test_funding_that_nothing_can_be_paid_on_ends_the_run_with_what_to_do(gap: Path, tmp_path: Path) -> None:
    without = tmp_path / "market"
    shutil.copytree(gap, without)
    shutil.rmtree(without / "data" / "mark_prices")
    config = small_market.config(
        without,
        tmp_path,
        "data.streams.perp.mark=false",
        'features=["book_imbalance_5"]',
        "strategies.momentum.horizon=600",
        "strategies.momentum.cooldown=0",
        "strategies.momentum.regimes=['chop']",
        "strategies.momentum.entry_probability=0.05",
        "strategies.grid.regimes=['trend']",
    )
    train(config)
    with pytest.raises(BeaufortError, match="import mark prices and set mark = true") as stopped:
        run_backtest(config, "replay", quiet=True)
    (folder,) = (tmp_path / "runs").iterdir()
    assert str(folder) in str(stopped.value)
    run = read_run(folder)
    assert not run.manifest["complete"]
    assert run.equity["position"].to_numpy()[-1] != 0
