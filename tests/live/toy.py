"""A toy run for live tests: trained on a toy market, then live on another through the loopback venue.

``python toy.py FOLDER`` starts a session in a process of its own, for tests that send it signals.
"""

import sys
from pathlib import Path
from typing import Any

from loopback import LoopbackVenue, small_market
from nautilus_trader.config import DataClientConfig

from engine.config import RunConfig, settings_from
from engine.research.training import train
from engine.sessions.live import run_live
from engine.venues import DataSource

MS = 10**6
BAR, GRACE = 1_000 * MS, 100 * MS
QUIET = (BAR, GRACE - 20 * MS, GRACE + 600 * MS)
"""Around closes nothing is sent: see ``LoopbackVenue``."""


def toy_config(folder: Path, **changes: Any) -> RunConfig:
    """One-second bars, models that need a few bars, and strategies that trade all the time."""
    tree: dict[str, Any] = {
        "name": "toy",
        "data": {
            "catalog": str(folder / "past"),
            "trade": "perp",
            "streams": {"perp": {"instrument": "BTCUSDT-PERP.LOOP", "mark": True, "funding": True}},
        },
        "bars": {"kind": "clock", "interval": "1s", "grace": "100ms"},
        "features": [
            "spread",
            "log_return_1",
            "signed_volume_1",
            "book_imbalance_5",
            "funding_rate",
            "mark_basis",
        ],
        "regime": {"kind": "rules", "fast": 2, "slow": 5, "hysteresis": {"enter": 0.5, "dwell": 2}},
        "volatility": {"kind": "ewma", "horizon": 4},
        "forecast": {
            "kind": "logistic",
            "horizon": 2,
            "cost_multiple": 0.05,
            "features": ["book_imbalance_5", "signed_volume_1"],
        },
        "strategies": {
            "momentum": {"kind": "momentum", "entry_probability": 0.05, "margin": 0.0, "horizon": 3},
            "grid": {
                "kind": "grid",
                "levels": 2,
                "fair_half_life": 2,
                "spacing_volatilities": 0.1,
                "fee_multiple": 1,
                "pause": "1s",
            },
        },
        "venue": {"maker_fee": "0.00001"},
        "train": {"start": "2026-01-05", "end": "2026-01-05T00:10:00Z", "bundles": str(folder / "bundles")},
        "backtest": {
            "start": "2026-01-05T00:10:00Z",
            "end": "2026-01-05T00:11:00Z",
            "warmup": "3s",
            "runs": str(folder / "runs"),
        },
        "live": {"adapter": "binance", "state": str(folder / "state"), "connect_timeout": "20s"},
    }
    return settings_from(RunConfig, "toy", tree | changes, [])


def prepare(folder: Path, seconds: float) -> RunConfig:
    """The trained toy run, and ``seconds`` of market for its session."""
    config = toy_config(folder)
    small_market(folder / "past", 660, seed=1)
    small_market(folder / "played", seconds, seed=2)
    train(config)
    return config


def loopback(folder: Path) -> DataSource:
    """The venue that streams the market ``prepare`` made."""
    return DataSource("LOOP", LoopbackVenue(folder / "played", quiet=QUIET), DataClientConfig())


if __name__ == "__main__":
    root = Path(sys.argv[1])
    sys.exit(run_live(toy_config(root), source=loopback(root)))
