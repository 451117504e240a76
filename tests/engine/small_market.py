"""A small synthetic market and a config that trains and trades on it within seconds."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from catalogs.reader import Catalog, Stream
from catalogs.synthetic.writing import SynthSettings, synthesize
from catalogs.writer import CatalogWriter
from core.events import EVENT, LAST, EventKind
from core.settings import format_time, parse_time
from engine.config import RunConfig, settings_from
from engine.pipeline import Market

MINUTE = 60 * 10**9
PERP = "BTCUSDT-PERP.SIM"
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
            "train": {
                "start": format_time(START),
                "end": format_time(SPLIT),
                "bundles": str(work / "bundles"),
            },
            "backtest": {
                "start": format_time(SPLIT),
                "end": format_time(END),
                "warmup": "2m",
                "runs": str(work / "runs"),
            },
        }
    )


def config(catalog: Path, work: Path, *overrides: str) -> RunConfig:
    """``tree`` with overrides, as a config."""
    return settings_from(RunConfig, "small", tree(catalog, work), list(overrides))


def with_quotes(catalog: Path, folder: Path) -> Path:
    """``catalog`` copied, with best bid and ask ten times a second as quotes."""
    shutil.copytree(catalog, folder)
    fast = config(catalog, folder, "bars.interval=100ms", "features=[]")
    series = Market(fast).features(START, END)
    known = np.isfinite(series.quotes).all(axis=1)
    ts, quotes = series.table.ts[known], series.quotes[known]
    rng = np.random.default_rng(5)
    bid_size, ask_size = rng.uniform(0.5, 20.0, (2, len(ts)))
    perpetual = Catalog(catalog).instrument("BTCUSDT-PERP.SIM")
    CatalogWriter(folder).quotes(perpetual, ts, ts, quotes[:, 1], quotes[:, 2], bid_size, ask_size)
    return folder


def lose_book(catalog: Path, folder: Path, start: int, end: int) -> Path:
    """``catalog`` copied, with the book cleared at ``start`` (ns) and written anew at ``end``; between them
    trades go on, as where depth updates were lost and the next snapshot came at ``end``."""
    shutil.copytree(catalog, folder)
    deltas = folder / "data" / "order_book_deltas" / PERP
    shutil.rmtree(deltas)
    writer = CatalogWriter(folder)
    perpetual = Catalog(catalog).instrument(PERP)
    book: dict[tuple[int, float], float] = {}
    parts = []
    for events in Catalog(catalog).events([Stream(PERP, trades=False)], START, END):
        keep = (events["ts"] < start) | (events["ts"] >= end)
        for kind, price, size in events[events["ts"] < end][["kind", "price", "size"]].tolist():
            if kind == EventKind.CLEAR:
                book.clear()
            elif size:
                book[kind, price] = size
            else:
                book.pop((kind, price), None)
        parts.append(events[keep])
    events = np.concatenate(parts)
    snapshot = np.zeros(len(book) + 2, EVENT)
    snapshot["ts"] = [start, *[end] * (len(book) + 1)]
    snapshot["kind"] = [EventKind.CLEAR, EventKind.CLEAR, *(kind for kind, _ in book)]
    snapshot["price"][2:], snapshot["size"][2:] = [price for _, price in book], list(book.values())
    snapshot["flags"][[0, -1]] = LAST
    at = int(np.searchsorted(events["ts"], start))
    events = np.concatenate((events[:at], snapshot, events[at:]))
    clear, gone = events["kind"] == EventKind.CLEAR, events["size"] == 0
    side = np.where(events["kind"] == EventKind.BID, 1, -1)
    writer.deltas(
        perpetual, events["ts"], events["ts"],
        np.where(clear, 4, np.where(gone, 3, 2)), np.where(clear, 0, side),
        events["price"], events["size"], np.where(events["flags"] & LAST, 128, 0), np.arange(len(events)),
    )  # fmt: skip
    writer.close()
    return folder


MINUTES = "BTCUSDT-PERP.SIM-1-MINUTE-LAST-EXTERNAL"


def make_minutes(folder: Path) -> Path:
    """Two days of one-minute bars from ``START``, and nothing else; here and there a minute without a bar."""
    rng = np.random.default_rng(9)
    n = 2880
    path = 60_000 * np.exp(
        np.cumsum(rng.standard_t(4, size=(n, 10)) * 2e-4 + 1e-5, axis=1).cumsum(axis=0) / 10
    )
    ts = START + np.arange(1, n + 1) * MINUTE
    there = rng.random(n) > 0.01
    columns = (path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1], rng.uniform(5, 50, n))
    perpetual = SynthSettings().instrument.build()
    writer = CatalogWriter(folder)
    writer.instrument(perpetual)
    writer.bars(perpetual, MINUTES, ts[there], ts[there], *(column[there] for column in columns))
    return folder


def minutes_config(catalog: Path, work: Path) -> RunConfig:
    """One day of minutes to train on, one to trade."""
    day = 1440 * MINUTE
    changed = tree(catalog, work)
    changed["data"]["streams"]["perp"] = {
        "instrument": "BTCUSDT-PERP.SIM",
        "book": "none",
        "trades": False,
        "bars": MINUTES,
    }
    changed["bars"] = {"kind": "external", "interval": "1m", "grace": "0s"}
    changed["features"] = ["high_low_1", "volume_zscore_30"]
    changed["forecast"]["features"] = ["log_return_10", "high_low_1"]
    changed["venue"]["queue_position"] = False
    changed["train"] |= {"end": format_time(START + day)}
    changed["backtest"] |= {
        "start": format_time(START + day),
        "end": format_time(START + 2 * day),
        "warmup": "2h",
    }
    return settings_from(RunConfig, "minutes", changed, [])
