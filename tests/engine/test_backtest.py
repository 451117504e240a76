"""Backtests: faithful and replay do the same, in any process; a run that breaks off leaves what it did."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import small_market

import engine.sessions.backtest
from actors import hub, records
from core.errors import BeaufortError
from core.events import LAST, EventKind
from core.records import EquityMark
from engine.config import RunConfig, to_toml
from engine.pipeline import Market
from engine.reports import summary, write_report
from engine.reports.run_folder import read_run
from engine.research.training import train
from engine.sessions.backtest import play, run_backtest
from engine.sessions.runs import abandon_run, begin_run, end_run, new_run_folder
from strategies.momentum import MomentumPolicy

ROOT = Path(__file__).parents[2]
SPOT = "data.streams.spot.instrument=BTCUSDT.SIM"

VARIANTS: dict[str, tuple[str, ...]] = {
    "clock": (),
    "half seconds without grace": ("bars.interval=500ms", "bars.grace=0s"),
    "volume": ("bars={kind='volume', size=0.5}",),
    "dollar": ("bars={kind='dollar', size=30000.0, grace='20ms'}",),
    "spot": (
        SPOT,
        'features=["log_return_10@spot", "basis@spot", "book_imbalance_5@spot", "trade_imbalance_30@spot"]',
    ),
    "volume with spot": ("bars={kind='volume', size=0.5}", SPOT, 'features=["basis@spot"]'),
    "transforms": (
        SPOT,
        'features=["rank(spread, 50)"]',
        'forecast.features=["log_return_10", "zscore(book_imbalance_5, 60)", "ema(log_return_1@spot, 10)"]',
    ),
    "slow values": (
        "data.series.oi=open_interest/BTCUSDT-PERP.SIM",
        "data.streams.perp.index=true",
        'features=["series_log_change_10@oi", "series_value@oi", "funding_rate", "index_basis"]',
    ),
    "venue with luck": ("venue.fill_probability=0.7", "venue.latency=150ms", "seed=11"),
    "walk forward": ("train.schedule={window='10m', step='4m'}",),
}
"""Overrides of the small market's config."""


@pytest.fixture(scope="module")
def configure(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunConfig]:
    """A variant's config, trained."""

    def make(variant: str) -> RunConfig:
        work = tmp_path_factory.mktemp("variant")
        if variant == "quotes":
            quoted = small_market.with_quotes(catalog, work / "market")
            overrides = ("data.streams.perp.book=quotes", "features=['spread', 'book_imbalance_1']")
            overrides += ("forecast.features=['log_return_10', 'book_imbalance_1']",)
            config = small_market.config(quoted, work, *overrides)
        elif variant == "minutes":
            config = small_market.minutes_config(small_market.make_minutes(work / "market"), work)
        else:
            config = small_market.config(catalog, work, *VARIANTS[variant])
        train(config)
        return config

    return make


def _tables(folder: Path) -> dict[str, Any]:
    return {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}


def _assert_same(a: Path, b: Path) -> None:
    one, other = _tables(a), _tables(b)
    assert list(one) == list(other)
    assert {"decisions", "equity", "fills", "funding", "orders"} <= set(one)
    for name, table in one.items():
        assert table.to_pandas().equals(other[name].to_pandas()), name
    assert summary(a)["fingerprint"] == summary(b)["fingerprint"]


@pytest.mark.parametrize("variant", [*VARIANTS, "quotes", "minutes"])
def test_replay_does_what_the_faithful_run_does(configure: Callable[[str], RunConfig], variant: str) -> None:
    config = configure(variant)
    faithful, complete = run_backtest(config, "faithful", quiet=True)
    assert complete
    figures = summary(faithful)
    assert figures["fills"] > 20  # there is something to compare
    assert len(set(_tables(faithful)["decisions"]["strategy"].to_pylist())) == 2
    replay, _ = run_backtest(config, "replay", quiet=True)
    _assert_same(faithful, replay)


def _beaufort(config: RunConfig, work: Path, mode: str, hash_seed: str) -> Path:
    file = work / "config.toml"
    file.write_text(to_toml(config))
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "backtest",
        str(file),
        "--mode",
        mode,
        "--json",
        "--no-report",
    ]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return config.backtest.runs / json.loads(done.stdout)["run"]


def test_other_processes_do_the_same(trained: RunConfig, tmp_path: Path) -> None:
    config = trained.model_copy(update={"backtest": trained.backtest.model_copy(update={"runs": tmp_path})})
    faithful = _beaufort(config, tmp_path, "faithful", "1")
    replay = _beaufort(config, tmp_path, "replay", "2")
    _assert_same(faithful, replay)
    here, _ = run_backtest(config, "faithful", quiet=True)
    _assert_same(faithful, here)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [*VARIANTS, "quotes", "minutes"])
def test_each_kind_of_market_is_the_same_in_every_process(
    configure: Callable[[str], RunConfig], tmp_path: Path, variant: str
) -> None:
    config = configure(variant)
    runs = [
        _beaufort(config, tmp_path, mode, str(seed))
        for seed, mode in enumerate(("faithful", "replay", "faithful", "replay"), start=3)
    ]
    for other in runs[1:]:
        _assert_same(runs[0], other)


def test_the_seed_of_the_venue_matters(configure: Callable[[str], RunConfig]) -> None:
    config = configure("venue with luck")
    other = config.model_copy(update={"seed": 12})
    train(other)  # the seed is of the models too, though these draw nothing
    runs = [read_run(run_backtest(c, "replay", quiet=True)[0]) for c in (config, other)]
    assert not runs[0].fills.equals(runs[1].fills)


def test_ctrl_c_leaves_a_readable_partial_run(trained: RunConfig, tmp_path: Path) -> None:
    # Slow down a bar, so that the signal comes in the middle of the run.
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        "import actors.governor as g\n"
        "judge = g.RiskGovernor.judge\n"
        "def slowly(self, ts, *args):\n"
        "    if ts > self._c.trade_from:\n"
        "        print('bar', flush=True)\n"
        "        time.sleep(0.02)\n"
        "    return judge(self, ts, *args)\n"
        "g.RiskGovernor.judge = slowly\n"
        "from engine.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    file = tmp_path / "config.toml"
    runs = trained.backtest.model_copy(update={"runs": tmp_path / "runs"})
    file.write_text(to_toml(trained.model_copy(update={"backtest": runs})))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(script), "backtest", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    for _ in range(120):
        assert process.stdout.readline() == "bar\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "interrupted: a partial run" in said
    (folder,) = (tmp_path / "runs").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"] is False
    assert small_market.SPLIT + 100 * 10**9 < manifest["end"] < small_market.END
    figures = summary(folder)
    assert 200 < figures["decisions"] < 1200
    assert (folder / "report.html").stat().st_size > 1000
    # What it did until then is what the whole run does.
    whole, _ = run_backtest(trained, "replay", quiet=True)
    done, all_of_it = _tables(folder)["decisions"], _tables(whole)["decisions"]
    assert done.to_pandas().equals(all_of_it.slice(0, len(done)).to_pandas())


def test_a_component_that_fails_leaves_the_partial_run(
    trained: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.cli import main

    honest = MomentumPolicy.decide

    def decide(self: MomentumPolicy, view: Any) -> Any:
        if view.ts == small_market.SPLIT + 100 * 10**9:
            raise ZeroDivisionError("a planted failure")
        return honest(self, view)

    monkeypatch.setattr(MomentumPolicy, "decide", decide)
    file = tmp_path / "config.toml"
    runs = trained.backtest.model_copy(update={"runs": tmp_path / "runs"})
    config = trained.model_copy(update={"backtest": runs})
    file.write_text(to_toml(config))
    assert main(["backtest", str(file)]) == 2
    said = capsys.readouterr().err
    assert "a planted failure" in said
    (folder,) = (tmp_path / "runs").iterdir()
    assert str(folder) in said
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"] is False
    assert manifest["end"] <= small_market.SPLIT + 101 * 10**9
    assert 190 <= summary(folder)["decisions"] <= 201
    write_report(folder)
    with pytest.raises(BeaufortError, match="a planted failure"):
        run_backtest(config, "replay", quiet=True)


def test_a_disk_that_is_full_at_the_end_leaves_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_run_folder(tmp_path, "small")
    manifest = {
        "name": "small", "mode": "replay", "started": "2026-01-05T00:00:00+00:00", "wall_s": 0.0,
        "events": 0, "start": 0, "end": 0, "instrument": "X", "currency": "USDT", "starting_equity": 1e4,
        "complete": False,
    }  # fmt: skip
    journal = begin_run(folder, manifest, "", durable=False)
    journal.write(EquityMark(10**9, "X", 1e4, 1e4, 100.0, 0.0, "none", False))
    honest, full = pq.write_table, OSError(errno.ENOSPC, "No space left on device")

    def writes(table: Any, path: Path, **options: Any) -> None:
        honest(table, path, **options)
        if path.name.startswith("equity"):
            raise full

    monkeypatch.setattr(pq, "write_table", writes)
    with pytest.raises(BeaufortError, match=f"{folder}: the run cannot be closed: .*No space left"):
        end_run(folder, manifest | {"complete": True}, "", journal)
    abandon_run(folder, journal)
    left = ["config.toml", "journal", "manifest.json"]
    assert sorted(path.name for path in folder.iterdir()) == left
    run = read_run(folder)
    assert run.equity["ts"].to_pylist() == [10**9]
    assert "was cut off" in run.manifest["warnings"][0]
    assert run.manifest["end"] == 10**9
    assert summary(folder)["complete"] is False


def test_a_run_that_breaks_off_before_anything_happened_leaves_no_folder(
    trained: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: Any) -> Any:
        raise BeaufortError("planted")

    monkeypatch.setattr(engine.sessions.backtest, "price_feed", fails)
    runs = trained.backtest.model_copy(update={"runs": tmp_path / "runs"})
    with pytest.raises(BeaufortError, match="planted"):
        run_backtest(trained.model_copy(update={"backtest": runs}), "replay", quiet=True)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("kind", ["TRADE_BUY", "BID", "MARK", "FUNDING"])
def test_a_failure_in_reading_raw_data_is_no_quiet_end(
    trained: RunConfig, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    honest = records.pack
    planted = {records.code(EventKind[kind], 0, flags) for flags in (0, LAST)}

    def fails(ts: int, field: int, *values: float) -> bytes:
        if field in planted and ts > small_market.SPLIT + 200 * 10**9:
            raise ZeroDivisionError("planted in raw data")
        return honest(ts, field, *values)

    for module in (records, hub):
        monkeypatch.setattr(module, "pack", fails)
    config = trained.model_copy(update={"features": ("funding_rate", "mark_basis", "book_imbalance_5")})
    market = Market(config)
    outcome = play(market, market.models(), "faithful")
    assert not outcome.complete
    assert "planted in raw data" in outcome.failures[0]
    assert 0 < len(outcome.tables[EquityMark]) < 300


def test_a_span_beyond_the_recording_is_run_with_a_warning(trained: RunConfig) -> None:
    folder, _ = run_backtest(trained, "replay", quiet=True)
    assert json.loads((folder / "manifest.json").read_text())["warnings"] == []
    longer = trained.backtest.model_copy(update={"end": trained.backtest.end + 300 * 10**9})
    folder, complete = run_backtest(trained.model_copy(update={"backtest": longer}), "replay", quiet=True)
    assert complete
    told = json.loads((folder / "manifest.json").read_text())["warnings"]
    assert [warning.split()[0] for warning in told[:3]] == ["deltas", "trades", "mark"]
    assert all("stale prices" in warning for warning in told[:2])
    assert summary(folder)["warnings"] == told
    assert write_report(folder).read_text().count("<b>Warning.</b>") == len(told)


def test_a_span_that_no_model_covers_is_run_with_a_warning_and_refused_where_none_speaks(
    trained: RunConfig,
) -> None:
    def spanning(start: int, end: int) -> RunConfig:
        span = {"start": small_market.SPLIT + start * 10**9, "end": small_market.SPLIT + end * 10**9}
        return trained.model_copy(update={"backtest": trained.backtest.model_copy(update=span)})

    folder, _ = run_backtest(spanning(-120, 60), "replay", quiet=True)
    (told,) = json.loads((folder / "manifest.json").read_text())["warnings"]
    assert "no model is valid in 66.7 % of the span (first valid from 2026-01-05T00:20:00Z" in told
    with pytest.raises(BeaufortError, match="no bundle is valid in"):
        run_backtest(spanning(-120, 0), "replay", quiet=True)


def test_no_trade_before_the_span_and_every_bar_has_a_decision(trained: RunConfig) -> None:
    folder, _ = run_backtest(trained, "faithful", quiet=True)
    tables = _tables(folder)
    expected = [small_market.SPLIT + i * 10**9 for i in range(1, 601)]
    for strategy in trained.strategies:
        rows = tables["decisions"].filter(
            [value == strategy for value in tables["decisions"]["strategy"].to_pylist()]
        )
        assert rows["ts"].cast("int64").to_pylist() == expected
    assert tables["equity"]["ts"].cast("int64").to_pylist() == expected
    assert min(tables["fills"]["ts"].cast("int64").to_pylist()) > small_market.SPLIT
    assert all(reason for reason in tables["decisions"]["reason"].to_pylist())
