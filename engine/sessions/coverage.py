"""What the recording of the traded instrument covers and what it lacks, and what of that a run met."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from nautilus_trader.model import BarType

from catalogs.checks.findings import length_text
from catalogs.checks.silences import NEVER, silences
from catalogs.layout import DataType
from core.errors import BeaufortError
from core.journal import Tables
from core.records import EquityMark, Fill, Order
from core.settings import format_time
from engine.bundles import Models
from engine.pipeline import Market
from engine.reports.run_folder import floats, integers

_MINUTE = 60 * 10**9
_USUAL_FUNDING = 8 * 60 * _MINUTE
_MANY = 100  # bars that moved, from which on it is no chance that all open at the close before


@dataclasses.dataclass(frozen=True)
class PriceFeed:
    """What the simulated venue prices the traded instrument's orders by, and where it is silent.

    Attributes
    ----------
    data_type, identifier
        The book where there is one, else the trades, else the bars.
    bound : int
        Silences longer than this (ns) are holes.
    holes : int64 array, shape (n, 2)
        From the last price before to the first after, in order and apart; the last one ends at ``NEVER``
        where the recording ends inside the span.
    repeated : bool
        Whether every bar opens at the close before, as some vendors write them.
    """

    data_type: DataType
    identifier: str
    bound: int
    holes: np.ndarray
    repeated: bool = False


def price_feed(market: Market, start: int, end: int) -> PriceFeed:
    """The feed that prices orders between two moments (ns).

    Raises
    ------
    BeaufortError
        If the catalog lacks it.
    """
    settings = market.config.data.streams[market.config.data.trade]
    bound = market.config.venue.stale_after
    try:
        if settings.book != "none" or settings.trades:
            kind: DataType = settings.book if settings.book != "none" else "trades"
            found = silences(market.catalog, settings.instrument, kind, start, end, bound)
            return PriceFeed(kind, settings.instrument, found.bound, found.spans)
        assert settings.bars is not None
        return _bars_as_prices(market, settings.bars, start, end, bound or 0)
    except (KeyError, ValueError) as error:
        raise BeaufortError(str(error.args[0])) from None


def bar_interval(bar_type: str) -> int:
    """The length (ns) of the bars of a type."""
    return round(BarType.from_str(bar_type).spec.timedelta.total_seconds() * 1e9)


def _bars_as_prices(market: Market, bar_type: str, start: int, end: int, bound: int) -> PriceFeed:
    """Bars tell a price from their open to their close: what lies between two of them is silent."""
    length = bar_interval(bar_type)
    bars = market.catalog.bars(bar_type, start + 1)
    cut = int(np.searchsorted(bars.ts, end, side="right")) + 1  # one more, for where the last is followed
    closes, values = bars.ts[:cut], bars.values[:cut]
    opens = closes - length
    if market.config.venue.bar_fills == "close":
        opens[1:] = np.where(
            opens[1:] > closes[:-1], closes[1:], opens[1:]
        )  # a missing bar's end is heard of late
    begun = np.concatenate(([0], closes))
    over = np.concatenate((opens, [NEVER]))
    keep = over - begun > bound
    if len(closes) and closes[-1] > end:
        keep[-1] = False  # it goes on
    copied = bool(np.all(values[1:, 0] == values[:-1, 3]))
    repeated = copied and int(np.sum(values[:, 1] > values[:, 2])) >= _MANY
    return PriceFeed("bars", bar_type, bound, np.column_stack((begun, over))[keep], repeated)


# -- before the run ------------------------------------------------------------------------------------------


def recorded(market: Market, *, marks: bool = False) -> list[tuple[DataType, int, int]]:
    """What moves the traded instrument's price, and its mark, with its first and last moment in the
    catalog."""
    settings = market.config.data.streams[market.config.data.trade]
    feeds: list[tuple[DataType, str | None]] = [
        ("deltas", settings.instrument if settings.book == "deltas" else None),
        ("quotes", settings.instrument if settings.book == "quotes" else None),
        ("trades", settings.instrument if settings.trades else None),
        ("mark", settings.instrument if marks else None),
        ("bars", settings.bars),
    ]
    try:
        return [(kind, *market.catalog.coverage(name, kind)[:2]) for kind, name in feeds if name is not None]
    except (KeyError, ValueError) as error:
        raise BeaufortError(str(error.args[0])) from None


def stale_stretches(market: Market) -> list[str]:
    """Warnings where the backtest's span goes beyond what was recorded by more than a bar and a minute."""
    span, bars = market.config.backtest, market.config.bars
    slack = max(getattr(bars, "interval", 0), _MINUTE)
    marks = market.streams[0].mark
    unmarked = market.config.data.streams[market.config.data.trade].mark and not marks
    return [
        f"no mark prices of {market.traded.id} were recorded: liquidation is judged by its trades"
    ] * unmarked + [
        f"{name} of {market.traded.id} were recorded {format_time(first)} .. {format_time(last)} only: in "
        "the rest of the span the run stands on stale prices"
        for name, first, last in recorded(market, marks=marks)
        if first > span.start + slack or last < span.end - slack
    ]


def silent_stretches(market: Market, models: Models) -> list[str]:
    """A warning where no model is valid in a part of the backtest's span."""
    span = market.config.backtest
    valid = [bundle.validity for bundle in models.bundles]
    spoken = sum(max(0, min(v.valid_to, span.end) - max(v.valid_from, span.start)) for v in valid)
    silent = 1 - spoken / (span.end - span.start)
    if not silent:
        return []
    first, last = min(v.valid_from for v in valid), max(v.valid_to for v in valid)
    return [
        f"no model is valid in {100 * silent:.3g} % of the span (first valid from {format_time(first)}, last "
        f"until {format_time(last)}): there nothing is opened"
    ]


# -- after the run -------------------------------------------------------------------------------------------


def gaps_met(market: Market, prices: PriceFeed, tables: Tables, end: int) -> list[str]:
    """Warnings of what was missing while the run, which came to ``end`` (ns), held a position."""
    held = Held.of(tables[Fill], market.traded.size_precision, end)
    sent = tables[Order]
    return [
        *_bar_prices(market, prices),
        *_holes(market, prices, held, sent),
        *_end_of_data(market, prices, held, sent, tables[EquityMark]),
        *_marks(market, tables[EquityMark]),
        *_funding(market, held, end),
    ]


@dataclasses.dataclass(frozen=True)
class Held:
    """The stretches of time in which a position was held, shape (n,) each: from, to (ns), contracts."""

    begun: np.ndarray
    over: np.ndarray
    quantity: np.ndarray

    @classmethod
    def of(cls, fills: pa.Table, precision: int, end: int) -> "Held":
        """By the fills of all strategies, net, until ``end``."""
        ts = integers(fills, "ts")
        order = np.argsort(ts, kind="stable")
        position = np.round(np.cumsum((integers(fills, "side") * floats(fills, "qty"))[order]), precision)
        begun = ts[order]
        over = np.append(begun[1:], end)[: len(begun)]
        some = (position != 0) & (over > begun)
        return cls(begun[some], over[some], position[some])

    def within(self, lo: int, hi: int) -> int:
        """How long (ns) of ``[lo, hi]`` something was held."""
        return int(np.clip(np.minimum(self.over, hi) - np.maximum(self.begun, lo), 0, None).sum())

    def at(self, ts: np.ndarray) -> np.ndarray:
        """Whether something was held just before each moment, shape (len(ts),)."""
        after = np.searchsorted(self.begun, ts, side="left") - 1
        return (after >= 0) & (ts <= self.over[after]) if len(self.begun) else np.zeros(len(ts), bool)


def _bar_prices(market: Market, prices: PriceFeed) -> Iterator[str]:
    if prices.data_type != "bars":
        return
    if market.config.venue.bar_fills == "close":
        yield (
            "orders fill at the close of the bar they were decided on (venue.bar_fills = 'close'), a price "
            "that was gone when they were sent"
        )
    elif prices.repeated:
        yield (
            f"the bars {prices.identifier} open at the close before, as their vendor writes them: a fill at "
            "the next open is a fill at the close that was decided on"
        )


def _holes(market: Market, prices: PriceFeed, held: Held, orders: pa.Table) -> Iterator[str]:
    met = [(lo, hi) for lo, hi in prices.holes.tolist() if lo and hi < NEVER and held.within(lo, hi)]
    waited = int(np.sum(integers(orders, "held") > 0))
    queue = f"; {_number(waited, 'order')} waited for the first price after one" if waited else ""
    what = f"{prices.data_type} of {market.traded.id}"
    if met:
        lengths = [hi - lo for lo, hi in met]
        longest = int(np.argmax(lengths))
        beyond = f" of more than {length_text(prices.bound)}" if prices.bound else ""
        yield (
            f"a position was held through {_number(len(met), 'hole')}{beyond} in the {what} (the longest "
            f"{length_text(lengths[longest])} from {format_time(met[longest][0])}, together "
            f"{length_text(sum(lengths))}): nothing could be traded there, and the marks stood still{queue}"
        )
    elif queue:
        yield f"there are holes in the {what}{queue}"


def _end_of_data(
    market: Market, prices: PriceFeed, held: Held, orders: pa.Table, equity: pa.Table
) -> Iterator[str]:
    slack = max(getattr(market.config.bars, "interval", 0), prices.bound)
    last, over = prices.holes[-1].tolist() if len(prices.holes) else (0, 0)
    if over < NEVER or last >= market.config.backtest.end - slack:
        return
    never = int(np.sum(integers(orders, "held") < 0))
    left = f"{_number(never, 'order')} sent since never reached the venue" if never else ""
    ended = f"the {prices.data_type} of {market.traded.id} end at {format_time(last)}"
    if held.within(last, NEVER):
        price = floats(equity, "price")
        mark = price[np.isfinite(price)][-1:]
        at = f", marked at the last price {mark[0]:.12g}" if len(mark) else ""
        yield (
            f"{ended} with a position of {held.quantity[-1]:+.12g} contracts: nobody is there to trade with, "
            f"so it stays open{at}{'; ' * bool(left)}{left}"
        )
    elif left:
        yield f"{ended}: {left}"


def _marks(market: Market, equity: pa.Table) -> Iterator[str]:
    config = market.config
    if not config.data.streams[config.data.trade].mark:
        return
    ts, holding = integers(equity, "ts"), floats(equity, "position") != 0
    name = str(market.traded.id)
    known = np.empty(0, np.int64)
    if name in market.catalog.identifiers("mark"):
        known = market.catalog.prices(name, "mark", end=config.backtest.end + 1)["ts_init"]
    patience = max(getattr(config.bars, "interval", 0), _MINUTE)  # as long as the account goes by a mark
    latest = np.searchsorted(known, ts, side="right") - 1
    age = np.full(len(ts), NEVER)
    age[latest >= 0] = (ts - known[latest])[latest >= 0] if len(known) else 0
    without = int(np.sum(holding & (age > patience)))
    if without:
        yield (
            f"a position was held at {_number(without, 'bar')} without a mark price of {name} in the "
            f"{length_text(patience)} before"
        )


def _funding(market: Market, held: Held, end: int) -> Iterator[str]:
    if "Perpetual" not in type(market.traded).__name__ or not len(held.begun):
        return
    name = str(market.traded.id)
    first, last = int(held.begun[0]), int(min(held.over[-1], end - 1))
    lost = "what it would have paid or got is not in the result"
    if name not in market.catalog.identifiers("funding"):
        due = int(held.at(_steps(first, last, _USUAL_FUNDING)).sum())
        passed = f"{_number(due, 'settlement')} passed meanwhile, if there is one every 8 h"
        yield f"no funding of {name} is recorded, and a position was held: {lost} ({passed})"
        return
    rows = market.catalog.funding(name)
    settled = np.where(rows["next_funding_ns"] > 0, rows["next_funding_ns"], rows["ts_event"])
    missing = missing_settlements(np.unique(settled), first, last, int(rows["interval"][-1]))
    missed = missing[held.at(missing)]
    if len(missed):
        span = f"{format_time(int(settled.min()))} .. {format_time(int(settled.max()))}"
        yield (
            f"a position was held over {_number(len(missed), 'settlement')} that the recorded funding of "
            f"{name} ({span}) lacks, the first at {format_time(int(missed[0]))}: {lost}"
        )


def missing_settlements(known: np.ndarray, first: int, last: int, interval: int = 0) -> np.ndarray:
    """When settlements were due in ``(first, last]`` that ``known`` (ns, ascending, int64) lacks.

    Due is one an interval, which may change in time: that of the settlements before or that of those after,
    whichever is longer, so that a change of interval is no gap. ``interval`` (ns) holds where there are fewer
    than two; 8 h without it.
    """
    steps = np.diff(known)
    missing = []
    for i in np.flatnonzero(steps > 1.5 * np.min(steps, initial=NEVER)).tolist():
        before, after = steps[max(0, i - 2) : i], steps[i + 1 : i + 3]
        if len(before) and len(after):
            own = max(before.min(), after.min())
        else:
            own = before[-1] if len(before) else after[0] if len(after) else steps[i]
        if steps[i] > 1.5 * own:
            number = round(steps[i] / own)
            missing += [int(known[i]) + round(steps[i] * k / number) for k in range(1, number)]
    usual = interval or _USUAL_FUNDING
    early, late = (int(np.median(part)) if len(part) else usual for part in (steps[:3], steps[-3:]))
    missing += range(int(known[0]) - early, first, -early)
    missing += range(int(known[-1]) + late, last + 1, late)
    found = np.array(sorted(missing), dtype=np.int64)
    return found[(found > first) & (found <= last)]


def _steps(first: int, last: int, step: int) -> np.ndarray:
    """The multiples of ``step`` in ``(first, last]``."""
    return np.arange(first // step + 1, last // step + 1, dtype=np.int64) * step


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
