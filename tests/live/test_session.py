"""A session stopped by SIGINT: what it leaves, and the backtest of what it recorded."""

import dataclasses
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from toy import BAR, GRACE, MS, QUIET, loopback, prepare, toy_config

import engine.sessions.live
from catalogs.layout import files
from catalogs.reader import Catalog
from core.errors import BeaufortError
from engine.config import load_config
from engine.pipeline import Market
from engine.research.training import train
from engine.sessions.backtest import run_backtest
from engine.sessions.live import identity, run_live
from engine.sessions.live_state import SessionState
from volatility.ewma import EwmaSettings

_TOY = Path(__file__).with_name("toy.py")
_REPOSITORY = _TOY.parents[2]
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(_REPOSITORY)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    prepare(folder, 60)
    return folder


def _session(root, seconds):
    """Start a session, send it SIGINT after ``seconds`` of trading; its run folder."""
    known = set((root / "runs").glob("*"))
    process = subprocess.Popen(
        [sys.executable, _TOY, root],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_ENVIRONMENT,
    )
    try:
        deadline = time.monotonic() + 60
        while not (begun := set((root / "runs").glob("*/catalog")) - {f / "catalog" for f in known}):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return begun.pop().parent


@pytest.fixture(autouse=True)
def _one_node_at_a_time():
    """Nautilus allows one live node a thread, and the traces of cancelled tasks hold on to the last one."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def session(root):
    return _session(root, 12)


def test_sigint_leaves_a_whole_run_and_no_exposure(root, session):
    manifest = json.loads((session / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["mode"] == "sandbox"
    orders = pq.read_table(session / "orders.parquet")
    assert set(orders["status"].to_pylist()) <= {"filled", "canceled", "rejected"}
    assert "canceled" in orders["status"].to_pylist()
    fills = pq.read_table(session / "fills.parquet")
    bought = np.array(fills["side"]) * np.array(fills["qty"])
    assert len(bought) >= 2
    assert abs(bought.sum()) < 1e-9
    assert (np.array(fills["fee"]) < 0).all()  # also of those that flattened it
    assert 0 <= SessionState.load(root / "state" / "toy.npz").heard - manifest["end"] < 3 * BAR


def test_a_backtest_of_the_recording_takes_the_same_decisions(session):
    _assert_same(session, "faithful")


@pytest.mark.slow
def test_a_longer_session_in_both_modes(tmp_path):
    prepare(tmp_path, 60)
    folder = _session(tmp_path, 40)
    assert len(pq.read_table(folder / "decisions.parquet")) > 50
    _assert_same(folder, "faithful")
    _assert_same(folder, "replay")


def _assert_same(session, mode):
    """Every column of decisions and equity; of fills all but their time.

    In a live node a bar is closed a millisecond or so after it was due, and an order reaches the simulated
    venue that much later than in a backtest.
    """
    sent = pq.read_table(session / "orders.parquet").to_pandas().query("type == 'market'")["ts"]
    if ((sent - GRACE) % BAR).max() > QUIET[2] - GRACE - 10 * MS:
        pytest.skip("this machine was too busy: a bar was closed after the venue's quiet time had passed")
    played, complete = run_backtest(load_config(session / "config.toml"), mode, quiet=True)
    assert complete
    for table in ("decisions", "equity"):
        ours, theirs = (pq.read_table(f / f"{table}.parquet").to_pandas() for f in (session, played))
        assert len(ours) > 5
        assert_frame_equal(ours, theirs, check_exact=True)
    ours, theirs = (pq.read_table(f / "fills.parquet").to_pandas() for f in (session, played))
    ours = ours[: len(theirs)]  # the last fills of a live session are those that flatten it
    assert len(theirs) > 3
    assert_frame_equal(ours.drop(columns="ts"), theirs.drop(columns="ts"), check_exact=True)
    delay = np.array(ours["ts"]) - np.array(theirs["ts"])
    assert (delay >= 0).all()


def _config(root, folder, warmup="3s"):
    """The toy run with run folders and state in ``folder``."""
    backtest = {"start": "2026-01-06", "end": "2026-01-07", "warmup": warmup, "runs": str(folder / "runs")}
    live = {"adapter": "binance", "state": str(folder / "state"), "connect_timeout": "20s"}
    return toy_config(root, backtest=backtest, live=live)


def _rows(folder, table):
    (run,) = (folder / "runs").glob("*")
    return pq.read_table(run / f"{table}.parquet")


def _amount(state):
    amount, currency = state.balance.split()
    assert currency == "USDT"
    return pytest.approx(float(amount), abs=1e-8)


def test_a_session_goes_on_where_the_last_one_stopped(root, session, tmp_path):
    left, path = SessionState.load(root / "state" / "toy.npz"), tmp_path / "state" / "toy.npz"
    assert set(left.policies) == {"momentum", "grid"}
    desk = json.loads(left.policies["momentum"])
    desk["policy"] = {"bars_held": 0, "cooldown": 1_000, "stop_distance": 0.123}
    desk["refusals"]["adding"] |= {"count": 1, "reason": "REMEMBERED", "accepted": False}
    resting = json.dumps(desk).encode()
    dataclasses.replace(left, policies={**left.policies, "momentum": resting}).save(path)
    run_live(
        _config(root, tmp_path, warmup="600s"), 3, loopback(root)
    )  # from nothing it would decide nothing
    assert set(_rows(tmp_path, "decisions")["regime"].to_pylist()[:2]) <= {"trend", "chop", "stress"}
    equity = _rows(tmp_path, "equity")["equity"]
    assert equity[0].as_py() == _amount(left)
    after = SessionState.load(path)
    rested = json.loads(after.policies["momentum"])
    assert rested["policy"]["stop_distance"] == 0.123  # it rested on
    assert rested["refusals"]["adding"]["reason"] == "REMEMBERED"
    # One more than were traded: the bar that was open when the last session stopped.
    assert after.parts["kernel"]["filled"] == left.parts["kernel"]["filled"] + 1 + len(equity)


@pytest.mark.parametrize(
    "change", ["features", *(pytest.param(name, marks=pytest.mark.slow) for name in ("age", "clock"))]
)
def test_a_state_too_old_or_of_other_features_only_keeps_the_account(root, session, tmp_path, change):
    left = SessionState.load(root / "state" / "toy.npz")
    changes = {
        "age": {"heard": left.heard - 10**12},
        "clock": {"heard": left.heard + 10**13},
        "features": {"identity": "another"},
    }[change]
    left.parts["governor"]["governor"][0] *= 2  # the peak of its equity: half is lost since
    dataclasses.replace(left, **changes).save(tmp_path / "state" / "toy.npz")
    run_live(_config(root, tmp_path, warmup="1s"), 4, loopback(root))
    decisions = _rows(tmp_path, "decisions")
    assert decisions["regime"].to_pylist()[0] == "none"
    assert set(decisions["permit"].to_pylist()) == {"halted"}
    assert _rows(tmp_path, "equity")["equity"][0].as_py() == _amount(left)


def test_a_component_that_fails_ends_the_session_with_its_trace(root, tmp_path, monkeypatch):
    assemble = engine.sessions.live.assemble

    def sabotaged(*args, **kwargs):
        hub = assemble(*args, **kwargs)
        step, bars = hub.stages["regime"].step, itertools.count(1)

        def fails(ts, row):  # once there is something to keep
            return step(ts, row) if next(bars) < 4 else 1 / 0

        monkeypatch.setattr(hub.stages["regime"], "step", fails)
        return hub

    monkeypatch.setattr(engine.sessions.live, "assemble", sabotaged)
    with pytest.raises(BeaufortError, match="ZeroDivisionError"):
        run_live(_config(root, tmp_path), 20, loopback(root))
    (folder,) = (tmp_path / "runs").glob("*")
    assert not json.loads((folder / "manifest.json").read_text())["complete"]
    assert files(folder / "catalog", "deltas", "BTCUSDT-PERP.LOOP")
    kept = SessionState.load(tmp_path / "state" / "toy.npz")
    assert (set(kept.parts), kept.policies, kept.identity) == ({"governor"}, {}, "")
    assert kept.balance.endswith(" USDT")


@pytest.mark.parametrize("change", ["damaged", "currency"])
def test_a_state_that_cannot_be_gone_on_from_is_an_error(root, session, tmp_path, change):
    left, path = SessionState.load(root / "state" / "toy.npz"), tmp_path / "state" / "toy.npz"
    dataclasses.replace(left, balance="2.00000000 BTC").save(path)
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BeaufortError, match=f"{path}.*remove (it|the file) to begin anew"):
        run_live(_config(root, tmp_path), 3, loopback(root))
    assert not list((tmp_path / "runs").glob("*"))


def test_bundles_trained_again_are_others(root, tmp_path):
    config = toy_config(root)
    assert identity(Market(config), Market(config).models()) == identity(
        Market(config), Market(config).models()
    )
    spans = config.train.model_copy(update={"bundles": tmp_path / "bundles"})
    again = config.model_copy(update={"train": spans, "volatility": EwmaSettings(horizon=8)})
    train(again)
    assert identity(Market(again), Market(again).models()) != identity(
        Market(config), Market(config).models()
    )


@pytest.mark.slow  # a race with the start of a process: on a loaded machine it has been lost
@pytest.mark.parametrize(("number", "delay"), [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.1)])
def test_a_signal_before_the_session_runs_ends_it_without_a_trace(root, tmp_path, number, delay):
    known = set((root / "runs").glob("*"))
    process = subprocess.Popen([sys.executable, _TOY, root], stderr=subprocess.PIPE, env=_ENVIRONMENT)
    try:
        deadline = time.monotonic() + 60
        while not set((root / "runs").glob("*")) - known:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(number)
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT  # what KeyboardInterrupt makes of it
    assert set((root / "runs").glob("*")) == known


def test_a_signal_while_the_run_folder_is_made_leaves_no_folder(root, tmp_path, monkeypatch):
    make = engine.sessions.live.new_run_folder

    def interrupted(*args):
        folder = make(*args)
        signal.raise_signal(signal.SIGINT)
        return folder

    monkeypatch.setattr(engine.sessions.live, "new_run_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_live(_config(root, tmp_path), 3, loopback(root))
    assert not list((tmp_path / "runs").glob("*"))


def test_bars_of_volume_close_where_a_trade_filled_them_also_over_two_sessions(root, tmp_path):
    config = toy_config(
        root,
        bars={"kind": "volume", "size": 2.0, "grace": "100ms"},
        train={"start": "2026-01-05", "end": "2026-01-05T00:10:00Z", "bundles": str(tmp_path / "bundles")},
        backtest={"start": "2026-01-06", "end": "2026-01-07", "warmup": "1s", "runs": str(tmp_path / "runs")},
        live={"adapter": "binance", "state": str(tmp_path / "state"), "connect_timeout": "20s"},
    )
    train(config)
    runs, traded = [], []
    for _ in range(2):
        run_live(config, 5, loopback(root))
        gc.collect()
        (run,) = set((tmp_path / "runs").glob("*")) - set(runs)
        runs.append(run)
        trades = Catalog(run / "catalog").trades("BTCUSDT-PERP.LOOP")
        traded.append([(int(trade["ts_init"]), float(trade["size"])) for trade in trades])
    closed = [pq.read_table(run / "equity.parquet")["ts"].to_pylist() for run in runs]
    assert all(len(each) > 10 and each == sorted(set(each)) for each in closed)
    filled, left = _filled(traded[0] + traded[1], 2.0)
    assert set(closed[0] + closed[1]) <= set(filled)
    counted = SessionState.load(tmp_path / "state" / "toy.npz").parts["bars"]["counted"]
    assert counted[0] == pytest.approx(left)


def _filled(trades, size):
    """The closes of bars of ``size`` from trades (ts, size), and what is traded since the last."""
    closes, volume = [], 0.0
    for ts, traded in trades:
        volume += traded
        if volume >= size - 1e-9:
            closes.append(ts + 1)
            volume = 0.0
    return closes, volume
