"""The account: exact books of cash and position, and what they were worth while a bar lasted.

The venue's own account, Nautilus's, rounds every amount to its currency's decimal places, averages the
entries of an inverse contract arithmetically and knows no liquidation that bars could bring about. These
books are kept by fills, funding and liquidation alone, in decimals.

The position ``q`` at the price ``p`` is worth ``q * value(p)``, with ``value(p) = multiplier * p`` for a
linear contract and ``-multiplier / p`` for an inverse one. Cash pays that worth when contracts are bought and
gets it when they are sold, so equity, ``cash + q * value(p)``, is the starting balance with all that was
earned and paid, whatever the entries were.
"""

import dataclasses
import math
from decimal import Decimal
from typing import NamedTuple

from strategies.contracts import ContractSpec

_NONE = Decimal(0)


class Marks(NamedTuple):
    """What a position could be marked at within one bar; see ``features.kernel.QUOTE_COLUMNS``.

    ``low_at`` and ``high_at`` are the moments (ns) at which the extremes were met.
    """

    close: float
    first: float
    low: float
    high: float
    low_at: int
    high_at: int


class Liquidation(NamedTuple):
    """The venue takes the position over.

    ``price`` is what it is booked at: ``level``, where equity meets the maintenance margin, or the bar's
    first mark where that lay past the level already. ``mark`` is the mark that showed it, the bar's worst.
    ``charge`` (negative) is the fee, and what fills later than ``at`` had earned in the same bar.
    """

    at: int  # ns
    price: float
    level: float
    mark: float
    charge: float


class Marked(NamedTuple):
    """A bar of the account: equity at its close, the least while it lasted, and its end if that came."""

    equity: float
    lowest: float
    liquidation: Liquidation | None


class _State(NamedTuple):
    cash: Decimal
    position: Decimal


@dataclasses.dataclass(frozen=True)
class AccountTerms:
    """What an account is kept by.

    Parameters
    ----------
    spec : ContractSpec
    starting : Decimal
        Balance in the settlement currency.
    maker_fee, taker_fee : Decimal
        Fractions of the notional, negative where the venue pays them.
    maintenance : float
        Margin at which the venue takes a position over, as a fraction of its notional; NaN for never.
    untimed : bool
        Whether the moments of extremes are not known, as within external bars: then what was bought or sold
        in the bar counts as of its close, and the rest of the position as held throughout.
    """

    spec: ContractSpec
    starting: Decimal
    maker_fee: Decimal = _NONE
    taker_fee: Decimal = _NONE
    maintenance: float = math.nan
    untimed: bool = False


class Account:
    """Cash and position of a run, in the settlement currency and in contracts.

    Attributes
    ----------
    cash, position : Decimal
        ``cash`` is what would be left if the contracts were worth nothing.
    changed : int
        When either last did, ns.
    bookings : int
        Fills and settlements so far.
    price : float
        The last reference price that was known, NaN before.
    ahead : Decimal
        What these books hold more than the venue's, for settlements that they booked otherwise.
    """

    def __init__(self, terms: AccountTerms) -> None:
        self.terms = terms
        self._multiplier = Decimal(str(terms.spec.multiplier))
        self.cash, self.position = terms.starting, _NONE
        self.changed = self.bookings = 0
        self._opened = _State(self.cash, self.position)  # at the last bar's close
        self._changes: list[tuple[int, Decimal, Decimal]] = []  # since then: ns, cash, contracts
        self._latest: list[
            tuple[int, Decimal, Decimal]
        ] = []  # fills of the last moment: ns, contracts, price
        self.price = math.nan
        self.ahead = _NONE

    # -- what happens ----------------------------------------------------------------------------------------

    def fill(self, ts: int, signed: Decimal, price: Decimal, *, maker: bool) -> float:
        """Book a fill of ``signed`` contracts; returns its fee, negative where it was paid."""
        rate = self.terms.maker_fee if maker else self.terms.taker_fee
        fee = -abs(signed * self._value(price)) * rate
        self._book(ts, fee - signed * self._value(price), signed)
        self._latest = [fill for fill in self._latest if fill[0] >= ts - 1]
        self._latest.append((ts, signed, price))
        return float(fee)

    def before(self, ts: int) -> tuple[Decimal, float]:
        """The position just before ``ts``, and the price of then: that of the fills since, else the last
        bar's. Asked no later than 1 ns after ``ts``."""
        since = [(contracts, price) for at, contracts, price in self._latest if at >= ts]
        price = float(since[0][1]) if since else self.price
        return self.position - sum((contracts for contracts, _ in since), _NONE), price

    def settle(self, ts: int, amount: Decimal, venue: Decimal) -> None:
        """Book a funding settlement, positive where it was received; ``venue`` is what the venue booked."""
        self.ahead += amount - venue
        self._book(ts, amount, _NONE)

    def adopt(self, signed: Decimal, price: Decimal) -> None:
        """Take a position over that was there before, at its entry price."""
        self._book(0, -signed * self._value(price), signed)

    def liquidate(self, what: Liquidation) -> None:
        """Book the end of the position, and forget the bar."""
        price = Decimal(what.price)
        self.cash += self.position * self._value(price) + Decimal(what.charge)
        self.position = _NONE
        self._latest.clear()
        self._opened = _State(self.cash, self.position)
        self._changes.clear()

    def _book(self, ts: int, cash: Decimal, contracts: Decimal) -> None:
        self.cash += cash
        self.position += contracts
        self.changed = ts
        self.bookings += 1
        self._changes.append((ts, cash, contracts))

    # -- what it is worth ------------------------------------------------------------------------------------

    def equity(self, price: float) -> float:
        """With the position marked at ``price``, or at the last known one where that is no number."""
        return float(self._worth(_State(self.cash, self.position), price))

    def mark(self, ts: int, price: float, marks: Marks) -> Marked:
        """The bar that ends at ``ts`` (ns) with the reference price ``price``.

        ``lowest`` is the least of the equity at the close, at ``price``, and of the equities at the bar's
        lowest mark, its highest and its last, each with what was held at that moment.

        Where one of these equities is down to the maintenance margin the account is liquidated: the first of
        them in time counts. Call ``liquidate`` then; else the bar is done with.
        """
        if price > 0:
            self.price = price
        equity, lowest = self.equity(price), math.inf
        if not self.position and not self._changes:
            return Marked(equity, equity, None)
        for at, mark, state, whole in self._moments(ts, marks):
            worth = self._worth(state, mark)
            if state.position and worth <= self._maintenance(state, mark):
                ended = self._end(at, state, mark, marks, gap=whole)
                after = float(self.cash + self.position * self._value(Decimal(ended.price))) + ended.charge
                return Marked(after, min(lowest, after), ended)
            lowest = min(lowest, float(worth))
        # A bar is heard of a little after its close: what happened meanwhile belongs to the next one.
        self._opened = self._at(ts)
        self._changes = [change for change in self._changes if change[0] > ts]
        return Marked(equity, min(lowest, equity), None)

    def notional(self, contracts: Decimal, price: Decimal) -> Decimal:
        """Of ``contracts``, with their sign."""
        return contracts * abs(self._value(price))

    def _moments(self, ts: int, marks: Marks) -> list[tuple[int, float, _State, bool]]:
        """The bar's low, high and close in time, each with the books as they were, and whether these are
        what the bar began with."""
        if not marks.close > 0:
            return []
        now = _State(self.cash, self.position)
        if self.terms.untimed:
            kept = self._throughout(marks.close)
            return [
                (ts, marks.low, kept, True),
                (ts, marks.high, kept, True),
                (ts, marks.close, now, False),
            ]
        ends = sorted([(marks.low_at, marks.low), (marks.high_at, marks.high)])
        then = [(at, mark, self._at(at)) for at, mark in ends] + [(ts, marks.close, now)]
        return [(at, mark, state, state == self._opened) for at, mark, state in then]

    def _at(self, ts: int) -> _State:
        """The books at ``ts``. A fill of that very moment counts: it was the price that made it."""
        cash, position = self._opened
        for at, paid, contracts in self._changes:
            if at <= ts:
                cash, position = cash + paid, position + contracts
        return _State(cash, position)

    def _throughout(self, close: float) -> _State:
        """The part of the position that was held all through the bar, and what all else came to."""
        held, position = self._opened.position, self._opened.position
        for _, _, contracts in self._changes:
            position += contracts
            if held * position <= 0:
                held = _NONE
            elif abs(position) < abs(held):
                held = position
        traded = self.position - held
        return _State(self.cash + traded * self._value(Decimal(close)), held)

    def _maintenance(self, state: _State, mark: float) -> Decimal:
        rate = self.terms.maintenance
        if math.isnan(rate):
            return Decimal("-Infinity")
        return abs(state.position * self._value(Decimal(mark))) * Decimal(str(rate))

    def _end(self, at: int, state: _State, mark: float, marks: Marks, *, gap: bool) -> Liquidation:
        """How a position that its margin no longer carries ends; ``gap``: whether the mark may have jumped
        over the level before the bar's first."""
        level = self._level(state)
        worse, best = (min, marks.high) if state.position > 0 else (max, marks.low)
        price = worse(level, best, marks.first if gap else best)
        value = self._value(Decimal(price))
        ended = state.cash + state.position * value - abs(state.position * value) * self.terms.taker_fee
        charge = ended - (self.cash + self.position * value)
        return Liquidation(at, price, level, mark, float(charge))

    def _level(self, state: _State) -> float:
        """The price at which equity is the maintenance margin: ``cash + q value = maintenance |q value|``.

        Infinite (or 0 for a short position) where no price would do.
        """
        cash, q = state
        margin = abs(q) * Decimal(str(self.terms.maintenance))
        # |value| is value for a linear contract and -value for an inverse one.
        if self.terms.spec.inverse:
            above, below = self._multiplier * (q + margin), cash
        else:
            above, below = -cash, self._multiplier * (q - margin)
        level = float(above / below) if below else -1.0
        return level if level > 0 else math.inf if q > 0 else 0.0

    def _worth(self, state: _State, price: float) -> Decimal:
        if not state.position:
            return state.cash
        known = price if price > 0 else self.price
        return state.cash + state.position * self._value(Decimal(known))

    def _value(self, price: Decimal) -> Decimal:
        return -self._multiplier / price if self.terms.spec.inverse else self._multiplier * price
