"""``make demo``: a synthetic market, trained on, traded and reported, in a few minutes on a bare machine."""

import sys
import time
from pathlib import Path

from engine.cli import main
from engine.progress import console

CONFIG = Path("configs/demo.toml")
CATALOG = Path("data/demo")


def demo() -> int:
    """Run the four steps a user would type; stop at the first that fails."""
    started = time.perf_counter()
    steps = [
        (
            "A synthetic market with known truth",
            ["data", "synth", "--out", str(CATALOG), "--settings", "configs/demo-market.toml"],
        ),
        ("Train on its first part", ["train", str(CONFIG)]),
        ("Trade the rest, every tick through the hub", ["backtest", str(CONFIG)]),
        (
            "Again from the recorded pipeline: the same fingerprint, faster",
            ["backtest", str(CONFIG), "--mode", "replay"],
        ),
        ("Judge the models against the truth", ["evaluate", str(CONFIG)]),
    ]
    for title, arguments in steps:
        console.rule(f"[bold]{title}")
        console.print(f"$ beaufort {' '.join(arguments)}", style="dim", highlight=False)
        code = main(arguments)
        if code:
            return code
    console.print(f"Done in {time.perf_counter() - started:.0f} s. Open the report.html above in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(demo())
