"""Real recordings through the whole engine: faithful and replay agree, and their money is counted again."""

import os
from pathlib import Path

import pytest
from test_recount import agrees

from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.synthetic.writing import SynthSettings, synthesize
from engine.config import load_config, load_settings
from engine.reports import summary
from engine.research.training import train
from engine.sessions.backtest import run_backtest

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("BEAUFORT_REAL_DATA", ROOT / "../shared/data"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set BEAUFORT_REAL_DATA"),
]


def _fingerprints(tmp_path: Path, name: str, mapping: str, overrides: list[str]) -> list[dict]:
    catalog = tmp_path / "catalog"
    run_import(load_settings(ImportMapping, ROOT / f"configs/imports/{mapping}.toml"), REAL, catalog)
    places = {
        "data.catalog": catalog,
        "train.bundles": tmp_path / "bundles",
        "backtest.runs": tmp_path / "runs",
    }
    config = load_config(
        ROOT / f"configs/{name}.toml", [*(f"{key}={place}" for key, place in places.items()), *overrides]
    )
    train(config)
    folders = [run_backtest(config, mode, quiet=True)[0] for mode in ("faithful", "replay")]
    for folder in folders:
        agrees(folder)
    return [summary(folder) for folder in folders]


def test_binance_window_with_its_incremental_book(tmp_path: Path) -> None:
    market = tmp_path / "market"
    synthesize(load_settings(SynthSettings, ROOT / "configs/binance-window-market.toml"), market)
    faithful, replay = _fingerprints(
        tmp_path, "binance-window", "binance-2024-07", [f"train.catalog={market}"]
    )
    assert faithful["fills"] > 0
    assert faithful["fingerprint"] == replay["fingerprint"]


def test_standx_ticks_with_stalls_and_locked_books(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    faithful, replay = _fingerprints(
        tmp_path, "standx-ticks", "standx", ["backtest.end=2026-01-07T03:00:00Z"]
    )
    assert faithful["fills"] > 0
    assert faithful["fingerprint"] == replay["fingerprint"]


def test_bitmex_bars_of_an_inverse_contract(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spans = [
        "train.start=2018-10-01",
        "train.end=2018-11-01",
        "backtest.start=2018-11-01",
        "backtest.end=2018-12-01",  # the fall of November 2018
        "forecast.training.epochs=2",
    ]
    faithful, replay = _fingerprints(tmp_path, "bitmex-1m", "bitmex-1m", spans)
    assert faithful["fills"] > 0
    assert faithful["fingerprint"] == replay["fingerprint"]
