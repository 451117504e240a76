"""Peak memory of faithful backtests over one and four hours of the synthetic market, a process for each."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

_HOURS = (1, 4)


def measure(folder: Path) -> dict[str, float]:
    """Peak resident MiB by length of market, and how they compare; ``folder`` receives the markets."""
    _child(folder, 0)  # markets and models are made by a process that is not measured
    short, long = (_child(folder, hours) for hours in _HOURS)
    return {"memory_1h_mib": short, "memory_4h_mib": long, "memory_ratio": long / short}


def _child(folder: Path, hours: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", str(folder), str(hours)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _play(folder: Path, hours: int) -> float:
    from benchmarks.markets import market
    from engine.sessions.backtest import play

    if hours == 0:
        for each in _HOURS:
            market(folder, 60 * each)
        return 0.0
    traded = market(folder, 60 * hours)
    play(traded, traded.models(), "faithful")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(_play(Path(sys.argv[1]), int(sys.argv[2])))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            for name, figure in measure(Path(scratch)).items():
                print(f"{name:16} {figure:8,.2f}")
