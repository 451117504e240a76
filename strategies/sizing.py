"""Position sizing: rules that say how many contracts, caps that say how many at most; the smallest binds."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from pydantic import Field

from core.settings import Fraction, Multiple, Settings, Volatility

_FUZZ = 1e-6  # of one increment: what sums and products of binary floats lose


class SizingSettings(Settings):
    """Which sizing rules speak; a rule without a value is silent, and the smallest answer binds."""

    risk_fraction: Fraction | None = Field(default=0.005, gt=0, lt=1)
    """Share of equity lost if the stop is hit (fixed fractional)."""
    volatility_target: Volatility | None = Field(default=0.4, gt=0, le=1e9)
    """Volatility a year that the position may bring to equity (0.4 is 40 %)."""
    kelly_fraction: Fraction | None = Field(default=0.25, gt=0, le=1)
    """Share of the Kelly bet on the calibrated probabilities."""
    payoff_ratio: Multiple = Field(default=1.5, gt=0, le=1e9)
    """What a win of that bet brings, in stop distances."""


@dataclasses.dataclass(frozen=True, slots=True)
class ContractSpec:
    """What one contract is worth and in which steps it trades; the pure face of a Nautilus instrument.

    A linear contract is worth ``multiplier * price`` of the quote currency and settles in it. An inverse one
    is worth ``multiplier / price`` of the base currency and settles in that (BitMEX XBTUSD: 1 USD, paid in
    BTC). Amounts below are in the settlement currency.
    """

    inverse: bool
    multiplier: float
    price_increment: float
    size_increment: float
    price_precision: int
    size_precision: int
    min_quantity: float = 0.0
    max_quantity: float = math.inf
    min_notional: float = 0.0  # in the quote currency, as venues state it
    max_notional: float = math.inf

    @classmethod
    def of(cls, instrument: Any) -> Self:
        """The contract of a Nautilus instrument (perpetual or currency pair)."""

        def number(name: str, absent: float) -> float:
            value = getattr(instrument, name, None)
            return absent if value is None else value.as_double()

        return cls(
            inverse=bool(getattr(instrument, "is_inverse", False)),
            multiplier=number("multiplier", 1.0),
            price_increment=number("price_increment", 0.0),
            size_increment=number("size_increment", 0.0),
            price_precision=instrument.price_precision,
            size_precision=instrument.size_precision,
            min_quantity=number("min_quantity", 0.0),
            max_quantity=number("max_quantity", math.inf),
            min_notional=number("min_notional", 0.0),
            max_notional=number("max_notional", math.inf),
        )

    def value(self, price: float) -> float:
        """Notional of one contract at ``price``."""
        return self.multiplier / price if self.inverse else self.multiplier * price

    def profit(self, entry: float, leave: float) -> float:
        """What one long contract makes between two prices; a short one makes its negative."""
        if self.inverse:
            return self.multiplier * (1 / entry - 1 / leave)
        return self.multiplier * (leave - entry)

    def average(self, entry: float, held: float, price: float, added: float) -> float:
        """The price at which ``held`` contracts of ``entry`` and ``added`` ones of ``price`` cost the same:
        the harmonic mean where a contract is inverse."""
        if self.inverse:
            return (held + added) / (held / entry + added / price)
        return (entry * held + price * added) / (held + added)

    def quote_notional(self, quantity: float, price: float) -> float:
        """Notional of ``quantity`` contracts in the quote currency, the unit of ``min_notional``."""
        return quantity * self.multiplier * (1.0 if self.inverse else price)

    def floor_quantity(self, quantity: float) -> float:
        """The largest tradable quantity not above ``quantity``; 0 where that is negative or not a number."""
        if not quantity > 0:
            return 0.0
        steps = math.floor(min(quantity, self.max_quantity) / self.size_increment + _FUZZ)
        return round(steps * self.size_increment, self.size_precision)

    def ceil_quantity(self, quantity: float) -> float:
        """The smallest tradable quantity that is not below ``quantity`` nor below the venue's minimum."""
        steps = math.ceil(max(quantity, self.min_quantity) / self.size_increment - _FUZZ)
        return round(steps * self.size_increment, self.size_precision)

    def most(self, price: float) -> float:
        """The largest quantity of one order at ``price``, infinite where the venue names none."""
        # One per cent less, because the venue judges by its own price.
        by_notional = 0.99 * self.max_notional / self.quote_notional(1.0, price) if price > 0 else math.inf
        most = min(self.max_quantity, by_notional)
        return most if math.isinf(most) else self.floor_quantity(most)

    def closing(self, quantity: float, price: float, *, alone: bool, resting: bool) -> tuple[float, ...]:
        """Quantities of the orders that together close ``quantity`` contracts.

        A venue caps a reduce-only order at the position, and spares it the minimum notional, but not lot and
        minimum quantity. So where the position is the account's own (``alone``) a rest under these is closed
        by the smallest legal order. Beside another desk's position only what is exactly legal may be sent,
        and ``resting`` orders have to be worth the minimum notional too; what is left over is dust.
        """
        most, pieces, rest = self.most(price), [], quantity
        while most > 0 and rest > most * (1 + _FUZZ):
            pieces.append(most)
            rest = round(rest - most, self.size_precision + 2)
        if alone:
            return (*pieces, self.ceil_quantity(rest)) if rest > 0 else tuple(pieces)
        piece = self.floor_quantity(rest)
        short = self.below_minimum(piece, price)
        if not short or (short == "min_notional" and not resting):
            return (*pieces, piece)
        if pieces:  # a large piece lends some of its own
            both = pieces.pop() + piece
            half = self.floor_quantity(both / 2)
            pieces += [half, round(both - half, self.size_precision)]
        return tuple(pieces)

    def floor_price(self, price: float) -> float:
        """The highest tick that is not above ``price``: where a passive buy rounds to."""
        return round(
            math.floor(price / self.price_increment + _FUZZ) * self.price_increment, self.price_precision
        )

    def ceil_price(self, price: float) -> float:
        """The lowest tick that is not below ``price``: where a passive sell rounds to."""
        return round(
            math.ceil(price / self.price_increment - _FUZZ) * self.price_increment, self.price_precision
        )

    def below_minimum(self, quantity: float, price: float) -> str:
        """The name of the venue's minimum that ``quantity`` misses, or ``""``."""
        if quantity <= 0 or quantity < self.min_quantity * (1 - _FUZZ):
            return "min_quantity"
        return (
            "min_notional" if self.quote_notional(quantity, price) < self.min_notional * (1 - _FUZZ) else ""
        )


class Sized(NamedTuple):
    """``quantity`` in contracts and the name of the rule or cap that set it."""

    quantity: float
    bound: str


def smallest(answers: Iterable[Sized]) -> Sized:
    """The answer that binds (the first of equals); an answer that is no number counts as zero.

    Raises
    ------
    ValueError
        If there is no answer: a position of unlimited size is never meant.
    """
    least: Sized | None = None
    for answer in answers:
        sized = answer if answer.quantity > 0 else Sized(0.0, answer.bound)
        if least is None or sized.quantity < least.quantity:
            least = sized
    if least is None:
        raise ValueError(
            "sizing: no rule and no cap says a size; give one of risk_fraction, volatility_target"
        )
    return least


def fixed_fractional(
    equity: float, risk_fraction: float, entry: float, stop: float, spec: ContractSpec
) -> float:
    """Contracts that lose ``risk_fraction`` of ``equity`` between ``entry`` and ``stop``."""
    loss = abs(spec.profit(entry, stop))
    return risk_fraction * equity / loss if loss > 0 else 0.0


def volatility_target(
    equity: float, target: float, annual_volatility: float, price: float, spec: ContractSpec
) -> float:
    """Contracts whose notional is ``target / annual_volatility`` times equity."""
    return target / annual_volatility * equity / spec.value(price) if annual_volatility > 0 else 0.0


def kelly_leverage(win: float, loss: float, gain: float, stop: float) -> float:
    """The notional, as a multiple of equity, that maximises expected log growth (Kelly 1956, three outcomes).

    With probability ``win`` the position makes ``gain`` (a fraction of notional), with ``loss`` it loses
    ``stop``, else nothing: the derivative of ``win log(1 + f gain) + loss log(1 - f stop)`` is zero at the
    value returned; 0 where the bet has no edge or a probability is not a number.
    """
    if not win + loss > 0:
        return 0.0
    return max(0.0, (win / stop - loss / gain) / (win + loss))


def fractional_kelly(
    equity: float,
    fraction: float,
    win: float,
    loss: float,
    payoff: float,
    entry: float,
    stop: float,
    spec: ContractSpec,
) -> float:
    """Contracts of ``fraction`` of the Kelly bet; a win makes ``payoff`` times the distance to the stop."""
    value = spec.value(entry)
    distance = abs(spec.profit(entry, stop)) / value
    if not distance > 0:
        return 0.0
    return fraction * kelly_leverage(win, loss, payoff * distance, distance) * equity / value


def rules(
    settings: SizingSettings,
    spec: ContractSpec,
    *,
    equity: float,
    entry: float,
    stop: float,
    annual_volatility: float,
    win: float | None = None,
    loss: float | None = None,
) -> list[Sized]:
    """What each configured rule answers; Kelly is silent where there are no probabilities (``win`` None)."""
    answers = []
    if settings.risk_fraction is not None:
        answers.append(
            Sized(fixed_fractional(equity, settings.risk_fraction, entry, stop, spec), "fixed_fractional")
        )
    if settings.volatility_target is not None:
        contracts = volatility_target(equity, settings.volatility_target, annual_volatility, entry, spec)
        answers.append(Sized(contracts, "volatility_target"))
    if settings.kelly_fraction is not None and win is not None and loss is not None:
        contracts = fractional_kelly(
            equity, settings.kelly_fraction, win, loss, settings.payoff_ratio, entry, stop, spec
        )
        answers.append(Sized(contracts, "kelly"))
    return answers


def cap(
    spec: ContractSpec,
    equity: float,
    price: float,
    leverage: float,
    exposure: float,
    max_quantity: float | None,
) -> Sized:
    """The most contracts, long or short, that leverage, exposure cap and quantity limits allow."""
    value = spec.value(price)
    return smallest(
        (
            Sized(exposure * equity / value, "exposure_cap"),
            Sized(leverage * equity / value, "leverage"),
            Sized(spec.max_quantity if max_quantity is None else max_quantity, "max_quantity"),
        )
    )
