"""What one bar costs in the EGARCH and HMM filters, in compiled loops and through ``step``."""

import time
from collections.abc import Callable

import numpy as np

from core.causal import CausalFilter
from core.messages import REGIMES
from regimes.hmm import HmmFilter
from volatility.egarch import EgarchFilter, shock_moments

BUDGET = {"egarch_loop_us": 2.0, "hmm_loop_us": 5.0}
"""Microseconds a bar that the compiled loops may take."""

_ROWS = 200_000


def measure() -> dict[str, float]:
    """Microseconds a bar: EGARCH with a horizon of 60 bars, HMM with 3 states and 8 features."""
    rng = np.random.default_rng(1)
    egarch = _egarch(horizon=60)
    hmm = _hmm(rng, states=len(REGIMES), features=8)
    returns = 1e-3 * rng.standard_normal((_ROWS, 1))
    rows = rng.standard_normal((_ROWS, 8))
    return {
        "egarch_loop_us": _loop(egarch, returns),
        "egarch_step_us": _steps(egarch, returns),
        "hmm_loop_us": _loop(hmm, rows),
        "hmm_step_us": _steps(hmm, rows),
    }


def _egarch(horizon: int) -> EgarchFilter:
    omega, alpha, gamma, beta = -0.3, 0.15, -0.05, 0.98
    z = np.linspace(-4, 4, 801)
    weights = np.exp(-0.5 * z * z)
    mean_shock, growth = shock_moments(alpha, gamma, beta, horizon, z, weights / weights.sum())
    return EgarchFilter(
        inputs=("log_return_1",),
        horizon=horizon,
        omega=omega,
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        nu=6.0,
        mean_shock=mean_shock,
        growth=growth,
        first_log_variance=omega / (1 - beta),
        least_log_variance=-40.0,
        most_log_variance=0.0,
    )


def _hmm(rng: np.random.Generator, states: int, features: int) -> HmmFilter:
    return HmmFilter(
        inputs=tuple(f"x{j}" for j in range(features)),
        names=REGIMES,
        start=np.full(states, 1 / states),
        transition=0.97 * np.eye(states) + 0.01,
        means=rng.standard_normal((states, features)),
        covariances=np.array([np.eye(features) * (s + 1) for s in range(states)]),
    )


def _loop(causal: CausalFilter, xs: np.ndarray) -> float:
    causal.run(xs[:10])  # compiled before the clock starts
    return _best(lambda: causal.run(xs)) / len(xs)


def _steps(causal: CausalFilter, xs: np.ndarray) -> float:
    rows = list(xs[:10_000])
    state = causal.initial_state()
    causal.step(state, rows[0])

    def walk() -> None:
        for row in rows:
            causal.step(state, row)

    return _best(walk) / len(rows)


def _best(work: Callable[[], object], rounds: int = 5) -> float:
    """Microseconds of the quickest of some rounds: what the work costs where nothing else runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


if __name__ == "__main__":
    for name, figure in measure().items():
        budget = f"  (budget {BUDGET[name]:g})" if name in BUDGET else ""
        print(f"{name:16} {figure:8.3f}{budget}")
