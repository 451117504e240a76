"""Instruments written down in a config and built into the ones of Nautilus: perpetuals and spot pairs."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from nautilus_trader.model import (
    CryptoPerpetual,
    Currency,
    CurrencyPair,
    InstrumentId,
    Money,
    Price,
    Quantity,
    Symbol,
)
from pydantic import Field, field_validator, model_validator

from core.settings import Settings, Time, format_time, unit

type Instrument = CryptoPerpetual | CurrencyPair

_Positive = Annotated[Decimal, Field(gt=0, le=1e15, decimal_places=28)]
_Fee = Annotated[
    Decimal, Field(gt=-0.01, lt=0.01, decimal_places=12), unit("fraction of notional, 0.0005 is 5 bps")
]
_Fraction = Annotated[Decimal, Field(ge=0, lt=1, decimal_places=12), unit("fraction, 0.05 is 5 %")]


class InstrumentBase(Settings):
    """What perpetuals and pairs share."""

    id: str
    """Nautilus instrument id, ``"BTCUSDT-PERP.BINANCE"``."""
    base: str
    """Currency code."""
    quote: str
    """Currency code."""
    price_increment: Annotated[_Positive, unit("quote currency")]
    """Tick. Its written decimal places are the precision: ``"0.50"`` means two places."""
    size_increment: Annotated[_Positive, unit("contracts")]
    """Lot. Its written decimal places are the precision."""
    raw_symbol: str | None = None
    """The venue's own name; absent: the symbol of ``id``."""
    maker_fee: _Fee = Decimal("0.0002")
    """Of orders that rested, negative for a rebate; kept in the instrument's ``info`` for whoever configures
    the venue."""
    taker_fee: _Fee = Decimal("0.0005")
    """Of orders that took; kept as ``maker_fee`` is."""
    min_quantity: Annotated[_Positive, unit("contracts")] | None = None
    """Least quantity of an order."""
    max_quantity: Annotated[_Positive, unit("contracts")] | None = None
    """Largest quantity of an order."""
    min_notional: Annotated[_Positive, unit("quote currency")] | None = None
    """Least value of an order."""
    valid_from: Time | None = None
    """Since when this definition holds, until the next of the same ``id``; absent: since ever. An instrument
    whose tick, lot, multiplier or limits changed has an entry for each."""

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str) -> str:
        symbol, _, venue = value.rpartition(".")
        if not symbol or not venue:
            raise ValueError(f"{value!r} is not SYMBOL.VENUE, such as BTCUSDT-PERP.BINANCE")
        if venue == "SYNTH":
            raise ValueError(
                f"{value!r}: Nautilus keeps the venue SYNTH for synthetic instruments; name another"
            )
        return value

    @field_validator("price_increment", "size_increment")
    @classmethod
    def _check_places(cls, value: Decimal) -> Decimal:
        if places(value) > 16:
            raise ValueError(f"{value} has more than 16 decimal places")
        return value

    def _arguments(self) -> dict[str, Any]:
        price, size = places(self.price_increment), places(self.size_increment)
        return {
            "instrument_id": InstrumentId.from_str(self.id),
            "raw_symbol": Symbol(self.raw_symbol or self.id.rpartition(".")[0]),
            "base_currency": Currency.from_str(self.base),
            "quote_currency": Currency.from_str(self.quote),
            "price_precision": price,
            "size_precision": size,
            "price_increment": Price.from_str(f"{self.price_increment:.{price}f}"),
            "size_increment": Quantity.from_str(f"{self.size_increment:.{size}f}"),
            "lot_size": Quantity.from_str(f"{self.size_increment:.{size}f}"),
            "min_quantity": _quantity(self.min_quantity, size),
            "max_quantity": _quantity(self.max_quantity, size),
            "min_notional": None
            if self.min_notional is None
            else Money.from_str(f"{self.min_notional} {self.quote}"),
            "ts_event": self.valid_from or 0,
            "ts_init": self.valid_from or 0,
            "info": {"maker_fee": str(self.maker_fee), "taker_fee": str(self.taker_fee)},
        }


class PerpetualSettings(InstrumentBase):
    """A perpetual future, linear or inverse."""

    kind: Literal["perpetual"] = "perpetual"
    settlement: str | None = None
    """Currency of profit and loss; absent: the quote, or the base of an inverse contract."""
    inverse: bool = False
    """Contracts are worth a fixed amount of the quote and settle in the base."""
    multiplier: Annotated[_Positive, unit("base (quote) units a contract")] = Decimal(1)
    """Contract value: base units a contract, such as ``"0.01"`` of OKX's BTC-USDT-SWAP (quote units where
    inverse)."""
    margin_init: _Fraction = Decimal("0.01")
    """Equity needed to open, of the notional."""
    margin_maint: _Fraction = Decimal("0.005")
    """Equity at which a position is liquidated, of the notional."""

    @model_validator(mode="after")
    def _check_margins(self) -> "PerpetualSettings":
        if not 0 <= self.margin_maint <= self.margin_init:
            raise ValueError(
                f"margin_maint {self.margin_maint} must lie between 0 and margin_init {self.margin_init}"
            )
        return self

    def build(self) -> CryptoPerpetual:
        """The Nautilus instrument."""
        return CryptoPerpetual(
            **self._arguments(),
            settlement_currency=Currency.from_str(
                self.settlement or (self.base if self.inverse else self.quote)
            ),
            is_inverse=self.inverse,
            multiplier=Quantity.from_str(f"{self.multiplier:f}"),
            margin_init=self.margin_init,
            margin_maint=self.margin_maint,
        )


class SpotSettings(InstrumentBase):
    """A spot pair."""

    kind: Literal["spot"]

    def build(self) -> CurrencyPair:
        """The Nautilus instrument."""
        return CurrencyPair(**self._arguments())


InstrumentSettings = Annotated[PerpetualSettings | SpotSettings, Field(discriminator="kind")]
"""One ``[[instrument]]`` entry of a config."""


def definition(instrument: Instrument) -> dict[str, Any]:
    """What an instrument says of ticks, lots, contract and limits, as JSON values (decimals as text)."""

    def text(name: str) -> str | None:
        value = getattr(instrument, name, None)
        return None if value is None else str(value)

    return {
        "valid_from": format_time(instrument.ts_init) if instrument.ts_init else None,
        "base": str(instrument.base_currency),
        "quote": str(instrument.quote_currency),
        "settlement": str(getattr(instrument, "settlement_currency", instrument.quote_currency)),
        "inverse": bool(getattr(instrument, "is_inverse", False)),
        "multiplier": str(instrument.multiplier),
        "price_increment": str(instrument.price_increment),
        "size_increment": str(instrument.size_increment),
        "min_quantity": text("min_quantity"),
        "max_quantity": text("max_quantity"),
        "min_notional": text("min_notional"),
        "margin_init": text("margin_init"),
        "margin_maint": text("margin_maint"),
    }


CONTRACT = ("base", "quote", "settlement", "inverse", "multiplier")
"""What of a definition decides what a contract is worth: where it changes, it is another contract."""


def changes(before: Instrument, after: Instrument, names: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """In what two definitions differ, of ``names`` where given: the name with the value before and after."""
    old, new = definition(before), definition(after)
    return {
        name: (old[name], new[name])
        for name in names or old
        if name != "valid_from" and old[name] != new[name]
    }


def places(increment: Decimal) -> int:
    """Decimal places that ``increment`` is written with."""
    return max(0, -int(increment.as_tuple().exponent))


def _quantity(value: Decimal | None, size_precision: int) -> Quantity | None:
    return None if value is None else Quantity.from_str(f"{value:.{size_precision}f}")
