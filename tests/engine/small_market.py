"""A small synthetic market and a config that trains and trades on it within seconds."""

import copy
from pathlib import Path
from typing import Any

from catalogs.synth import SynthSettings, synthesize
from engine.config import RunConfig, settings_from
from features.settings import parse_time

MINUTE = 60 * 10**9
START = parse_time("2026-01-05T00:00:00Z")
SPLIT = START + 20 * MINUTE  # trained before, traded after
END = START + 30 * MINUTE


def make_market(folder: Path) -> Path:
    """Half an hour of a perpetual and its spot pair, with open interest."""
    tree = {
        "seed": 3, "duration": "30m", "spot": True, "levels": 10, "rate": 0.5, "funding_interval": "5m",
    }  # fmt: skip
    synthesize(settings_from(SynthSettings, "small", tree, []), folder)
    return folder


def tree(catalog: Path, work: Path) -> dict[str, Any]:
    """The config as TOML would give it: quick models of every kind, strategies that trade readily."""
    return copy.deepcopy(
        {
            "name": "small",
            "data": {
                "catalog": str(catalog),
                "trade": "perp",
                "streams": {"perp": {"instrument": "BTCUSDT-PERP.SIM", "mark": True, "funding": True}},
            },
            "bars": {"kind": "clock", "interval": "1s"},
            "features": ["book_imbalance_5", "trade_imbalance_30", "mark_basis"],
            "regime": {"kind": "rules", "fast": 10, "slow": 60, "hysteresis": {"dwell": 3}},
            "volatility": {"kind": "ewma", "horizon": 30},
            "forecast": {
                "kind": "logistic",
                "features": ["log_return_10", "book_imbalance_5", "trade_imbalance_30"],
                "horizon": 30,
                "cost_bps": 1.0,
            },
            "strategies": {
                "momentum": {
                    "kind": "momentum",
                    "regimes": ["trend"],
                    "entry_probability": 0.3,
                    "margin": 0.0,
                    "horizon": 20,
                    "cooldown": 5,
                },
                "grid": {"kind": "grid", "regimes": ["chop"], "fee_multiple": 1.0, "min_ticks": 1},
            },
            "venue": {"maker_fee": "0.00001", "taker_fee": "0.0001"},
            "train": {"start": START, "end": SPLIT, "bundles": str(work / "bundles")},
            "backtest": {"start": SPLIT, "end": END, "warmup": "2m", "runs": str(work / "runs")},
        }
    )


def config(catalog: Path, work: Path, *overrides: str) -> RunConfig:
    """``tree`` with overrides, as a config."""
    return settings_from(RunConfig, "small", tree(catalog, work), list(overrides))
