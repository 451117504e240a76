"""Runs configs, one a line of stdin, through load, train, backtest and report; one line of JSON for each.

A process of its own, so that what dies, hangs or takes all memory is seen from outside. Arguments: how much
memory (bytes) may be reserved beyond what the imports took, and how many processor seconds a config may take.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from core.errors import BeaufortError
from engine.cli import main
from engine.config import load_config


class OutOfTime(BaseException):
    """Not an Exception, so that nothing takes it for an error of its own."""


def _late(_signal: int, _frame: Any) -> NoReturn:
    raise OutOfTime


def run(path: Path, report: bool) -> dict[str, Any]:
    """What became of one config: ``refused``, ``ran`` or what may not happen, and all that was said."""
    said, began = io.StringIO(), time.perf_counter()
    outcome, step = "ran", "load"
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                load_config(path)
            except BeaufortError as error:
                return {"outcome": "refused", "step": step, "said": str(error)}
            for name, arguments in (
                ("train", ["train", str(path)]),
                (
                    "backtest",
                    ["backtest", str(path), "--mode", "replay", *([] if report else ["--no-report"])],
                ),
            ):
                step = name
                code = main(arguments)
                if code:
                    outcome = "refused" if code == 2 else "refused orders"
                    break
    except SystemExit as error:
        outcome = f"exit {error.code}"
    except OutOfTime:
        outcome = "time-out"
    except MemoryError:
        outcome = "memory"
    except BaseException:
        outcome = "traceback"
        said.write(traceback.format_exc())
    text = said.getvalue()
    if outcome == "refused" and ("Traceback" in text or "Error:" in text.splitlines()[-1]):
        outcome = "traceback as message"
    return {"outcome": outcome, "step": step, "said": text, "seconds": time.perf_counter() - began}


def serve(memory: int, seconds: int) -> None:
    import hmmlearn.hmm  # noqa: F401
    import torch  # noqa: F401

    status = Path("/proc/self/status").read_text()
    taken = 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmSize")))
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    signal.signal(signal.SIGPROF, _late)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        # Processor time: what else the machine does counts for no config.
        signal.setitimer(signal.ITIMER_PROF, 0 if job["warm"] else seconds)
        answer = run(Path(job["path"]), job["report"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        shutil.rmtree(Path(job["work"]) / "runs", ignore_errors=True)
        answer["peak"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
