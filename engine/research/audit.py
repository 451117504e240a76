"""The look-ahead audit: cut the data, run again, and see that nothing before the cut has changed.

Research code leaks the future in many ways: a centred window, a smoothed posterior, a policy that peeks. They
show when the same computation is repeated on data that ends sooner: whatever was said before the cut must be
the same, bit for bit. What is not computed anew cannot show it: the bundles stay as they were fitted, and the
catalog's times are believed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from core.errors import BeaufortError
from core.records import Decision, as_records, schema
from core.settings import format_time
from core.table import FeatureTable
from engine.bundles import Models
from engine.config import RunConfig
from engine.pipeline import Market, run_stages
from engine.sessions.backtest import play
from features.kernel import QUOTE_COLUMNS


class Said(NamedTuple):
    """One column of what was computed: when each value was known (ns, ascending), and the values."""

    ts: np.ndarray
    values: np.ndarray


PROVES = (
    "features, the quotes of each bar, what the bundles' regime, volatility, gate and forecast say, and "
    "every decision of the strategies: recomputed on data that ends sooner, and compared bit for bit"
)
"""What a clean audit is evidence of."""

BELIEVES = (
    "how the models were fitted: no fit is repeated, so a target or scaler that saw past the end of its "
    "training span is not found (a bundle speaks only after that end, by its manifest)",
    "when data became known: ts_init in the catalog, above all the publication times of external series",
    "the governor and the venue beyond what decisions say of them: equity, funding and fills are not "
    "compared by themselves",
    "what lies outside the cuts: a leak that changes nothing before any of them is not seen",
)
"""What an audit takes as given, clean or not."""

Compute = Callable[[int], Mapping[str, Said]]
"""The whole computation on data that ends before a moment (ns): ``"<stage>/<column>"`` to what was said."""


@dataclasses.dataclass(frozen=True)
class Leak:
    """A column whose past changed: first at ``ts``, when the data was cut at ``cut`` (both ns)."""

    column: str
    cut: int
    ts: int
    with_future: Any
    without_future: Any

    @property
    def stage(self) -> str:
        """``features``, ``quotes``, a stage of ``core.messages.STAGES`` or ``decisions``."""
        return self.column.partition("/")[0]


@dataclasses.dataclass(frozen=True)
class AuditResult:
    """What was compared, and every column that leaked: one entry a column and cut, in pipeline order."""

    cuts: tuple[int, ...]
    columns: tuple[str, ...]
    values_compared: int
    leaks: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        return not self.leaks

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; times in ISO form, NaN as null."""
        return {
            "clean": self.clean,
            "proves": PROVES,
            "believes": list(BELIEVES),
            "cuts": [format_time(cut) for cut in self.cuts],
            "columns": list(self.columns),
            "values_compared": self.values_compared,
            "leaks": [
                {
                    "stage": leak.stage,
                    "column": leak.column,
                    "cut": format_time(leak.cut),
                    "time": format_time(leak.ts),
                    "with_future": _json(leak.with_future),
                    "without_future": _json(leak.without_future),
                }
                for leak in self.leaks
            ],
        }


def audit_config(config: RunConfig, cuts: int, say: Callable[[str], None] = lambda text: None) -> AuditResult:
    """Audit everything a faithful backtest of ``config`` computes and decides.

    For each cut the data is hidden from a random moment of the backtest span on, for the research side
    (features and stages in one batch) and for the venue alike, and both are run again.

    Raises
    ------
    BeaufortError
        If data or bundles do not fit, or a run fails.
    """
    if cuts < 1:
        raise BeaufortError(f"--cuts {cuts}: at least one cut is needed")
    span = config.backtest
    market = Market(config)
    market.require_data("backtest", span.start, span.end)
    models = market.models()

    def compute(end: int) -> dict[str, Said]:
        say(f"run on data before {format_time(end)}" + (" (all of it)" if end == span.end else ""))
        ending = span.model_copy(update={"end": end})
        return _everything(Market(config.model_copy(update={"backtest": ending}), until=end), models)

    return audit(compute, span.start, span.end, cuts, config.seed)


def audit(compute: Compute, start: int, end: int, cuts: int, seed: int) -> AuditResult:
    """Compare ``compute(end)`` with ``compute(cut)`` at random moments past the span's first quarter."""
    if end <= start:
        raise BeaufortError("backtest.end is not after backtest.start")
    whole = compute(end)
    rng = np.random.default_rng(seed)
    moments = [int(m) for m in np.sort(rng.integers(start + (end - start) // 4, end, size=cuts))]
    leaks: list[Leak] = []
    compared = 0
    for cut in moments:
        part = compute(cut)
        for name, said in whole.items():
            leak, count = _compare(name, said, part.get(name, Said(said.ts[:0], said.values[:0])), cut)
            compared += count
            leaks += [leak] if leak else []
    return AuditResult(tuple(moments), tuple(whole), compared, tuple(leaks))


def _compare(name: str, whole: Said, part: Said, cut: int) -> tuple[Leak | None, int]:
    """The first difference before ``cut``, NaN being equal to NaN, and how many values were looked at."""
    n, m = int(np.searchsorted(whole.ts, cut)), int(np.searchsorted(part.ts, cut))
    k = min(n, m)
    a, b = whole.values[:k], part.values[:k]
    differs = (whole.ts[:k] != part.ts[:k]) | ((a != b) & ~((a != a) & (b != b)))
    at = int(np.argmax(differs)) if differs.any() else k
    if at < k:
        return Leak(name, cut, int(whole.ts[at]), a[at], b[at]), k
    if n > m:
        return Leak(name, cut, int(whole.ts[k]), whole.values[k], None), k
    if m > n:
        return Leak(name, cut, int(part.ts[k]), None, part.values[k]), k
    return None, k


def _everything(market: Market, models: Models) -> dict[str, Said]:
    """What the pipeline says and the strategies decide on the market's backtest span and its warm-up."""
    span = market.config.backtest
    series = market.features(market.data_start(span.start), span.end)
    stages = run_stages(models, series.table)
    ts = series.table.ts
    quotes = FeatureTable(ts, QUOTE_COLUMNS, series.quotes)
    tables = {"features": series.table, "quotes": quotes, **stages}
    said = {
        f"{stage}/{name}": Said(ts, column)
        for stage, table in tables.items()
        for name, column in zip(table.names, table.values.T, strict=True)
    }
    outcome = play(market, models, "faithful")
    if outcome.failures:
        raise BeaufortError(f"the run failed after {outcome.events:,} events\n{outcome.failures[0]}")
    if not outcome.complete:
        raise KeyboardInterrupt
    return said | _decisions(list(as_records(Decision, outcome.tables[Decision])), market.config.bars.grace)


def _decisions(decisions: list[Decision], grace: int) -> dict[str, Said]:
    """Decision records by strategy and column.

    A bar is decided on ``grace`` after its close, and knows the fills until then.
    """
    said = {}
    for name in dict.fromkeys(decision.strategy for decision in decisions):
        own = [decision for decision in decisions if decision.strategy == name]
        known = np.array([decision.ts for decision in own], np.int64) + grace
        for column in schema(Decision).names:
            values = np.empty(len(own), object)
            values[:] = [getattr(decision, column) for decision in own]
            said[f"decisions/{name}/{column}"] = Said(known, values)
    return said


def print_audit(result: AuditResult) -> None:
    """The verdict on the terminal, with every column that leaked and where it first did."""
    console = Console()
    what = f"{len(result.columns)} columns, {result.values_compared:,} values, {len(result.cuts)} cuts"
    if result.clean:
        text = f"Nothing looks ahead: {what}; every value is the same without its future."
        console.print(text, highlight=False, soft_wrap=True)
        console.print(f"This is of {PROVES}. Not audited, but believed:", highlight=False, soft_wrap=True)
        for belief in BELIEVES:
            console.print(f"  * {belief}", highlight=False, soft_wrap=True)
        return
    console.print(f"The future leaks ({what}):", highlight=False)
    for column in dict.fromkeys(leak.column for leak in result.leaks):
        own = [leak for leak in result.leaks if leak.column == column]
        first = min(own, key=lambda leak: leak.ts)
        console.print(
            f"  {column}: at {len(own)} of {len(result.cuts)} cuts; first at {format_time(first.ts)}, "
            f"{_shown(first.with_future)} with the future and {_shown(first.without_future)} without",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print(f"Each stage reads the ones above it: begin with {result.leaks[0].stage}.", highlight=False)


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{value:.6g}" if isinstance(value, float) else repr(value)


def _json(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value
