"""Fitting every stage of a config on one span: what cannot be fitted is refused before long work, and what
is amiss with a fit is kept with it."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - its BLAS must be loaded when threads are limited
from threadpoolctl import threadpool_limits

from core.causal import CausalFilter, Chain
from core.errors import BeaufortError
from core.fitting import Epoch, FitWarning
from core.messages import STAGES
from core.settings import format_time
from engine.config import RunConfig
from engine.pipeline import BarSeries

_YEAR = 365 * 86_400 * 10**9


def on_one_thread[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with linear algebra on one thread: sums over several end in other last bits."""

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1):
            return function(*args, **kwargs)

    return limited


@dataclasses.dataclass(frozen=True)
class Fitted:
    """All stages of one span, a few figures of the fit, and sentences on what is amiss with it."""

    stages: dict[str, CausalFilter]
    metrics: dict[str, Any]
    warnings: list[str]


@on_one_thread
def fit(config: RunConfig, series: BarSeries, say: Callable[[str], None] = lambda text: None) -> Fitted:
    """Every stage that the config names, fitted on ``series``.

    Raises
    ------
    BeaufortError
        If one cannot be fitted on it: named with its kind, the span, and what to do.
    """
    table = series.table
    _refuse_unknown(series)
    span = f"{format_time(int(table.ts[0]))} .. {format_time(int(table.ts[-1]))} ({len(table):,} bars)"
    amiss: list[str] = []

    def on_epoch(epoch: Epoch) -> None:
        best = ", the best so far" if epoch.best else ""
        say(f"    epoch {epoch.epoch} of {epoch.epochs}: validation loss {epoch.validation_loss:.5g}{best}")

    def guarded[T](stage: str, kind: str, work: Callable[[], T]) -> T:
        return guard(stage, kind, span, work, amiss)

    asked = {stage.name: part for stage in STAGES if (part := getattr(config, stage.name)) is not None}
    # What can be seen before an optimiser starts is asked of all of them first.
    for name, part in asked.items():
        guarded(name, part.kind, functools.partial(part.check, *_examples(name, series)))
    stages: dict[str, CausalFilter] = {}
    for name, part in asked.items():
        say(f"  {name}: {part.kind}")
        rest = (config.seed, on_epoch) if name in ("volatility", "forecast") else (config.seed,)
        stages[name] = guarded(name, part.kind, functools.partial(part.fit, *_examples(name, series), *rest))
    model, horizon = stages["volatility"], config.volatility.horizon
    stages["volatility"] = Chain(
        model, guarded("gate", "quantiles", lambda: config.gate.fit(model, table, horizon))
    )
    for sentence in amiss:
        say(f"  warning: {sentence}")
    ready = int(np.isfinite(table.values).all(axis=1).sum())
    length = float(table.ts[-1] - table.ts[0])
    bars_per_year = (len(table) - 1) * _YEAR / length if length else 0.0
    metrics = {"bars": len(table), "bars_ready": ready, "bars_per_year": bars_per_year}
    return Fitted(stages, metrics, amiss)


def _examples(stage: str, series: BarSeries) -> tuple[Any, ...]:
    """What a stage learns from: the features of the bars, and for the direction of the price that as well."""
    return (series.table, series.price) if stage == "forecast" else (series.table,)


def guard[T](stage: str, kind: str, span: str, work: Callable[[], T], amiss: list[str]) -> T:
    """What ``work`` gives; what it warns of is added to ``amiss``, and whatever it raises becomes a sentence.

    Raises
    ------
    BeaufortError
        If ``work`` raises.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = work()
        except (MemoryError, ImportError, ValueError) as error:  # they say what to do
            raise BeaufortError(f"training failed: {stage} {kind} on {span}: {error}") from error
        except Exception as error:  # of a library, in the middle of its work
            raise BeaufortError(
                f"training failed: {stage} {kind} on {span}: {type(error).__name__}: {error}. The fit broke "
                f"down on this span: train on another, or choose another {stage}.kind"
            ) from error
    sentences = [f"{stage} {kind}: {w.message}" for w in caught if issubclass(w.category, FitWarning)]
    amiss += [sentence for sentence in dict.fromkeys(sentences) if sentence not in amiss]
    return result


def _refuse_unknown(series: BarSeries) -> None:
    """Raise where there is nothing to learn from: no bar, or none with every feature known."""
    table = series.table
    if not len(table):
        raise BeaufortError("training span: no bar closes in it; train on a longer span, or one with data")
    known = np.isfinite(table.values)
    if known.all(axis=1).any():
        return
    never = [name for name, column in zip(table.names, known.T, strict=True) if not column.any()]
    raise BeaufortError(
        f"training span: none of its {len(table)} bars has every feature known; never known: "
        f"{', '.join(never) or '-'}. Train on a longer span, or one with data"
    )
