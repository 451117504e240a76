"""``make bench``: every figure that Beaufort promises, measured side by side in one run.

Prints a table, and as the last line one JSON object from name to figure. Takes a few minutes.
"""

import json
import operator
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import engine, filters, kernel, latency, memory

_Judge = tuple[str, float]  # comparison and bound
_COMPARE: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le}

ROWS: tuple[tuple[str, str, str, _Judge | None], ...] = (
    ("faithful_ratio", "faithful backtest, speed over one reading actor's", "{:.2f}", ("≥", 0.80)),
    ("faithful_ratio_least", "  slowest round", "{:.2f}", None),
    ("faithful_ratio_most", "  quickest round", "{:.2f}", None),
    ("faithful_events_per_s", "  events/s", "{:,.0f}", None),
    ("reader_events_per_s", "  events/s of the reading actor", "{:,.0f}", None),
    ("replay_ratio", "replay backtest, speed over the bare engine's", "{:.2f}", ("≥", 0.85)),
    ("replay_ratio_least", "  slowest round", "{:.2f}", None),
    ("replay_ratio_most", "  quickest round", "{:.2f}", None),
    ("replay_events_per_s", "  events/s", "{:,.0f}", None),
    ("bare_events_per_s", "  events/s of the bare engine", "{:,.0f}", None),
    ("replay_batch_s", "  s for features and models in one batch, not counted", "{:.2f}", None),
    ("events_per_bar", "  events a bar", "{:,.0f}", ("≥", 500)),
    ("kernel_events_per_s", "batch feature kernel, events/s", "{:,.0f}", ("≥", 10e6)),
    ("egarch_loop_us", "EGARCH step, µs in a compiled loop", "{:.2f}", ("≤", 2.0)),
    ("hmm_loop_us", "HMM step, 3 states and 8 features, µs in a compiled loop", "{:.2f}", ("≤", 5.0)),
    ("order_p50_us", "bar close to order submitted, median µs", "{:,.0f}", ("≤", 500)),
    ("order_p99_us", "bar close to order submitted, 99th percentile µs", "{:,.0f}", ("≤", 2_000)),
    ("order_count", "  orders timed", "{:,.0f}", None),
    ("memory_ratio", "peak memory, 4 h of the synthetic market over 1 h", "{:.2f}", ("≤", 1.15)),
    ("memory_1h_mib", "  MiB with 1 h", "{:,.0f}", None),
    ("memory_4h_mib", "  MiB with 4 h", "{:,.0f}", None),
)
"""Figure, what it is, how it is written, and what it should reach."""


def main() -> None:
    """Measure everything, then print."""
    console = Console(stderr=True)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # Memory comes first: a child's peak counts from its parent's size when it was started.
        for name, measure in (
            ("memory", lambda: memory.measure(folder)),
            ("backtests", lambda: engine.measure(folder)),
            ("orders", lambda: latency.measure(folder)),
            ("kernel", kernel.measure),
            ("filters", filters.measure),
        ):
            with console.status(f"measuring {name}"):
                figures |= measure()
    Console(width=110).print(_table(figures))
    print(json.dumps(figures))


def _table(figures: dict[str, float]) -> Table:
    table = Table(title="Benchmarks", title_justify="left")
    table.add_column("what")
    for column in ("figure", "target", "reached"):
        table.add_column(column, justify="right")
    for name, what, form, judge in ROWS:
        figure = figures[name]
        target = reached = ""
        if judge is not None:
            sign, bound = judge
            target = f"{sign} {bound:,.2f}" if bound < 10 else f"{sign} {bound:,.0f}"
            reached = "[green]yes" if _COMPARE[sign](figure, bound) else "[red]no"
        table.add_row(what, form.format(figure), target, reached)
    return table


if __name__ == "__main__":
    main()
