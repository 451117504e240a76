"""The hidden truth of a synthetic market: weather, volatility, efficient price and index."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from catalogs.synthetic.settings import BP, SECOND, SynthSettings

TREND, CHOP, STRESS = 0, 1, 2
STEPS = 10
"""Steps of the hidden path in a second."""

STRESS_JUMPS = 4.0  # times as many jumps as elsewhere
_FALLS = 0.6  # share of jumps that fall
_FAIR = 0.25  # the fair value of chop moves with this share of the volatility
_INDEX_LAG = 0.5  # seconds by which the rest of the market follows the perpetual
_PREMIUM_TIME, _PREMIUM, _PREMIUM_LEAN = (
    1800.0,
    3 * BP,
    4 * BP,
)  # premium of the perpetual: OU, leaning with trends

PATH_STATE = np.dtype(
    [
        ("regime", "i8"),
        ("direction", "i8"),
        ("remaining", "i8"),  # seconds left of this stay; -1 before the first
        ("log_price", "f8"),
        ("fair", "f8"),  # log fair value that chop returns to
        ("fast", "f8"),
        ("slow", "f8"),
        ("lagged", "f8"),
        ("premium", "f8"),
    ]
)


class PathParams(NamedTuple):
    """Numbers of the path; per regime where arrays. Times in seconds, volatility a root second."""

    dwell: np.ndarray
    dwell_shape: float
    dwell_minimum: float
    next_regime: np.ndarray  # (3, 3) probabilities
    volatility: np.ndarray
    drift: np.ndarray  # log return a second
    reversion: float
    leverage: float
    fast: float
    fast_time: float
    slow: float
    slow_time: float
    tail: float
    jumps: np.ndarray  # a second
    jump_size: float


class HiddenPath(NamedTuple):
    """``log_price``, ``volatility``, ``log_index`` at each step; ``regime``, ``direction`` of each second.

    ``volatility`` is that of the return of the step, a root second, jumps aside.
    """

    log_price: np.ndarray
    volatility: np.ndarray
    log_index: np.ndarray
    regime: np.ndarray
    direction: np.ndarray


def path_params(settings: SynthSettings) -> PathParams:
    """The numbers that ``settings`` stand for."""
    volatility = np.array([regime.volatility * BP for regime in settings.regimes])
    chop, trend, stress = settings.chop_to_trend, settings.trend_to_chop, settings.stress_to_chop
    return PathParams(
        dwell=np.array([regime.dwell / SECOND for regime in settings.regimes]),
        dwell_shape=settings.dwell_shape,
        dwell_minimum=settings.dwell_minimum / SECOND,
        next_regime=np.array([[0.0, trend, 1 - trend], [chop, 0.0, 1 - chop], [1 - stress, stress, 0.0]]),
        volatility=volatility,
        drift=np.array([regime.drift for regime in settings.regimes]) * volatility,
        reversion=settings.reversion / SECOND,
        leverage=settings.leverage,
        fast=settings.volatility_fast,
        fast_time=settings.volatility_fast_time / SECOND,
        slow=settings.volatility_slow,
        slow_time=settings.volatility_slow_time / SECOND,
        tail=settings.tail,
        jumps=settings.jumps * np.array([1.0, 1.0, STRESS_JUMPS]),
        jump_size=settings.jump_size,
    )


def initial_path_state(settings: SynthSettings) -> np.ndarray:
    """State before the first second: calm chop about to choose its length."""
    state = np.zeros(1, dtype=PATH_STATE)
    state["regime"], state["remaining"] = CHOP, -1
    state["log_price"] = state["fair"] = state["lagged"] = np.log(settings.base_price)
    return state


def jump_factor(params: PathParams) -> np.ndarray:
    """Per regime: standard deviation of returns with jumps over that without."""
    return np.sqrt(1.0 + params.jumps * 2.0 * params.jump_size**2)


@njit(cache=True)
def simulate_path(
    params: PathParams, state: np.ndarray, rng: np.random.Generator, seconds: int
) -> HiddenPath:
    """The next ``seconds`` of the path. Changes ``state`` and ``rng``, so any cutting gives the same path.

    Log volatility is the sum of two Ornstein-Uhlenbeck processes whose innovations correlate with those of
    the return; returns are Student t scale mixtures of the same normals, plus jumps.
    """
    s = state[0]
    n = seconds * STEPS
    log_price, volatility, log_index = np.empty(n), np.empty(n), np.empty(n)
    regime, direction = np.empty(seconds, dtype=np.int8), np.empty(seconds, dtype=np.int8)
    dt = 1.0 / STEPS
    root = np.sqrt(dt)
    keep_fast, keep_slow = np.exp(-dt / params.fast_time), np.exp(-dt / params.slow_time)
    add_fast = params.fast * np.sqrt(1.0 - keep_fast**2)
    add_slow = params.slow * np.sqrt(1.0 - keep_slow**2)
    shared = params.leverage**2 * add_fast * add_slow / (1.0 - keep_fast * keep_slow)
    mean = (
        params.fast**2 + params.slow**2 + 2.0 * shared
    )  # so that the mean square of sigma is the level's square
    other = np.sqrt(1.0 - params.leverage**2)
    unit = np.sqrt((params.tail - 2.0) / 2.0)
    keep_premium = np.exp(-dt / _PREMIUM_TIME)
    add_premium = _PREMIUM * np.sqrt(1.0 - keep_premium**2)
    keep_lagged = np.exp(-dt / _INDEX_LAG)
    for i in range(n):
        if i % STEPS == 0:
            if s.remaining <= 0:
                _turn(params, s, rng)
            s.remaining -= 1
            regime[i // STEPS], direction[i // STEPS] = s.regime, s.direction
        z, z_fast, z_slow, z_fair = (
            rng.standard_normal(),
            rng.standard_normal(),
            rng.standard_normal(),
            rng.standard_normal(),
        )
        shock = z * unit / np.sqrt(rng.standard_gamma(params.tail / 2.0))
        level = params.volatility[s.regime]
        sigma = level * np.exp(s.fast + s.slow - mean)
        way = s.direction if s.regime == TREND else 1
        move = sigma * root * shock + way * params.drift[s.regime] * dt
        if s.regime == CHOP:
            move -= (s.log_price - s.fair) * dt / params.reversion
            s.fair += _FAIR * sigma * root * z_fair
        if rng.random() < params.jumps[s.regime] * dt:
            sign = -1.0 if rng.random() < _FALLS else 1.0
            move += sign * rng.standard_exponential() * params.jump_size * sigma
        s.log_price += move
        s.fast = s.fast * keep_fast + add_fast * (params.leverage * z + other * z_fast)
        s.slow = s.slow * keep_slow + add_slow * (params.leverage * z + other * z_slow)
        s.lagged = s.log_price + (s.lagged - s.log_price) * keep_lagged
        lean = _PREMIUM_LEAN * s.direction
        s.premium = lean + (s.premium - lean) * keep_premium + add_premium * rng.standard_normal()
        log_price[i], volatility[i], log_index[i] = s.log_price, sigma, s.lagged - s.premium
    return HiddenPath(log_price, volatility, log_index, regime, direction)


@njit(cache=True)
def _turn(params: PathParams, s: Any, rng: np.random.Generator) -> None:
    """Choose the next regime (the first is chop) and the length of the stay."""
    if s.remaining == 0:
        u = rng.random()
        row = params.next_regime[s.regime]
        s.regime = 0 if u < row[0] else 1 if u < row[0] + row[1] else 2
    s.direction = 0
    if s.regime == TREND:
        s.direction = 1 if rng.random() < 0.5 else -1
    elif s.regime == CHOP:
        s.fair = s.log_price
    stay = rng.standard_gamma(params.dwell_shape) * params.dwell[s.regime] / params.dwell_shape
    s.remaining = int(max(params.dwell_minimum, np.rint(stay)))
