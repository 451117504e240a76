"""Runs killed at any moment: what they did can be read, and nothing of theirs is in the next one's way."""

import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from mortal import backtest_config, note, session_config
from toy import loopback, prepare

from core.journal import is_running, read_journal
from core.records import JOURNALED, as_records
from engine.cli import main
from engine.config import RunConfig, load_config
from engine.reports import summary
from engine.reports.run_folder import read_run
from engine.research.training import train
from engine.sessions.backtest import run_backtest
from engine.sessions.live import run_live
from tests.engine import small_market

_HERE = Path(__file__).parent
_S = 10**9


class Mortals:
    """Starts runs in processes of their own and kills them; the next ones wait, with all they import."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configs = {"session": session_config(folder), "backtest": backtest_config(folder)}
        self._waiting = deque(self._spawn() for _ in range(2))
        self._count = 0

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, _HERE / "mortal.py", self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(_HERE.parents[1]), str(_HERE)))},
        )

    def kill(self, what: str, records: int, after: float) -> tuple[Path | None, list[str], list[str]]:
        """Kill one ``after`` seconds from when it has written so many records.

        Returns its run folder (None where it had none yet), notes of the records that were older than a
        second or written at once, and of those that its journal has.
        """
        runs = self.configs[what].backtest.runs
        before = set(runs.glob("*"))
        self._count += 1
        witness = self.folder / f"witness-{self._count}"
        process = self._waiting.popleft()
        self._waiting.append(self._spawn())
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        print(what, witness, file=process.stdin, flush=True)
        deadline = time.monotonic() + 120
        witness.touch()
        while process.poll() is None and witness.read_text().count("\n") < records:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(after)
        process.kill()
        killed = time.monotonic_ns()
        _, said = process.communicate()
        assert "Traceback" not in said
        made = [path for path in set(runs.glob("*")) - before if path.is_dir()]
        noted = witness.read_text().splitlines()
        owed = [
            rest
            for ts, at_once, rest in (line.split(" ", 2) for line in noted)
            if (at_once == "1" and what == "session") or int(ts) < killed - _S
        ]
        if not made:
            return None, owed, []
        (folder,) = made
        tables = read_journal(folder)
        return folder, owed, [note(record) for kind in JOURNALED for record in as_records(kind, tables[kind])]

    def end(self) -> None:
        for process in self._waiting:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def mortals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortals]:
    folder = tmp_path_factory.mktemp("killed")
    prepare(folder / "toy", 60)
    small_market.make_market(folder / "small" / "market")
    train(backtest_config(folder))
    mortals = Mortals(folder)
    yield mortals
    mortals.end()


def _check(killed: tuple[Path | None, list[str], list[str]]) -> int:
    """That all is there that should be; how much that is."""
    folder, owed, kept = killed
    if folder is None:
        assert not owed
        return 0
    assert not set(owed) - set(kept)
    assert not is_running(folder)
    if (folder / "manifest.json").exists():
        run = read_run(folder)
        ended = "ended" in run.manifest
        assert ended or (not run.manifest["complete"] and "was cut off" in run.manifest["warnings"][0])
        assert summary(folder)["decisions"] == len(run.decisions)
    else:
        assert not kept
    return len(owed)


def _goes_on(config: RunConfig, what: str, mortals: Mortals) -> None:
    """Another run, in the same folders, does all it should."""
    if what == "backtest":
        folder, complete = run_backtest(config, "replay", quiet=True)
        assert complete
        assert summary(folder)["bars"] == 600
    else:
        assert run_live(config, 4, loopback(mortals.folder / "toy")) == 0
        folder = max(config.backtest.runs.glob("*"), key=lambda path: path.stat().st_mtime)
        assert read_run(folder).manifest["complete"]
    assert not (folder / "journal").exists()


@pytest.mark.parametrize("what", ["session", "backtest"])
def test_a_killed_run_can_be_read_and_its_report_says_so(
    mortals: Mortals, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = mortals.kill(what, 6, 1.2)
    assert _check(killed) >= 6
    folder = killed[0]
    assert folder is not None
    assert (folder / "journal").exists()  # it was at work
    assert main(["report", str(folder)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "incomplete: the run was stopped" in told
    assert "this run was cut off: it was last heard of at 20" in told
    assert "was cut off: it was last heard of" in (folder / "report.html").read_text()
    run = read_run(folder)
    assert run.manifest["end"] == run.equity["ts"][-1].as_py()
    if what == "session":  # the config of a backtest of what it recorded
        assert load_config(folder / "config.toml").data.catalog == folder / "catalog"
    _goes_on(mortals.configs[what], what, mortals)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["session", "backtest"])
def test_twenty_five_kills_at_random_moments(mortals: Mortals, what: str) -> None:
    rng = random.Random(what)
    most = 12 if what == "session" else 600
    moments = [(max(0, rng.randrange(-most // 3, most)), rng.uniform(0.0, 2.0)) for _ in range(25)]
    owed = [_check(mortals.kill(what, *moment)) for moment in moments]
    assert sum(count > 0 for count in owed) >= 5  # there was something to lose
    _goes_on(mortals.configs[what], what, mortals)
