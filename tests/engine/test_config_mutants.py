"""Two thousand configs with one value mutated: refused in a sentence, or run in bounded time and memory."""

import collections
import concurrent.futures
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest
import small_market
import tomli_w
from config_mutants import Mutant, mutants, sample

from catalogs.synthetic.writing import SynthSettings, synthesize
from engine.config import RunConfig, settings_from, to_toml

COUNT, SEED = 2_100, 20_260_105
GIGABYTE = 2**30
MOST_MEMORY, SECONDS = 2 * GIGABYTE, 20
RESERVED = 2 * MOST_MEMORY  # address space, of which threads reserve more than they use
EACH = 300  # configs a process runs
ROOT = Path(__file__).parents[2]
MAY_HAPPEN = {"refused", "ran", "refused orders"}

_QUICK = {"epochs": 1, "samples": 64, "batch": 32}


def _bases(ticks: Path, minutes: Path, work: Path) -> dict[str, RunConfig]:
    """Configs that between them have every kind and table, each quick to fit and to run."""
    tick = small_market.tree(ticks, work)
    tick["data"]["streams"]["spot"] = {"instrument": "BTCUSDT.SIM"}
    tick["data"]["series"] = {"oi": "open_interest/BTCUSDT-PERP.SIM"}
    tick["features"] = ["basis@spot", "series_value@oi", "mark_basis"]
    tick["bars"] = {"kind": "clock", "interval": "1s"}
    tick["train"] |= {"end": "2026-01-05T00:10:00Z", "schedule": {"window": "9m", "step": "1h"}}
    tick["backtest"] |= {"start": "2026-01-05T00:10:00Z", "end": "2026-01-05T00:12:00Z", "warmup": "1m"}
    tick["live"] = {"adapter": "binance"}
    bar = tomllib.loads(to_toml(small_market.minutes_config(minutes, work)))
    bar["train"] |= {"start": "2026-01-05T12:00:00Z"}
    bar["backtest"] |= {"end": "2026-01-06T03:00:00Z", "warmup": "1h"}
    bar["train"]["valid_to"] = "2026-01-07"
    bar["gate"] = {"off_annualised": 3.0, "on_annualised": 2.0}
    bar["regime"] = {"kind": "hmm", "starts": 1, "iterations": 4}
    bar["volatility"] = {"kind": "har", "horizon": 10, "windows": [5, 10, 20]}
    network = {
        **bar,
        "name": "network",
        "regime": {"kind": "rules", "fast": 5, "slow": 20},
        "volatility": {"kind": "tcn", "horizon": 5, "layers": 3, "channels": 2, "training": _QUICK},
        "forecast": {
            "kind": "lstm",
            "horizon": 5,
            "window": 4,
            "hidden": 2,
            "cost_bps": 1.0,
            "training": _QUICK,
        },
        "risk": {"max_quantity": 5.0},
    }
    return {
        name: settings_from(RunConfig, name, tree, [])
        for name, tree in {"ticks": tick, "minutes": bar, "network": network}.items()
    }


def _whole(config: RunConfig) -> dict[str, Any]:
    """The config with every key spelled out, also those that TOML leaves out."""
    return json.loads(config.model_dump_json())


class _Worker:
    """A process that runs one config after another; started anew when it dies or falls silent."""

    def __init__(self, work: Path, bases: list[dict[str, Any]]) -> None:
        self.work, self._bases, self._left = work, bases, 0
        self._process: subprocess.Popen[str] | None = None

    def _start(self) -> subprocess.Popen[str]:
        inside = self.work / "some" / "where"
        inside.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "tests/engine/mutant_worker.py"), str(RESERVED), str(SECONDS)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NUMBA_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        log = (self.work / "log.txt").open("a")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
        process = subprocess.Popen(command, cwd=inside, env=environment, **pipes)  # type: ignore[call-overload]
        assert process.stdout is not None
        assert process.stdout.readline() == "{}\n", (self.work / "log.txt").read_text()[-2000:]
        return process

    def run(self, number: int, tree: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._left == 0:
            self.stop()
            self._process, self._left = self._start(), EACH
            for base in self._bases:  # what is compiled at first use counts for no config
                answer = self._ask(self._process, base, warm=True)
                assert answer["outcome"] == "ran", answer
        self._left -= 1
        answer = self._ask(self._process, tree, report=number % 20 == 0)
        if answer["outcome"] not in MAY_HAPPEN:  # what was broken off may have left anything behind
            self._left = 0
        return answer

    def _ask(
        self,
        process: "subprocess.Popen[str]",
        tree: dict[str, Any],
        *,
        report: bool = False,
        warm: bool = False,
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        path = self.work / "config.toml"
        path.write_text(tomli_w.dumps(_without_none(tree)))
        job = {"path": str(path), "work": str(self.work), "report": report, "warm": warm}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        watch = threading.Timer(15 * SECONDS, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            return {"outcome": f"the process died with {process.wait()}", "step": "?", "said": ""}
        answer: dict[str, Any] = json.loads(line)
        return answer | ({"outcome": "memory"} if answer["peak"] > MOST_MEMORY else {})

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


@pytest.mark.mutants
def test_no_mutant_ends_in_a_traceback_a_timeout_or_all_memory(tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    quiet = {"seed": 3, "duration": "13m", "spot": True, "levels": 5, "rate": 0.1, "funding_interval": "5m"}
    synthesize(settings_from(SynthSettings, "quiet", quiet, []), ticks)
    minutes = small_market.make_minutes(tmp_path / "minutes")
    (tmp_path / "file").write_text("a file")
    folders = [tmp_path / "one", tmp_path / "two"]
    found: list[list[tuple[str, Mutant]]] = []
    whole: list[list[dict[str, Any]]] = []
    for folder in folders:  # each worker has bundles and runs of its own
        bases = _bases(ticks, minutes, folder)
        files = [str(tmp_path / "file"), str(tmp_path), "/proc/nowhere"]
        every = [
            (name, mutant)
            for name, base in bases.items()
            for mutant in sample(list(mutants(_whole(base), files)), COUNT // len(bases), SEED)
        ]
        found.append(every)
        whole.append([_whole(base) for base in bases.values()])
    assert len(found[0]) >= 2_000
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(found[0])):
        todo.put(number)

    def work(which: int) -> list[tuple[int, dict[str, Any]]]:
        folders[which].mkdir()
        worker, done = _Worker(folders[which], whole[which]), []
        try:
            while True:
                number = todo.get_nowait()
                done.append((number, worker.run(number, found[which][number][1].tree)))
        except queue.Empty:
            return done
        finally:
            worker.stop()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = dict(itertools.chain.from_iterable(pool.map(work, (0, 1))))
    counts = collections.Counter(answer["outcome"] for answer in answers.values())
    told = [
        f"{name}: {'.'.join(mutant.at)} {mutant.what}: {answer['outcome']} at {answer['step']}\n"
        + answer["said"][-1500:]
        for number, (name, mutant) in enumerate(found[0])
        if (answer := answers[number])["outcome"] not in MAY_HAPPEN
    ]
    if place := os.environ.get("BEAUFORT_MUTANTS"):  # all that was said, to be read
        rows = [[name, ".".join(m.at), m.what, answers[i]] for i, (name, m) in enumerate(found[0])]
        Path(place).write_text("\n".join(json.dumps(row) for row in rows))
    assert not told, f"{counts}\n" + "\n".join(told[:20])
    assert counts["ran"] > 300, counts  # of what is legal something was tried
    assert counts["refused"] > 1_000, counts
    for number, (_, mutant) in enumerate(found[0]):
        answer = answers[number]
        if answer["step"] == "load":  # a refusal of the file names the key, or the table it stands in
            assert any(part in answer["said"] for part in (*mutant.at[-2:], "wobble")), (mutant[:2], answer)
            assert len(answer["said"]) < 4_000, (mutant[:2], answer)
