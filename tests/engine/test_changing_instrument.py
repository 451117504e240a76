"""An instrument that changes: runs on either side use its definition of the time, and none goes across."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_market
from small_market import END, MINUTE, PERP, SPLIT, START

from catalogs.instruments import PerpetualSettings, definition
from catalogs.reader import Catalog
from catalogs.synthetic.writing import SynthSettings
from catalogs.writer import CatalogWriter
from core.errors import BeaufortError
from core.settings import format_time
from engine.config import RunConfig
from engine.pipeline import Market
from engine.reports.run_folder import read_run
from engine.research.training import train
from engine.sessions.backtest import run_backtest

CHANGE = SPLIT + 5 * MINUTE


def changed_at(catalog: Path, folder: Path, moment: int, **change: Any) -> Path:
    """``catalog`` copied, with another definition of the perpetual from ``moment`` on."""
    shutil.copytree(catalog, folder)
    new = PerpetualSettings(
        **(SynthSettings().instrument.model_dump() | {"valid_from": format_time(moment)} | change)
    )
    with CatalogWriter(folder) as writer:
        writer.instrument(new.build())
    return folder


def on(trained: RunConfig, catalog: Path, runs: Path, start: int, end: int) -> RunConfig:
    data = trained.data.model_copy(update={"catalog": catalog})
    span = trained.backtest.model_copy(update={"runs": runs, "start": start, "end": end})
    return trained.model_copy(update={"data": data, "backtest": span})


@pytest.mark.parametrize(
    "change", [{"multiplier": "0.01"}, {"price_increment": "0.5"}, {"min_notional": "9"}]
)
def test_a_backtest_over_a_change_is_refused(
    trained: RunConfig, catalog: Path, tmp_path: Path, change: dict[str, str]
) -> None:
    config = on(trained, changed_at(catalog, tmp_path / "c", CHANGE, **change), tmp_path, SPLIT, END)
    with pytest.raises(BeaufortError) as error:
        run_backtest(config, "replay", quiet=True)
    ((name, value),) = change.items()
    said = str(error.value)
    old = definition(Catalog(catalog).instrument(PERP))[name]
    assert f"{name} {old} becomes {value}" in said
    assert f"changes at {format_time(CHANGE)}" in said
    assert f"ends by {format_time(CHANGE)}" in said
    assert f"starts from {format_time(CHANGE + trained.backtest.warmup)}" in said


def test_a_run_states_and_uses_the_definition_of_its_time(
    trained: RunConfig, catalog: Path, tmp_path: Path
) -> None:
    # Long before the change nothing is different, though the catalog's newest contract is a hundredth.
    newer = changed_at(catalog, tmp_path / "c", END, multiplier="0.01")
    told = []
    for number, where in enumerate((catalog, newer)):
        folder, _ = run_backtest(
            on(trained, where, tmp_path / str(number), SPLIT, CHANGE), "replay", quiet=True
        )
        run = read_run(folder)
        assert run.manifest["definition"]["multiplier"] == "1"
        assert len(run.fills) > 0
        told.append((run.fills, run.equity, run.decisions))
    for before, after in zip(*told, strict=True):
        assert before.equals(after)


def test_money_after_the_change_is_of_the_new_contract(
    trained: RunConfig, catalog: Path, tmp_path: Path
) -> None:
    # The same market in contracts of a hundredth, since before what is read: a contract's fee is a hundredth
    # of what it is in whole coins, in Nautilus's books and in ours.
    newer = changed_at(catalog, tmp_path / "c", START, multiplier="0.01")
    tables = []
    for mode in ("faithful", "replay"):
        folder, _ = run_backtest(on(trained, newer, tmp_path / mode, SPLIT, CHANGE), mode, quiet=True)  # type: ignore[arg-type]
        run = read_run(folder)
        assert run.manifest["multiplier"] == 0.01
        fills = run.fills.to_pandas()
        assert len(fills) > 0
        rate = np.where(fills.maker, 0.00001, 0.0001)
        np.testing.assert_allclose(np.abs(fills.fee), rate * 0.01 * fills.qty * fills.price, atol=1e-8)
        # Equity is what the fills and funding make of it, marked at the bar's price, a hundredth a contract.
        paid = float(run.funding.to_pandas().amount.sum())
        cash = -(fills.side * fills.qty * fills.price).sum() * 0.01 - np.abs(fills.fee).sum() + paid
        held = (fills.side * fills.qty).sum() * 0.01 * run.equity["price"][-1].as_py()
        start = run.manifest["starting_equity"]
        assert run.equity["equity"][-1].as_py() - start == pytest.approx(cash + held, abs=1e-6)
        tables.append((run.fills, run.decisions))
    assert tables[0][0].equals(tables[1][0])


def test_features_over_a_change_of_tick_are_those_of_one_tick(
    trained: RunConfig, catalog: Path, tmp_path: Path
) -> None:
    finer = changed_at(catalog, tmp_path / "c", CHANGE, price_increment="0.5")
    whole = Market(trained).features(START, END)
    split = Market(on(trained, finer, tmp_path, CHANGE + MINUTE, END)).features(START, END)
    np.testing.assert_array_equal(split.table.ts, whole.table.ts)
    np.testing.assert_allclose(split.table.values, whole.table.values, rtol=1e-9, equal_nan=True)


def test_training_over_a_change_of_contract_is_refused(
    trained: RunConfig, catalog: Path, tmp_path: Path
) -> None:
    changed = changed_at(catalog, tmp_path / "c", START + 10 * MINUTE, multiplier="0.01")
    with pytest.raises(BeaufortError, match=r"multiplier 1 becomes 0\.01"):
        train(small_market.config(changed, tmp_path))


def test_volume_of_a_small_contract_is_in_coin(trained: RunConfig, catalog: Path, tmp_path: Path) -> None:
    names = "features=['signed_volume_1','amihud_5']"
    whole = Market(small_market.config(catalog, tmp_path, names)).features(START, START + 5 * MINUTE)
    small = changed_at(catalog, tmp_path / "c", START, multiplier="0.01")
    part = Market(small_market.config(small, tmp_path, names)).features(START, START + 5 * MINUTE)
    column = whole.table.column("signed_volume_1")
    assert np.nanmax(np.abs(column)) > 0
    np.testing.assert_allclose(part.table.column("signed_volume_1"), 0.01 * column, rtol=1e-9, equal_nan=True)
    np.testing.assert_allclose(
        part.table.column("amihud_5"), 100 * whole.table.column("amihud_5"), rtol=1e-9, equal_nan=True
    )
