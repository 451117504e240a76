"""What a recording lacks: holes, its end, funding and marks that are not there, and that a run says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_market import END, MINUTE, SPLIT, START

from catalogs.layout import file_name
from catalogs.reader import Catalog
from core.journal import MemoryJournal
from core.records import Fill
from engine.config import RunConfig
from engine.pipeline import Market
from engine.reports import summary, write_report
from engine.sessions.backtest import run_backtest
from engine.sessions.coverage import gaps_met, missing_settlements, price_feed

S = 10**9
HOLE = (SPLIT + 404 * S, SPLIT + 490 * S)  # begins with a position of momentum that ends 20 s later
HOUR = 3600 * S
ID = "BTCUSDT-PERP.SIM"


@pytest.fixture(scope="module")
def cut(trained: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunConfig]:
    """The trained config over a copy of its catalog without the rows between two moments, by kind of data."""

    def make(*kinds: str, lo: int = HOLE[0], hi: int = HOLE[1], **changes: Any) -> RunConfig:
        source, folder = trained.data.catalog, tmp_path_factory.mktemp("cut") / "market"
        for path in sorted(source.rglob("*.parquet")):
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not any(kind in target.parts for kind in kinds):
                target.hardlink_to(path)
                continue
            table = pq.read_table(path)
            ts = table["ts_init"].cast("int64")
            kept = table.filter(pc.or_(pc.less_equal(ts, lo), pc.greater_equal(ts, hi)))
            if len(kept):
                ts = kept["ts_init"].cast("int64").to_numpy()
                pq.write_table(kept, target.with_name(file_name(int(ts[0]), int(ts[-1]))))
        data = trained.data.model_copy(update={"catalog": folder})
        return trained.model_copy(update={"data": data, **changes})

    return make


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pq.read_table(path).to_pandas() for path in sorted(folder.glob("*.parquet"))}


def _warnings(folder: Path) -> list[str]:
    told: list[str] = json.loads((folder / "manifest.json").read_text())["warnings"]
    assert summary(folder)["warnings"] == told
    assert write_report(folder).read_text().count("<b>Warning.</b>") == len(told)
    return told


def _held(fills: pd.DataFrame, ts: int) -> float:
    before = fills[fills["ts"] < ts]
    return round(float((before["side"] * before["qty"]).sum()), 9)


def test_nothing_fills_inside_a_hole_in_either_mode_and_the_run_says_what_it_held(
    cut: Callable[..., RunConfig],
) -> None:
    config = cut("order_book_deltas", "trades")
    runs = [run_backtest(config, mode, quiet=True)[0] for mode in ("faithful", "replay")]
    assert summary(runs[0])["fingerprint"] == summary(runs[1])["fingerprint"]
    tables = _tables(runs[0])
    files = sorted((config.data.catalog / "data/order_book_deltas" / ID).rglob("*.parquet"))
    known = np.concatenate([pq.read_table(path)["ts_init"].cast("int64").to_numpy() for path in files])
    lo, hi = int(known[known <= HOLE[0]][-1]), int(known[known >= HOLE[1]][0])
    fills, orders = tables["fills"], tables["orders"]
    assert not (~fills["maker"] & (fills["ts"] > lo) & (fills["ts"] < hi)).any()
    sent = orders[(orders["ts"] + config.venue.latency > lo) & (orders["ts"] < hi)]
    assert len(sent)
    np.testing.assert_array_equal(sent["held"], hi - sent["ts"])
    assert not orders.drop(sent.index)["held"].any()
    assert _held(fills, hi)
    (told,) = _warnings(runs[0])
    assert "a position was held through 1 hole of more than 5 s in the deltas of BTCUSDT-PERP.SIM" in told
    assert f"(the longest {(hi - lo) / 60e9:.3g} min from 2026-01-05T00:26:" in told
    assert f"{len(sent)} order{'s' * (len(sent) != 1)} waited for the first price" in told


def test_a_longer_patience_makes_it_no_hole(cut: Callable[..., RunConfig], trained: RunConfig) -> None:
    patient = trained.venue.model_copy(update={"stale_after": 100 * S})
    folder, _ = run_backtest(cut("order_book_deltas", "trades", venue=patient), "replay", quiet=True)
    assert not _tables(folder)["orders"]["held"].any()
    assert not [warning for warning in _warnings(folder) if "hole" in warning]


def test_after_the_end_of_the_recording_nothing_fills_and_the_position_stays(
    cut: Callable[..., RunConfig],
) -> None:
    config = cut("order_book_deltas", "trades", lo=HOLE[0], hi=2**62)
    runs = [run_backtest(config, mode, quiet=True)[0] for mode in ("faithful", "replay")]
    assert summary(runs[0])["fingerprint"] == summary(runs[1])["fingerprint"]
    tables = _tables(runs[0])
    fills, orders, equity = tables["fills"], tables["orders"], tables["equity"]
    assert fills["ts"].max() <= HOLE[0]
    position = _held(fills, END)
    assert position
    assert equity["position"].iloc[-1] == position
    assert equity["ts"].iloc[-1] == END
    never = orders[orders["held"] < 0]
    assert len(never)
    assert set(never["status"]) == {"initialized"}
    (told,) = [warning for warning in _warnings(runs[0]) if "nobody is there" in warning]
    assert f"with a position of {position:+.12g} contracts" in told
    assert f"marked at the last price {equity['price'].iloc[-1]:.12g}" in told
    assert f"{len(never)} order{'s' * (len(never) != 1)} sent since never reached the venue" in told


def test_marks_and_funding_that_are_missing_are_counted(
    cut: Callable[..., RunConfig], trained: RunConfig
) -> None:
    folder, _ = run_backtest(cut("mark_prices"), "replay", quiet=True)
    held = [ts for ts, q in _tables(folder)["equity"][["ts", "position"]].to_numpy().tolist() if q]
    kept = [
        t for t in Catalog(trained.data.catalog).prices(ID, "mark")["ts_init"] if not HOLE[0] < t < HOLE[1]
    ]
    without = [ts for ts in held if not any(ts - MINUTE <= t <= ts for t in kept)]
    assert len(without) > 3
    (told,) = _warnings(folder)
    assert f"held at {len(without)} bars without a mark price of BTCUSDT-PERP.SIM in the 1 min before" in told


def test_settlements_that_are_missing_are_counted_where_something_is_held(
    cut: Callable[..., RunConfig], trained: RunConfig
) -> None:
    """One is due every five minutes; a contract is held from 20 min to 27 min."""

    def warned(config: RunConfig) -> list[str]:
        fills = [(SPLIT + S, 1), (SPLIT + 7 * MINUTE, -1)]
        journal = MemoryJournal()
        for ts, side in fills:
            journal.write(Fill(ts, "", "s", ID, side, 1.0, 1.0, 0.0, True, 1.0, "none", True))
        market = Market(config)
        return gaps_met(market, price_feed(market, SPLIT, END), journal.tables(), END)

    assert warned(trained) == []
    (told,) = warned(cut("funding_rates", lo=START + 20 * MINUTE - 1, hi=START + 25 * MINUTE))
    assert "held over 1 settlement that the recorded funding of BTCUSDT-PERP.SIM" in told
    assert "lacks, the first at 2026-01-05T00:25:00Z" in told
    assert warned(cut("funding_rates", lo=START + 25 * MINUTE, hi=2**62)) == []  # flat when it is due
    (told,) = warned(cut("funding_rates", lo=0, hi=2**62))
    assert "no funding of BTCUSDT-PERP.SIM is recorded, and a position was held" in told


@pytest.mark.parametrize(
    ("known", "first", "last", "missing"),
    [
        ([0, 8, 16, 24], -1, 25, []),
        ([0, 8, 16, 24], -1, 48, [32, 40, 48]),  # it ends early
        ([16, 24], 0, 24, [8]),  # and begins late
        ([0, 8, 16, 40, 48, 56], 8, 56, [24, 32]),
        ([0, 8, 16, 20, 24, 25, 26, 27], 0, 27, []),  # 8 h, then 4 h, then 1 h
        ([0, 1, 2, 3, 11, 19, 27], 0, 27, []),
        ([0, 8, 16, 20, 24, 25, 26, 27, 29, 30, 31], 0, 31, [28]),  # by the interval of that time
        ([0, 8, 16, 40, 64, 72, 80], 0, 80, [24, 32, 48, 56]),  # two holes beside each other
        ([8], 0, 30, [16, 24]),  # one alone: the usual interval
    ],
)
def test_settlements_that_are_missing_by_hand(
    known: list[int], first: int, last: int, missing: list[int]
) -> None:
    got = missing_settlements(np.array(known, dtype=np.int64) * HOUR, first * HOUR, last * HOUR)
    assert got.tolist() == [hour * HOUR for hour in missing]
