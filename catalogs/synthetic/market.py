"""A synthetic market stretch by stretch: the hidden path, the books on it, the slow values of both."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from catalogs.synthetic.flow import (
    Flow,
    FlowParams,
    FlowState,
    flow_params,
    initial_flow_state,
    simulate_flow,
)
from catalogs.synthetic.path import (
    STEPS,
    STRESS,
    TREND,
    HiddenPath,
    initial_path_state,
    jump_factor,
    path_params,
    simulate_path,
)
from catalogs.synthetic.settings import BP, SECOND, SynthSettings

_HOURS_8 = 8 * 3600 * SECOND
_INTEREST, _DAMP = 1 * BP, 5 * BP  # of eight hours, as large venues set them
_MARK_TIME = 30.0  # seconds over which the mark price averages the premium
_FUNDING_EVERY, _OPEN_INTEREST_EVERY = 60, 10  # seconds

TRUTH_COLUMNS = ("regime", "direction", "volatility", "price")
"""``regime`` indexes ``core.messages.REGIMES``; ``direction`` is +1 or -1 in a trend, else 0;
``volatility`` is the standard deviation of the log return, jumps included, a root second; ``price`` is the
efficient price."""


class Series(NamedTuple):
    """Times of events (ns) and values."""

    ts: np.ndarray
    value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stretch:
    """One chunk of the market.

    ``truth`` has a row a second, stamped at the second's end, and ``TRUTH_COLUMNS``: what held during the
    second, and the price at its end. ``funding`` is the predicted rate of the interval under way,
    ``next_funding`` its end. ``liquidations`` are signed notionals of forced orders, negative where longs
    were sold.
    """

    truth: Series
    perpetual: Flow
    spot: Flow | None
    mark: Series
    index: Series
    funding: Series
    next_funding: np.ndarray
    open_interest: Series
    liquidations: Series


def simulate(settings: SynthSettings, chunk: int = 1800) -> Iterator[Stretch]:
    """The market in stretches of ``chunk`` seconds. It is the same, bit for bit, however it is cut.

    Every part draws from a generator of its own, derived from the seed: the truth does not depend on
    ``rate``, the perpetual not on ``spot``.
    """
    seeds = np.random.SeedSequence(settings.seed).spawn(4)
    path_rng, flow_rng, slow_rng, spot_rng = (np.random.Generator(np.random.PCG64(seed)) for seed in seeds)
    path_numbers = path_params(settings)
    path_state = initial_path_state(settings)
    slow = _SlowValues(settings, slow_rng)
    book = _Book(flow_params(settings), settings, flow_rng)
    pair = _Book(flow_params(settings, spot=True), settings, spot_rng) if settings.spot else None
    factor = jump_factor(path_numbers)
    for first in range(0, settings.seconds, chunk):
        seconds = min(chunk, settings.seconds - first)
        start = settings.start + first * SECOND
        path = simulate_path(path_numbers, path_state, path_rng, seconds)
        flow = book.advance(start, path, path.log_price)
        ends = start + SECOND * np.arange(1, seconds + 1, dtype=np.int64)
        volatility = np.sqrt((path.volatility.reshape(-1, STEPS) ** 2).mean(axis=1)) * factor[path.regime]
        price = np.exp(path.log_price[STEPS - 1 :: STEPS])
        truth = np.column_stack([path.regime, path.direction, volatility, price])
        index = np.exp(path.log_index[STEPS - 1 :: STEPS])
        mark, funding, next_funding, open_interest = slow.advance(ends, index, flow, path.regime)
        yield Stretch(
            truth=Series(ends, truth),
            perpetual=flow,
            spot=None if pair is None else pair.advance(start, path, path.log_index),
            mark=mark,
            index=Series(ends, index),
            funding=funding,
            next_funding=next_funding,
            open_interest=open_interest,
            liquidations=Series(flow.liquidations["ts"], flow.liquidations["notional"]),
        )


class _Book:
    """One instrument's order flow and book between stretches."""

    def __init__(self, params: FlowParams, settings: SynthSettings, rng: np.random.Generator) -> None:
        self._params, self._rng = params, rng
        self._state: FlowState = initial_flow_state(params, np.log(settings.base_price))

    def advance(self, start: int, path: HiddenPath, log_price: np.ndarray) -> Flow:
        """The next stretch, around ``log_price``."""
        return simulate_flow(
            self._params,
            self._state,
            self._rng,
            start,
            log_price,
            path.volatility,
            path.regime,
            path.direction,
        )


class _SlowValues:
    """Mark price, funding and open interest between stretches.

    The mark price is the index times one plus an exponential average of the premium (mid over index, less
    one). The funding rate is the mean premium of the interval so far, plus interest less that premium but at
    most 5 basis points of it, both for eight hours and scaled to the interval.
    """

    def __init__(self, settings: SynthSettings, rng: np.random.Generator) -> None:
        self._settings, self._rng = settings, rng
        self._average = 0.0  # of the premium, for the mark price
        self._sum, self._count = 0.0, 0  # of the premium in this funding interval
        self._open_interest = settings.open_interest

    def advance(
        self, ends: np.ndarray, index: np.ndarray, flow: Flow, regime: np.ndarray
    ) -> tuple[Series, Series, np.ndarray, Series]:
        """Mark price, funding rate, time of the settlement it is for, and open interest of the stretch."""
        settings = self._settings
        interval = settings.funding_interval
        lot = float(settings.instrument.size_increment)
        premium = flow.mid / index - 1.0
        forced = np.zeros(len(ends))
        seconds = np.searchsorted(ends, flow.liquidations["ts"], side="right")
        np.add.at(forced, np.minimum(seconds, len(ends) - 1), np.abs(flow.liquidations["notional"]))
        # Positions opened less closed: as much as a coin thrown for a share of the volume, more in trends.
        opened = 0.05 * flow.volume * lot * (self._rng.standard_normal(len(ends)) + 0.1 * (regime == TREND))
        opened -= forced / flow.mid + 0.02 * flow.volume * lot * (regime == STRESS)
        mark = np.empty(len(ends))
        weight = 1.0 - np.exp(-1.0 / _MARK_TIME)
        rates: list[tuple[int, float, int]] = []
        open_interest: list[tuple[int, float]] = []
        for i, end in enumerate(ends.tolist()):
            self._average += weight * (premium[i] - self._average)
            mark[i] = index[i] * (1.0 + self._average)
            if end % interval == 0:
                self._sum, self._count = 0.0, 0
            self._sum, self._count = self._sum + premium[i], self._count + 1
            mean = self._sum / self._count
            if end // SECOND % _FUNDING_EVERY == 0 or end == settings.start + SECOND:
                rate = (mean + min(max(_INTEREST - mean, -_DAMP), _DAMP)) * interval / _HOURS_8
                rates.append((end, round(rate, 8), (end // interval + 1) * interval))
            self._open_interest = max(self._open_interest + opened[i], 0.01 * settings.open_interest)
            if end // SECOND % _OPEN_INTEREST_EVERY == 0:
                open_interest.append((end, round(self._open_interest, 3)))
        published = np.array([row[0] for row in rates], np.int64)
        return (
            Series(ends, mark),
            Series(published, np.array([row[1] for row in rates], np.float64)),
            np.array([row[2] for row in rates], np.int64),
            Series(
                np.array([row[0] for row in open_interest], np.int64),
                np.array([row[1] for row in open_interest], np.float64),
            ),
        )
