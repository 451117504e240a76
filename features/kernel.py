"""The feature kernel: one compiled loop from merged events to features, the same for a bar and for a year.

It keeps each stream's order book and bar statistics, and at every ``CLOSE`` record computes the chosen
features from the last bars' statistics. All it remembers is in its state, so the events may be cut anywhere:
inside a bar, inside a book update. A feature is a function of a window of finished bars and nothing else, a
transform one of a window of a feature's values: causality is plain to see.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from core.causal import State
from core.contract import COIN, Contract
from core.events import EVENT, EventKind
from core.settings import format_time
from core.table import FeatureTable
from features.loop import CHANGED, MEMORY, SIGN, advance
from features.names import Chosen, choose, computed, schema_hash
from features.registry import Need
from features.statistics import STATS, Stat

LEVELS = 8_192
"""Book levels kept a side; beyond it the farthest are forgotten."""

QUOTE_COLUMNS = ("price", "bid", "ask", "mark", "first", "low", "high", "low_age", "high_age")
"""What a bar says of the traded stream's prices: the reference price at its close (the mid where the stream
has a book, else last trade or bar close; NaN while unknown), best bid and ask (NaN without a book), and what
a position is marked at: the mark at the close, the first, lowest and highest of the bar, and how long before
the close (ns) the lowest and the highest were met. The mark is the mark price where the stream has one no
older than a minute (or than the bar), else the reference price at the close (the bar's last trade where there
is none), and the trades before."""

_CLOSE = int(EventKind.CLOSE)
_UNWRITTEN = -1.7976931348623157e308  # no feature's value


@dataclasses.dataclass(frozen=True)
class StreamSpec:
    """One instrument the kernel reads.

    Parameters
    ----------
    alias : str
        Its name in features (``log_return_10@alias``).
    price_increment : float
        Its tick; book prices are kept as whole ticks.
    feeds : frozenset of Need
        The data there is: ``trades`` and ``ohlcv`` with trades, ``book`` with best levels, ``depth`` with an
        L2 book, ``ohlcv`` alone with external bars, ``mark``, ``index``, ``funding``.
    contract : Contract
        What its sizes are counted in.
    """

    alias: str
    price_increment: float
    feeds: frozenset[Need]
    contract: Contract = COIN


class FeatureKernel:
    """The chosen features over the given streams; immutable, with its memory in an explicit state.

    Parameters
    ----------
    names : sequence of str
        Features as a config names them.
    streams : sequence of StreamSpec
        In the order of stream indices of the events; the first is the traded one.
    series : sequence of str
        Aliases of external series, in the order of their indices.
    bars : dict, optional
        What identifies the bars, for the schema's hash.

    Raises
    ------
    ValueError
        For an unknown feature or alias, or a feature whose data a stream does not have.
    """

    def __init__(
        self,
        names: Sequence[str],
        streams: Sequence[StreamSpec],
        series: Sequence[str] = (),
        bars: Mapping[str, object] | None = None,
    ) -> None:
        if len(set(names)) != len(names):
            raise ValueError(
                f"features are named twice: {sorted({n for n in names if list(names).count(n) > 1})}"
            )
        self.names = tuple(names)
        self.streams = tuple(streams)
        self.series = tuple(series)
        self._chosen = [choose(name) for name in names]
        aliases = [s.alias for s in streams] + list(series)
        # Every column that is computed: the chosen ones, and what transforms among them are of.
        self._computed = every = computed(self._chosen)
        places = {c.name: i for i, c in enumerate(every)}
        columns = [places[name] for name in names]
        self._columns = None if columns == list(range(len(every))) else columns
        self._kept = tuple(dict.fromkeys(c.of.name for c in every if c.of is not None))
        self._own = np.array([self._index(c, aliases) for c in every], np.int64)
        self._reads = np.array([self._kept.index(c.of.name) if c.of else -1 for c in every], np.int64)
        keeps = [self._kept.index(c.name) if c.name in self._kept else -1 for c in every]
        self._keeps = np.array(keeps, np.int64)
        self._number = np.array([c.number for c in every], np.int64)
        self._lookback = np.array([c.lookback for c in every], np.int64)
        self._addresses = np.array([_address(c) for c in every], np.int64)
        self._scale = np.array([_ticks_per_unit(s.price_increment) for s in streams])
        self._quoted = np.array(["book" in s.feeds for s in streams])
        self._multiplier = np.array([s.contract.multiplier for s in streams])
        self._inverse = np.array([s.contract.inverse for s in streams])
        self.window = int(self._lookback.max(initial=0)) + 1
        self.schema_hash = schema_hash(self._chosen, bars or {})
        self.run(np.empty(0, EVENT))  # compiled now, not at the first bar of a live session

    def _index(self, chosen: Chosen, aliases: list[str]) -> int:
        alias = chosen.alias or aliases[0]
        if alias not in aliases:
            raise ValueError(
                f"feature {chosen.name!r}: no stream or series {alias!r}; there are {', '.join(aliases)}"
            )
        index = aliases.index(alias)
        feeds = self.streams[index].feeds if index < len(self.streams) else frozenset[Need](("series",))
        for need in chosen.feature.needs:
            if need == "clock" or (need == "price" and feeds & {"book", "trades", "ohlcv", "series"}):
                continue
            if need not in feeds:
                has = ", ".join(sorted(feeds)) or "nothing"
                raise ValueError(
                    f"feature {chosen.name!r} needs {need!r} of {alias!r}, which has only: {has}"
                )
        return index

    @property
    def needs(self) -> dict[str, set[Need]]:
        """For each stream, the data some chosen feature reads; ``price`` of the traded stream always."""
        aliases = [s.alias for s in self.streams] + list(self.series)
        found: dict[str, set[Need]] = {s.alias: set() for s in self.streams}
        found[aliases[0]].add("price")
        for one, own in zip(self._computed, self._own, strict=True):
            found.setdefault(aliases[own], set()).update(one.feature.needs)
        return found

    @property
    def schema(self) -> list[dict[str, Any]]:
        """One description a feature: name, unit, window, definition, code, source, needs."""
        return [c.describe() for c in self._chosen]

    def initial_state(self) -> State:
        """The kernel before its first event."""
        n, all_streams = len(self.streams), len(self.streams) + len(self.series)
        capacity = 2 * self.window + 64
        rows = np.full((all_streams, STATS), np.nan)
        rows[:, Stat.BUY_VOLUME : Stat.VALUE + 1] = 0.0
        rows[:, Stat.UPDATES : Stat.MID_VARIANCE + 1] = 0.0
        memory = np.full((n, MEMORY), np.nan)
        memory[:, SIGN] = 1.0
        memory[:, CHANGED] = 0.0
        return {
            "keys": np.zeros((n, 2, LEVELS), np.int64),
            "sizes": np.zeros((n, 2, LEVELS)),
            "levels": np.zeros((n, 2), np.int64),
            "rows": rows,
            "memory": memory,
            "times": np.full(
                n + 1, -1, np.int64
            ),  # start of the open bar, then when each spread was last accrued
            "history": np.full((all_streams, capacity, STATS), np.nan),
            "filled": np.zeros(1, np.int64),
            "past": np.full((len(self._kept), capacity, 1), np.nan),  # of what transforms are of
            "ranges": np.full((2, 3), np.nan),
            "moments": np.zeros((2, 3), np.int64),
        }

    def run(self, events: np.ndarray, state: State | None = None) -> tuple[FeatureTable, np.ndarray]:
        """Features of every bar that closes in ``events`` (canonical order).

        Returns
        -------
        table : FeatureTable
            One row a bar, NaN where a feature is not yet known.
        quotes : float64 array, shape (bars, 9)
            ``QUOTE_COLUMNS`` of the traded stream.
        """
        state = self.initial_state() if state is None else state
        ts = events["ts"][events["kind"] == _CLOSE]
        values = np.empty((len(ts), len(self._computed)))
        quotes = np.empty((len(ts), len(QUOTE_COLUMNS)))
        self._advance(events, state, values, quotes)
        if self._columns is not None:
            values = np.ascontiguousarray(values[:, self._columns])
        return FeatureTable(np.ascontiguousarray(ts), self.names, values), quotes

    def step(self, state: State, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One bar, whose ``CLOSE`` ends ``events``: features, shape (len(names),), and ``QUOTE_COLUMNS``.

        Raises ValueError where there is not exactly one ``CLOSE``; the state is then of no more use.
        """
        values = np.empty((1, len(self._computed)))
        quotes = np.empty((1, len(QUOTE_COLUMNS)))
        if self._advance(events, state, values, quotes) != 1:
            closes = np.count_nonzero(events["kind"] == _CLOSE)
            raise ValueError(f"step: the events close {closes} bars; give it one bar, or use run")
        return values[0] if self._columns is None else values[0, self._columns], quotes[0]

    def _advance(self, events: np.ndarray, s: State, values: np.ndarray, quotes: np.ndarray) -> int:
        # A compiled feature cannot raise through the loop. Python hears of it by its hook alone, while the
        # loop stands at the first value that is not written yet.
        values.fill(_UNWRITTEN)
        raised: list[tuple[int, BaseException | None]] = []

        def note(unraisable: "sys.UnraisableHookArgs") -> None:
            if "numba" not in str(unraisable.object):
                usual(unraisable)
            elif not raised:
                raised.append((int(np.argmax(values.ravel() == _UNWRITTEN)), unraisable.exc_value))

        usual, sys.unraisablehook = sys.unraisablehook, note
        try:
            closed: int = advance(
                events, s["keys"], s["sizes"], s["levels"], s["rows"], s["memory"], s["times"], s["history"],
                s["filled"], s["past"], s["ranges"], s["moments"], self._scale, self._quoted,
                self._multiplier, self._inverse, self.window, self._addresses, self._own, self._reads,
                self._keeps, self._number, self._lookback, values, quotes,
            )  # fmt: skip
        finally:
            sys.unraisablehook = usual
        if raised:
            (place, error), n = raised[0], len(self._computed)
            name = self._computed[place % n].name
            ts = events["ts"][events["kind"] == _CLOSE][place // n]
            raise ValueError(
                f"feature {name!r} failed at the bar that closes at {format_time(int(ts))}: "
                f"{type(error).__name__}: {error}; what is not known is NaN, a feature must not raise"
            )
        return closed


def _ticks_per_unit(increment: float) -> float:
    """Whole where it can be, so that whole ticks divided by it are the nearest floats to the prices."""
    ticks = 1.0 / increment
    whole = round(ticks)
    return float(whole) if whole and abs(ticks - whole) < 1e-9 * ticks else ticks


def _address(chosen: Chosen) -> int:
    """Where a feature's machine code is.

    Raises
    ------
    ValueError
        If it cannot be compiled, with the compiler's reason.
    """
    try:
        return (chosen.transform or chosen.feature).compiled.address or 0
    except NumbaError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = next((line for line in lines if not line.startswith("Failed in nopython")), lines[0])
        raise ValueError(f"feature {chosen.name!r} cannot be compiled: {why}") from error
