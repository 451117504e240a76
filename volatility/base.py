"""What every volatility model shares: its settings, its inputs and outputs, and the data it is fitted on."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from core import checks
from core.causal import CausalFilter
from core.fitting import OnEpoch, warn_fit
from core.kinds import Family
from core.settings import Bars
from core.table import FeatureTable
from volatility.scores import realized_variance

_LEAST_MOVES = 100  # returns other than zero, below which the scale of a variance is anybody's guess

OUTPUTS = ("volatility", "bar_volatility")
"""What every forecaster says: the standard deviation of the log return over the next ``horizon`` bars, and of
the next bar's alone. Both are per period, not annualised."""


class VolatilitySettings(Family):
    """How to forecast volatility; a subclass is one model, found by its ``kind``."""

    verbs: ClassVar[tuple[str, ...]] = ("fit",)

    returns: str = "log_return_1"
    """Feature of per-bar log returns."""
    horizon: Bars = Field(default=60, ge=1, le=10_000)
    """How far ahead the forecast covers."""
    max_rows: Bars = Field(default=200_000, ge=1_000, le=10_000_000)
    """The fit sees the last so many of the training span; recent bars matter most."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns that the model reads."""
        return (self.returns,)

    def check(self, table: FeatureTable) -> None:
        """Raise ValueError where ``fit`` could not be one: asked of every stage before any is fitted."""
        training_rows(table, self)

    def fit(self, table: FeatureTable, seed: int, on_epoch: OnEpoch | None = None) -> CausalFilter:
        """The forecaster fitted on ``table``, which holds the training span and nothing after it.

        ``on_epoch`` is called after every epoch, by models that have epochs.

        Raises
        ------
        ValueError
            If there are too few returns, or the optimiser does not converge.
        """
        raise NotImplementedError


def training_rows(table: FeatureTable, settings: VolatilitySettings, least: int = 500) -> np.ndarray:
    """The last ``max_rows`` bars' columns without the bars that miss one, shape (n, number of columns).

    Raises
    ------
    ValueError
        If fewer than ``least`` are finite, or the returns hardly ever move, or always by the same.
    """
    rows = table.columns(settings.columns)[-settings.max_rows :]
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < least:
        raise ValueError(
            f"volatility: {len(rows)} finite rows of {', '.join(settings.columns)} in the training span, "
            f"the fit needs {least}; train on a longer span"
        )
    moving = rows[rows[:, 0] != 0, 0]
    if len(moving) < _LEAST_MOVES:
        raise ValueError(
            f"volatility: of {len(rows)} values of {settings.returns!r} in the training span {len(moving)} "
            f"are not zero, the fit needs {_LEAST_MOVES}; nothing to fit: train on a span in which the price "
            "moves"
        )
    if not np.ptp(np.abs(moving)) > 1e-9 * np.abs(moving).max():
        raise ValueError(
            f"volatility: every value of {settings.returns!r} in the training span that is not zero is "
            f"{abs(moving[0]):.6g} or its negative; nothing to fit: train on another span"
        )
    return rows


def best_fit(fits: Sequence[Any], moves: int) -> Any:
    """Of arch's fits from several starting points the likeliest that converged; without one, the likeliest,
    which is warned of.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not fits:
        raise ValueError(
            f"no starting point led to credible parameters on {moves} returns; train on another span, or use "
            "volatility.kind = 'har'"
        )
    converged = [fit for fit in fits if fit.convergence_flag == 0]
    best = max(converged or fits, key=lambda fit: fit.loglikelihood)
    if not converged:
        why = best.optimization_result.message
        warn_fit(
            f"the optimiser did not converge on {moves} returns ({why}): parameters are where it stopped"
        )
    return best


class Level(NamedTuple):
    """How a variance over the horizon is put right in level: ``factor * clip(variance, least, most)``."""

    factor: float = 1.0
    least: float = 0.0
    most: float = math.inf


NEUTRAL = Level()


def check_common(kind: str, inputs: Sequence[str], horizon: Any, level: Level) -> None:
    """Raise ValueError unless what every filter of variance has is what it must be."""
    checks.names(f"{kind}: inputs", inputs)
    checks.whole(f"{kind}: horizon", horizon)
    checks.number(f"{kind}: level.factor", level.factor, 1e-12, 1e12)
    checks.number(f"{kind}: level.least", level.least, 0)
    checks.number(f"{kind}: level.most", level.most, level.least, infinite=True)


def calibrated[F: Any](model: F, xs: np.ndarray) -> F:
    """``model`` with the ``Level`` that the training span asks for.

    ``least`` is a quarter of the smallest positive variance that the span realized over the model's horizon,
    ``most`` the largest: the forecast of a mean has no business far outside them. ``factor`` minimises QLIKE,
    which is the mean of realized over forecast variance.

    Parameters
    ----------
    model : filter with fields ``horizon`` and ``level``
        Its level is taken as neutral.
    xs : float array, shape (n, number of inputs)
        The training span's rows, log returns in the first column.
    """
    realized = realized_variance(xs[:, 0], model.horizon)
    positive = realized[realized > 0]
    if not len(positive):
        return model
    bounds = Level(1.0, float(positive.min()) / 4, float(positive.max()))
    forecast = dataclasses.replace(model, level=bounds).run(xs)[:, 0] ** 2
    return dataclasses.replace(model, level=bounds._replace(factor=float(np.nanmean(realized / forecast))))
