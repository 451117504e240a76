"""Order flow of a synthetic market: self-exciting market orders against a book of makers."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from catalogs.synthetic.book import (
    ASK,
    BID,
    DELTA,
    Book,
    Quoting,
    Tape,
    churn,
    close_batch,
    empty_book,
    extend,
    requote,
    snapshot,
    take_best,
    with_room,
)
from catalogs.synthetic.path import STEPS, STRESS, TREND
from catalogs.synthetic.settings import BP, SECOND, SynthSettings

TRADE = np.dtype([("ts", "i8"), ("price", "i8"), ("size", "i8"), ("id", "i8"), ("side", "i1")])
LIQUIDATION = np.dtype([("ts", "i8"), ("notional", "f8")])

# What all markets share. Sizes of orders are log-normal; those of large ones and of liquidations are Pareto.
_ACTIVITY = 0.7  # order flow grows with volatility to this power
_THINNING = 0.8  # depth shrinks with volatility to this power
_FAST, _SLOW, _FAST_SHARE = 8.0, 0.15, 0.6  # decay rates of the excitation, share of the fast one
_CHASE, _CHASE_TIME = 1.5, 0.7  # further orders, over the base rate, along a full move of the last second
_ORDER_SPREAD = 1.2  # standard deviation of log size
_LARGE, _LARGE_FROM = 0.03, 10.0  # share of large orders; the smallest of them, in medians
_PARETO, _LARGEST = 1.5, 400.0  # tail exponent; cap, in smallest sizes
_IMPACT_TIME, _IMPACT_CAP = 2.0, 5.0  # seconds makers remember an order; levels' sizes it counts for at most
_SKEW, _STALE = 0.5, 0.35  # log size of bids: with the flow, with the lead of the efficient price
_SPREAD_NOISE = 0.3  # standard deviation of the log spread that makers want
_KEEP = 3  # levels a market order leaves standing
_STEP_NS = SECOND // STEPS
_GRAIN = 1_000  # event times are whole microseconds

_SCALARS = np.dtype(
    [
        ("last_ts", "i8"),
        ("trade_id", "i8"),
        ("buy_fast", "f8"),  # Hawkes intensity above the base rate
        ("buy_slow", "f8"),
        ("sell_fast", "f8"),
        ("sell_slow", "f8"),
        ("impact", "f8"),  # log price by which recent orders have pushed the makers
        ("anchor", "f8"),  # moving average of the log price, for orders that chase it
    ]
)


class FlowState(NamedTuple):
    """Memory between stretches; ``scalars`` has one row of ``_SCALARS``."""

    scalars: np.ndarray
    book: Book


class FlowParams(NamedTuple):
    """Numbers of one market. Rates a second, sizes in lots, distances in log price."""

    tick: float
    lot: float
    levels: int
    orders: float  # market orders that nothing triggers, both sides, in calm chop
    own: float  # further orders one order causes on its side
    cross: float  # and on the other
    requotes: float
    churn: float
    order_size: float  # median
    level_size: float  # median near the best price in calm chop
    gap: float  # mean distance of levels near the best price
    spread: float  # quoted at no volatility
    spread_slope: float  # more of it for each unit of volatility
    calm: float  # volatility of calm chop
    impact: float  # of an order of the size of a level
    lean: np.ndarray  # of base order flow, per regime
    liquidations: float  # a second in stress, at a full one-sided move
    liquidation_size: float  # smallest


class Flow(NamedTuple):
    """Records of one stretch, and at the end of each second the mid price and the volume it saw, in lots."""

    deltas: np.ndarray
    trades: np.ndarray
    liquidations: np.ndarray
    mid: np.ndarray
    volume: np.ndarray


def flow_params(settings: SynthSettings, spot: bool = False) -> FlowParams:
    """The numbers that ``settings`` stand for. The spot market is wider, quieter and free of liquidations."""
    tick, lot = float(settings.instrument.price_increment), float(settings.instrument.size_increment)
    quiet, wide = (0.4, 2.0) if spot else (1.0, 1.0)
    rate = settings.rate * quiet
    return FlowParams(
        tick=tick,
        lot=lot,
        levels=settings.levels,
        orders=settings.trades * rate,
        own=settings.excitation,
        cross=settings.cross_excitation,
        requotes=45.0 * rate,
        churn=40.0 * rate,
        order_size=settings.trade_size / settings.rate / lot,
        level_size=settings.level_size * quiet / lot,
        gap=0.12 * BP * wide,
        spread=0.1 * BP * wide,
        spread_slope=0.25 * wide,
        calm=settings.chop.volatility * BP,
        impact=0.03 * BP * wide,
        lean=np.array([regime.flow for regime in settings.regimes]),
        liquidations=0.0 if spot else 0.5,
        liquidation_size=settings.trade_size * 10.0 / lot,
    )


def initial_flow_state(params: FlowParams, log_price: float) -> FlowState:
    """An empty book and quiet order flow at ``log_price``."""
    scalars = np.zeros(1, dtype=_SCALARS)
    scalars["anchor"] = log_price
    return FlowState(scalars, empty_book(params.levels))


@njit(cache=True)
def simulate_flow(
    params: FlowParams,
    state: FlowState,
    rng: np.random.Generator,
    start: int,
    log_price: np.ndarray,
    volatility: np.ndarray,
    regime: np.ndarray,
    direction: np.ndarray,
) -> Flow:
    """Events of the seconds from ``start`` (ns) that the path covers.

    Four clocks compete: market orders (a bivariate Hawkes process of buys and sells with two exponential
    kernels each, sampled by thinning as in Ogata 1981), forced orders in stress, makers who requote around
    the efficient price and their memory of recent orders, and churn of single levels. Changes ``state`` and
    ``rng``; any cutting between seconds gives the same events.

    Parameters
    ----------
    log_price, volatility : float arrays, shape (10 n,)
        The price that makers follow and its volatility a root second, each step.
    regime, direction : int8 arrays, shape (n,)
        Of each second.
    """
    s = state.scalars[0]
    book = state.book
    seconds = len(regime)
    tape = Tape(np.empty(4096 + 256 * seconds, DELTA), np.zeros(1, np.int64))
    trades, n_trades = np.empty(1024 + 32 * seconds, TRADE), 0
    forced, n_forced = np.empty(64, LIQUIDATION), 0
    mid, volume = np.empty(seconds), np.zeros(seconds, np.int64)
    dt = 1.0 / STEPS
    reach = np.sqrt(_CHASE_TIME)
    keep_anchor = np.exp(-dt / _CHASE_TIME)
    most_rows = 4 * book.keys.shape[1] + 8  # of one batch: every level of both sides withdrawn and set anew
    for i in range(len(log_price)):
        now, sigma, weather = log_price[i], volatility[i], regime[i // STEPS]
        opening = start + i * _STEP_NS
        s.anchor = now + (s.anchor - now) * keep_anchor
        pull = np.tanh((now - s.anchor) / (sigma * reach))
        lean = params.lean[weather] * (direction[i // STEPS] if weather == TREND else 1)
        activity = (sigma / params.calm) ** _ACTIVITY
        base_buy = params.orders * activity * (0.5 + 0.5 * lean + _CHASE * max(pull, 0.0))
        base_sell = params.orders * activity * (0.5 - 0.5 * lean + _CHASE * max(-pull, 0.0))
        rate_forced = params.liquidations * abs(pull) if weather == STRESS else 0.0
        rate_requote = params.requotes * np.sqrt(activity)
        steady = base_buy + base_sell + rate_forced + rate_requote + params.churn
        if book.sequence[0] == 0:
            snapshot(book, tape, rng, _quoting(params, book, rng, now, 0.0, sigma, 0.0), opening)
            s.last_ts = opening
        at = 0.0
        while True:
            bound = steady + s.buy_fast + s.buy_slow + s.sell_fast + s.sell_slow
            wait = rng.standard_exponential() / bound
            over = at + wait >= dt
            _decay(s, dt - at if over else wait)
            if over:
                break
            at += wait
            u = rng.random() * bound
            tape = with_room(tape, most_rows)
            ts = max(opening + int(at * SECOND) // _GRAIN * _GRAIN, s.last_ts + _GRAIN)
            first = tape.used[0]
            quoting = _quoting(params, book, rng, now, s.impact, sigma, lean + 0.5 * pull)
            if u < rate_requote + params.churn:
                if u < rate_requote:
                    requote(book, tape, rng, quoting)
                else:
                    churn(book, tape, rng, quoting)
                if close_batch(book, tape, first, ts):
                    s.last_ts = ts
                continue
            u -= rate_requote + params.churn
            liquidation = u < rate_forced
            if liquidation:
                buy, lots = pull > 0, _pareto(params.liquidation_size, rng)
            else:
                u -= rate_forced
                buys, sells = base_buy + s.buy_fast + s.buy_slow, base_sell + s.sell_fast + s.sell_slow
                if u >= buys + sells:  # thinned: the excitation has decayed since the bound was set
                    continue
                buy, lots = u < buys, _order_size(params, rng)
            side, sign = (ASK, 1) if buy else (BID, -1)
            filled, value = 0, 0
            while filled < lots and book.counts[side] > _KEEP:
                price, fill = take_best(book, tape, side, lots - filled)
                if n_trades == len(trades):
                    trades = _longer(trades)
                s.trade_id += 1
                row = trades[n_trades]
                row.ts, row.price, row.size, row.id, row.side = ts, price, fill, s.trade_id, sign
                n_trades += 1
                filled, value = filled + fill, value + fill * price
            extend(book, tape, rng, quoting, side)
            # The print comes first: its price still stands in the book that a reader has rebuilt by then.
            s.last_ts = ts + _GRAIN
            close_batch(book, tape, first, s.last_ts)
            volume[i // STEPS] += filled
            if liquidation:
                if n_forced == len(forced):
                    forced = _longer(forced)
                forced[n_forced].ts, forced[n_forced].notional = ts, sign * value * params.tick * params.lot
                n_forced += 1
            _excite(params, s, buy)
            s.impact += sign * params.impact * min(filled / params.level_size, _IMPACT_CAP)
        if i % STEPS == STEPS - 1:
            mid[i // STEPS] = 0.5 * (book.keys[BID, 0] - book.keys[ASK, 0]) * params.tick
    return Flow(tape.deltas[: tape.used[0]], trades[:n_trades], forced[:n_forced], mid, volume)


@njit(cache=True)
def _longer(rows: np.ndarray) -> np.ndarray:
    longer = np.empty(2 * len(rows), rows.dtype)
    for i in range(len(rows)):
        longer[i] = rows[i]
    return longer


@njit(cache=True)
def _decay(s: Any, wait: float) -> None:
    fast, slow = np.exp(-_FAST * wait), np.exp(-_SLOW * wait)
    s.buy_fast *= fast
    s.sell_fast *= fast
    s.buy_slow *= slow
    s.sell_slow *= slow
    s.impact *= np.exp(-wait / _IMPACT_TIME)


@njit(cache=True)
def _excite(params: FlowParams, s: Any, buy: bool) -> None:
    fast, slow = _FAST_SHARE * _FAST, (1.0 - _FAST_SHARE) * _SLOW
    to_buy, to_sell = (params.own, params.cross) if buy else (params.cross, params.own)
    s.buy_fast += to_buy * fast
    s.buy_slow += to_buy * slow
    s.sell_fast += to_sell * fast
    s.sell_slow += to_sell * slow


@njit(cache=True)
def _quoting(
    params: FlowParams,
    book: Book,
    rng: np.random.Generator,
    log_price: float,
    impact: float,
    sigma: float,
    lean: float,
) -> Quoting:
    """What makers want: wider and thinner with volatility, more on the side that flow and price lean to."""
    price = np.exp(log_price + impact) / params.tick
    spread = (params.spread + params.spread_slope * sigma) * np.exp(_SPREAD_NOISE * rng.standard_normal())
    half = max(0.5, 0.5 * spread * price)  # at least half a tick, so that the two sides never meet
    lead = 0.0
    if book.counts[BID] > 0 and book.counts[ASK] > 0:
        middle = 0.5 * (book.keys[BID, 0] - book.keys[ASK, 0])
        lead = np.tanh((np.exp(log_price) / params.tick - middle) / half)
    depth = params.level_size * (sigma / params.calm) ** -_THINNING
    return Quoting(price, half, params.gap * price, depth, _SKEW * lean + _STALE * lead, params.levels)


@njit(cache=True)
def _pareto(smallest: float, rng: np.random.Generator) -> int:
    return max(1, int(smallest * min((1.0 - rng.random()) ** (-1.0 / _PARETO), _LARGEST)))


@njit(cache=True)
def _order_size(params: FlowParams, rng: np.random.Generator) -> int:
    if rng.random() < _LARGE:
        return _pareto(_LARGE_FROM * params.order_size, rng)
    return max(1, int(np.rint(params.order_size * np.exp(_ORDER_SPREAD * rng.standard_normal()))))
