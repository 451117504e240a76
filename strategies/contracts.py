"""What one contract is worth, in which steps it trades, and which orders for it are legal."""

import dataclasses
import math
from typing import Any, Self

_FUZZ = 1e-6  # of one increment: what sums and products of binary floats lose


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
