"""The figures of a run against a second count of its money, from its folder alone (``recount.py``)."""

import json
from pathlib import Path

import pytest
from recount import recount

from engine.config import RunConfig
from engine.reports import summary
from engine.sessions.backtest import run_backtest


def agrees(folder: Path) -> dict[str, float]:
    """Hold the summary of ``folder`` against the second count, which is returned."""
    figures, counted = summary(folder), recount(folder)
    scale = figures["starting_equity"]
    for name in ("gross_pnl", "fees", "funding", "net_pnl", "max_drawdown"):
        assert figures[name] == pytest.approx(counted[name], rel=1e-9, abs=1e-15 * scale), name
    assert counted["max_equity_error"] < 1e-9
    return counted


def test_every_amount_of_a_run_is_counted_alike(trained: RunConfig, tmp_path: Path) -> None:
    config = trained.model_copy(update={"backtest": trained.backtest.model_copy(update={"runs": tmp_path})})
    folder, _ = run_backtest(config, "replay", quiet=True)
    counted = agrees(folder)
    assert counted["fees"] < 0 < counted["max_drawdown"]
    assert json.loads((folder / "manifest.json").read_text())["complete"]
