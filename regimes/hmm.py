"""Gaussian hidden Markov model of the regime: fitted by hmmlearn, run by our own forward recursion."""

import dataclasses
import logging
import math
from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numba
import numpy as np
from pydantic import Field, model_validator

from core import checks
from core.causal import Chain, Params, State
from core.fitting import warn_fit
from core.messages import REGIMES
from core.settings import Bars, Count, Number, unit
from core.table import FeatureTable
from regimes.base import POSTERIOR, RegimeSettings
from regimes.hysteresis import HysteresisSettings
from regimes.naming import NamingSettings, name_states

_CONSTANT = "hmm: feature {!r} is constant over the training span; drop it from 'features'"
_FEW_BARS = 50  # a state of fewer has been seen too seldom
_BLOCK = (
    2_000  # bars; a span longer than ``max_rows`` is thinned by whole blocks, so that transitions stay real
)


def _at(data: dict[str, Any], place: int) -> str:
    """The feature at ``place``, ``""`` where there is none."""
    return str((*data.get("features", ()), "", "")[place])


class HmmSettings(RegimeSettings):
    """Gaussian HMM on standardised features (Hamilton 1989; Rabiner 1989).

    Where ``mirror`` is given, the fit also sees the training span upside down, so that trends up and down are
    equals however few of one kind it held. Of four states one is a trend up, one a trend down, one chop and
    one stress; a fifth gives chop two levels of volatility, because calm is no single Gaussian.
    """

    kind: Literal["hmm"] = "hmm"
    features: tuple[str, ...] = Field(default=(), max_length=100)
    """Features it observes; empty: those that suit the data (a return, mirrored, a volatility, activity)."""
    direction: str = Field(default_factory=lambda data: _at(data, 0))
    """Which of them says the direction to the rule that names states: a log return. Absent: the first."""
    dispersion: str = Field(default_factory=lambda data: _at(data, 1))
    """Which of them says the dispersion to that rule: a realized volatility. Absent: the second."""
    mirror: tuple[str, ...] = ()
    """Those of them that change sign where up and down are exchanged: returns, signed flow."""
    n_states: Count = Field(default=4, ge=3, le=8)
    """Hidden states, of which several may share a name."""
    covariance: Literal["full", "diag"] = "full"
    """Whether features may be correlated within a state."""
    starts: Count = Field(default=3, ge=1, le=100)
    """Fits from different starting points, of which the likeliest with all three names wins."""
    iterations: Count = Field(default=100, ge=1, le=10_000)
    """Most steps of expectation maximisation a fit takes."""
    stickiness: Annotated[Number, unit("share of the training bars")] = Field(default=0.0, ge=0, le=1e6)
    """Prior transitions of each state to itself."""
    clip: Annotated[Number, unit("standard deviations")] = Field(default=6.0, gt=0, le=1e6)
    """Where standardised features are cut, so that one freak value cannot carry a verdict."""
    min_variance: Annotated[Number, unit("variances of the feature over all bars")] = Field(
        default=1e-3, gt=0, le=1
    )
    """Floor of a state's variance in any direction."""
    max_rows: Bars = Field(default=100_000, ge=1_000, le=10_000_000)
    """A longer training span is thinned to so many, in blocks."""
    naming: NamingSettings = NamingSettings()
    """The rule that names states."""
    hysteresis: HysteresisSettings = HysteresisSettings()
    """When the decided regime changes."""

    @model_validator(mode="after")
    def _roles_are_features(self) -> Self:
        if not self.features and (self.direction or self.dispersion or self.mirror):
            raise ValueError("direction, dispersion and mirror are roles of features; name the features too")
        if not self.features:
            return self
        if absent := set(self.mirror) - set(self.features):
            raise ValueError(
                f"mirror = {sorted(absent)} are not among features {list(self.features)}; add them"
            )
        for role in ("direction", "dispersion"):
            if getattr(self, role) not in self.features:
                raise ValueError(
                    f"{role} = {getattr(self, role)!r} is not among features {list(self.features)}; add it"
                )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return self.features

    def suited(self, feeds: Collection[str]) -> Self:
        # Features of one bar overlap little from bar to bar, which is what a Markov model takes for granted.
        if self.features:
            return self
        if "book" in feeds:
            names = ["log_return_3", "intrabar_volatility_1"]
            names += ["trade_intensity_1"] if "trades" in feeds else []
        else:
            names = ["log_return_45", "parkinson_volatility_15", "log_volume_15"]
        return self.model_copy(
            update={
                "features": tuple(names),
                "direction": names[0],
                "dispersion": names[1],
                "mirror": tuple(names[:1]),
            }
        )

    def check(self, table: FeatureTable) -> None:
        self._observations(table)

    def fit(self, table: FeatureTable, seed: int) -> Chain:
        """The posterior filter with hysteresis behind it.

        Warns
        -----
        FitWarning
            If no start gives a state to each name, the likeliest did not converge, or a state holds hardly a
            bar: the fit is returned as it is.
        """
        return Chain(self.fit_posterior(table, seed), self.hysteresis.build())

    def fit_posterior(self, table: FeatureTable, seed: int) -> "HmmFilter":
        """The posterior filter alone; see ``fit``."""
        rows, lengths, scaler = self._observations(table)
        z = scaler(rows)
        direction = rows[:, self.features.index(self.direction)]
        dispersion = rows[:, self.features.index(self.dispersion)]
        best: tuple[bool, float] | None = None
        failures = []
        for start in range(self.starts):
            model = self._model(z, direction, dispersion, start, seed)
            try:
                with np.errstate(all="ignore"):
                    model.fit(z, lengths)
                    likelihood = model.score(z, lengths)
                    weights = model.predict_proba(z, lengths)
            except (ValueError, ArithmeticError) as error:
                failures.append(str(error))
                continue
            if not (np.isfinite(likelihood) and np.all(np.isfinite(model.means_))):
                failures.append("the likelihood is not finite")
                continue
            names, problems = name_states(weights, direction, dispersion, self.naming)
            rank = (not problems, likelihood)
            if best is None or rank > best:
                best, chosen, chosen_names, chosen_problems = rank, model, names, problems
                share = weights.mean(axis=0)
        if best is None:
            raise ValueError(
                f"hmm: none of {self.starts} starts converged on {len(z)} bars ({'; '.join(failures)}); "
                "use fewer features or states, or another span"
            )
        if chosen_problems:
            warn_fit(f"the fit lacks a regime ({'; '.join(chosen_problems)})")
        history = list(chosen.monitor_.history)  # its own verdict is that the last iteration converged
        if len(history) < 2 or history[-1] - history[-2] >= chosen.tol:
            warn_fit(f"not converged after {self.iterations} iterations; raise regime.iterations")
        for state in np.flatnonzero(share * len(z) < _FEW_BARS):
            warn_fit(
                f"state {state} ({chosen_names[state]}) holds {share[state] * len(z):.0f} of {len(z)} bars: "
                "what is known of it is little; lower regime.n_states"
            )
        return HmmFilter(
            inputs=self.features,
            names=chosen_names,
            start=chosen.startprob_,
            transition=chosen.transmat_,
            means=chosen.means_,
            covariances=chosen.covars_,
            scaler=scaler,
        )

    def _observations(self, table: FeatureTable) -> tuple[np.ndarray, list[int], "Scaler"]:
        """What is fitted: raw rows, the lengths of the unbroken runs they form, and their scaler."""
        if not self.features:
            raise ValueError("hmm: features is empty; name what it observes")
        rows, lengths = self._training_rows(table)
        if rows[:, self.features.index(self.dispersion)].min() < 0:
            raise ValueError(
                f"hmm: dispersion = {self.dispersion!r} has negative values; name a plain volatility "
                "such as realized_volatility_60 (its logarithm is taken by itself)"
            )
        if self.mirror:
            image = rows.copy()
            image[:, [self.features.index(name) for name in self.mirror]] *= -1
            rows, lengths = np.concatenate((rows, image)), lengths * 2
        return rows, lengths, Scaler.fit(rows, self.features, self.clip)

    def _training_rows(self, table: FeatureTable) -> tuple[np.ndarray, list[int]]:
        """Complete rows, and the lengths of the unbroken runs they form."""
        values = table.columns(self.features)
        complete = np.isfinite(values).all(axis=1)
        stride = math.ceil(complete.sum() / self.max_rows)
        if stride > 1:
            complete &= (np.arange(len(values)) // _BLOCK) % stride == 0
        index = np.flatnonzero(complete)
        least = 50 * self.n_states
        if len(index) < least:
            raise ValueError(
                f"hmm: {len(index)} complete rows of {', '.join(self.features)} in the training span, "
                f"{self.n_states} states need {least}; train on a longer span or drop a missing feature"
            )
        constant = np.flatnonzero(np.ptp(values[index], axis=0) == 0)
        if len(constant):
            raise ValueError(_CONSTANT.format(self.features[constant[0]]))
        distinct = len(np.unique(values[index], axis=0))
        if distinct < least:
            raise ValueError(
                f"hmm: the {len(index)} rows of {', '.join(self.features)} in the training span take "
                f"{distinct} different values, {self.n_states} states need {least}; train on a span in which "
                "the market moves"
            )
        breaks = np.flatnonzero(np.diff(index) > 1) + 1
        return values[index], np.diff([0, *breaks, len(index)]).tolist()

    def _model(
        self, z: np.ndarray, direction: np.ndarray, dispersion: np.ndarray, start: int, seed: int
    ) -> Any:
        """An hmmlearn model set at a starting point that means something.

        The most dispersed bars are stress, of the others those with the largest drift ratio up and down are
        trends, the rest is chop, calm and lively where there are five states (more start at random bars).
        The shares are drawn for every start but the first.
        """
        from hmmlearn.hmm import GaussianHMM

        class Floored(GaussianHMM):
            """Keeps every state's variance at ``min_covar`` or above, in every direction; hmmlearn heeds it
            only where it chooses the starting point itself."""

            def _do_mstep(self, stats: dict[str, Any]) -> None:
                super()._do_mstep(stats)
                variances, directions = np.linalg.eigh(self.covars_)  # type: ignore[has-type]
                if np.all(variances >= self.min_covar):
                    return
                raised = np.maximum(variances, self.min_covar)[:, None, :] * directions
                covariances = raised @ directions.transpose(0, 2, 1)
                is_diagonal = self.covariance_type == "diag"
                self.covars_ = np.einsum("kii->ki", covariances) if is_diagonal else covariances

        logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # the floor may cost likelihood, and it says so
        rng = np.random.default_rng([seed, start])
        wild_share, trend_share = rng.uniform((0.03, 0.3), (0.25, 0.7)) if start else (0.1, 0.4)
        wild = dispersion >= np.quantile(dispersion, 1 - wild_share)
        ratio = direction / np.maximum(dispersion, 1e-300)
        low, high = np.quantile(ratio[~wild], (trend_share / 2, 1 - trend_share / 2))
        down, up = ~wild & (ratio < low), ~wild & (ratio > high)
        chop = ~(wild | down | up)
        groups = [wild, chop, down | up] if self.n_states == 3 else [wild, chop, down, up]
        if self.n_states > 4:
            calm = chop & (dispersion < np.median(dispersion[chop]))
            groups[1:2] = [calm, chop & ~calm]
        means = [z[group].mean(axis=0) if group.any() else z.mean(axis=0) for group in groups]
        variances = [z[group].var(axis=0) if group.any() else z.var(axis=0) for group in groups]
        for row in rng.choice(len(z), self.n_states - len(groups)):
            means.append(z[row])
            variances.append(z.var(axis=0))
        k = self.n_states
        model = Floored(
            n_components=k,
            covariance_type=self.covariance,
            min_covar=self.min_variance,
            n_iter=self.iterations,
            tol=1e-5 * len(z),
            transmat_prior=1.0 + self.stickiness * len(z) * np.eye(k),
            init_params="",
            implementation="scaling",
        )
        model.n_features = z.shape[1]
        model.means_ = np.array(means)
        spread = np.maximum(variances, 0.05)
        model.covars_ = spread if self.covariance == "diag" else np.array([np.diag(v) for v in spread])
        model.startprob_ = np.full(k, 1 / k)
        model.transmat_ = np.full((k, k), 0.05 / (k - 1)) + (0.95 - 0.05 / (k - 1)) * np.eye(k)
        return model


class Scaler(NamedTuple):
    """How raw features become what the model observes; every number is of the training span.

    Parameters
    ----------
    floor : float array, shape (d,)
        Where positive, the feature's logarithm is taken, of values raised to this floor; where 0, it is not.
    center, scale : float arrays, shape (d,)
        Mean and standard deviation without the outer thousandth at each end.
    clip : float
        Standard deviations at which the result is cut.
    """

    floor: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    clip: float

    @classmethod
    def fit(cls, rows: np.ndarray, names: Sequence[str], clip: float) -> Self:
        """Logarithms for features that are never negative and skewed to the right; then mean and
        deviation."""
        floor = np.zeros(rows.shape[1])
        center = np.zeros(rows.shape[1])
        scale = np.ones(rows.shape[1])
        for j, name in enumerate(names):
            x = rows[:, j]
            if x.min() >= 0 and np.median(x) > 0 and np.mean(x) > np.median(x):
                floor[j] = np.quantile(x[x > 0], 0.001)
                x = np.log(np.maximum(x, floor[j]))
            low, high = np.quantile(x, (0.001, 0.999))
            x = np.clip(x, low, high)
            center[j], scale[j] = x.mean(), x.std()
            if not scale[j] > 1e-12 * abs(center[j]):
                raise ValueError(_CONSTANT.format(name))
        return cls(floor, center, scale, clip)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The observations, shape (n, d), of raw ``rows``."""
        logs = np.log(np.maximum(rows, np.where(self.floor > 0, self.floor, 1.0)))
        z = (np.where(self.floor > 0, logs, rows) - self.center) / self.scale
        return np.clip(z, -self.clip, self.clip)


@dataclasses.dataclass(frozen=True, eq=False)
class HmmFilter(Params):
    """Filtered probabilities of the regimes: the forward recursion, never the smoother.

    The posterior of each bar equals that of the last point of hmmlearn's ``predict_proba`` on the bars so
    far. A row with a value missing carries the prediction; silent before the first complete row.

    Parameters
    ----------
    inputs : tuple of str, length d
        Feature columns.
    names : tuple of str, length k
        Regime of each state; a regime's probability is the sum over its states.
    start : float array, shape (k,)
        Distribution of the first state.
    transition : float array, shape (k, k)
        Rows sum to one.
    means : float array, shape (k, d)
        Of the observations, after ``scaler``.
    covariances : float array, shape (k, d, d)
    scaler : Scaler, optional
        Raw features are the observations without one.
    """

    kind: ClassVar[str] = "hmm"
    outputs: ClassVar[tuple[str, ...]] = POSTERIOR

    inputs: tuple[str, ...]
    names: tuple[str, ...]
    start: np.ndarray
    transition: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    scaler: Scaler | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "names", tuple(self.names))
        for name in ("start", "transition", "means", "covariances"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        d, k = len(self.inputs), len(self.names)
        checks.names("hmm: inputs", self.inputs)
        unknown = [name for name in self.names if name not in REGIMES]
        if unknown or not k:
            raise ValueError(f"hmm: states are named {self.names!r}; the names are {', '.join(REGIMES)}")
        checks.numbers("hmm: start", self.start, (k,), 0, 1)
        checks.numbers("hmm: transition", self.transition, (k, k), 0, 1)
        for rows in (self.start, *self.transition):
            if abs(rows.sum() - 1) > 1e-6:
                raise ValueError(
                    f"hmm: probabilities of start or transition sum to {rows.sum():.6g}, not to 1"
                )
        checks.numbers("hmm: means", self.means, (k, d))
        checks.numbers("hmm: covariances", self.covariances, (k, d, d))
        if not np.allclose(self.covariances, self.covariances.transpose(0, 2, 1)):
            raise ValueError("hmm: a covariance is not symmetric")
        scaler = self.scaler or (np.zeros(d), np.zeros(d), np.ones(d), math.inf)
        floor, center, scale = (np.asarray(part, dtype=np.float64) for part in scaler[:3])
        checks.numbers("hmm: floor", floor, (d,), 0)
        checks.numbers("hmm: center", center, (d,))
        checks.numbers("hmm: scale", scale, (d,), 1e-300)
        checks.number("hmm: clip", scaler[3], 1e-9, infinite=True)
        scaler = Scaler(floor, center, scale, float(scaler[3]))
        object.__setattr__(self, "scaler", scaler)
        # With W the inverse of the Cholesky factor, |W z - W mu|^2 is the squared Mahalanobis distance.
        try:
            whiten = np.linalg.inv(np.linalg.cholesky(self.covariances))
        except np.linalg.LinAlgError:
            raise ValueError("hmm: a covariance is not positive definite") from None
        compiled = (
            self.transition,
            np.ascontiguousarray(whiten),
            np.einsum("kij,kj->ki", whiten, self.means),
            np.log(np.abs(np.einsum("kii->ki", whiten))).sum(axis=1),
            np.array([REGIMES.index(name) for name in self.names]),
            np.column_stack((floor, center, scale)),
            scaler.clip,
        )
        object.__setattr__(self, "_compiled", compiled)

    def initial_state(self) -> State:
        # distribution of the next bar's state, and whether any bar was seen
        return {"prior": self.start.copy(), "seen": np.zeros(1)}

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.run(x.reshape(1, -1), state)[0]

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        state = self.initial_state() if state is None else state
        out = np.empty((len(xs), 3))
        rows = np.ascontiguousarray(xs, dtype=np.float64)
        _run(rows, state["prior"], state["seen"], *self._compiled, out)  # type: ignore[attr-defined,call-arg]
        return out


@numba.njit(cache=True)
def _run(xs, prior, seen, transition, whiten, offset, log_det, regime, scaler, clip, out):  # type: ignore[no-untyped-def]
    k, d = offset.shape
    z = np.empty(d)
    posterior = np.empty(k)
    for t in range(xs.shape[0]):
        complete = True
        for j in range(d):
            x = xs[t, j]
            complete &= math.isfinite(x)
            if scaler[j, 0] > 0:
                x = math.log(max(x, scaler[j, 0]))
            z[j] = min(max((x - scaler[j, 1]) / scaler[j, 2], -clip), clip)
        if not complete and seen[0] == 0:
            out[t] = math.nan
            continue
        if complete:
            seen[0] = 1.0
            most = -math.inf
            for s in range(k):
                distance = 0.0
                for i in range(d):
                    y = -offset[s, i]
                    for j in range(i + 1):
                        y += whiten[s, i, j] * z[j]
                    distance += y * y
                # In logarithms, relative to the likeliest state: none is so far out that all vanish.
                posterior[s] = log_det[s] - 0.5 * distance + math.log(prior[s]) if prior[s] > 0 else -math.inf
                most = max(most, posterior[s])
            total = 0.0
            for s in range(k):
                posterior[s] = math.exp(posterior[s] - most)
                total += posterior[s]
            for s in range(k):
                posterior[s] /= total
        else:
            for s in range(k):  # one by one: slices cost seconds to compile
                posterior[s] = prior[s]
        for s in range(len(out[t])):
            out[t, s] = 0.0
        for s in range(k):
            out[t, regime[s]] += posterior[s]
        for s in range(k):
            prior[s] = 0.0
        for r in range(k):
            for s in range(k):
                prior[s] += posterior[r] * transition[r, s]
