"""The currency a contract settles in: what the books are kept in, and what Nautilus keeps them in.

A linear contract may be quoted in one dollar and settle in another (BTC-USD paid in USDC): a move of the
price by one pays one of the settlement currency. Nautilus books it in the quote currency all the same, so
its account is given the starting balance in that, one for one. A contract settled in neither its base nor its
quote is a quanto to Nautilus, with the multiplier in units of the settlement currency.
"""

from decimal import Decimal

from nautilus_trader.common import Cache
from nautilus_trader.model import Currency, Money

from catalogs.instruments import Instrument
from core.errors import BeaufortError
from strategies.account import Account

_DOLLARS = ("USD", "USDT", "USDC", "USDC.e", "BUSD", "FDUSD", "TUSD", "USDP", "pUSD")  # as Nautilus has them


def settlement_currency(instrument: Instrument) -> Currency:
    """What profit, loss, fees and margin are paid in.

    Raises
    ------
    BeaufortError
        If the contract's profit and loss cannot be accounted in that.
    """
    quote = instrument.quote_currency
    settled: Currency = getattr(instrument, "settlement_currency", quote)
    base = instrument.base_currency
    if getattr(instrument, "is_inverse", False):
        if settled != base:
            raise BeaufortError(
                f"{instrument.id} is inverse and settles in {settled.code}, but an inverse contract is paid "
                f"in its base, {base.code}; correct its settlement in the catalog"
            )
    elif settled == base:
        raise BeaufortError(
            f"{instrument.id} settles in its base, {base.code}, but is not inverse: what a move of its price "
            f"pays is in {quote.code}; correct its settlement, or inverse, in the catalog"
        )
    elif not _same_unit(settled, quote) and instrument.multiplier.as_decimal() == 1:
        raise BeaufortError(
            f"{instrument.id} is quoted in {quote.code} and settles in {settled.code}: what a move of its "
            "price pays needs a rate between the two, which nothing here has. For a quanto give the "
            f"instrument its multiplier, in {settled.code} a unit of price; else trade one that settles in "
            f"{quote.code}"
        )
    return settled


def account_currency(instrument: Instrument) -> Currency:
    """What Nautilus books the contract in: one unit of it is worth one of the settlement currency."""
    settled, quote = settlement_currency(instrument), instrument.quote_currency
    if getattr(instrument, "is_inverse", False) or not _same_unit(settled, quote):
        return settled
    return quote


def account_balance(instrument: Instrument, starting_balance: str) -> Money:
    """What Nautilus's account begins with.

    Raises
    ------
    BeaufortError
        If ``starting_balance`` is in another currency than the instrument settles in.
    """
    balance, settled = Money.from_str(starting_balance), settlement_currency(instrument)
    if balance.currency != settled:
        raise BeaufortError(
            f"venue.starting_balance is {balance}, but {instrument.id} is settled in {settled}; "
            "give an amount of it"
        )
    return Money.from_decimal(balance.as_decimal(), account_currency(instrument))


def venue_differs(cache: Cache, account: Account, instrument: Instrument) -> str | None:
    """By how much the simulated venue's account differs from the books of a run that has ended, as a warning;
    None where it is what rounding explains.

    Of an inverse contract it says nothing: Nautilus averages its entries arithmetically.
    """
    theirs = cache.account_for_venue(instrument.id.venue)
    if theirs is None or account.terms.spec.inverse:
        return None
    currency, settled = account_currency(instrument), settlement_currency(instrument)
    total = theirs.balance_total(currency).as_double() + float(account.ahead)
    price, spec = account.price, account.terms.spec
    for position in cache.positions_open(None, instrument.id):
        total += position.signed_qty * spec.profit(position.avg_px_open, price)
    ours = account.equity(price)
    # Each amount of theirs is rounded: profit and fee of a fill, value and payment of a settlement.
    rounding = (2 + 2 * account.bookings) * 10.0**-currency.precision + 1e-11 * abs(ours)
    if abs(total - ours) <= rounding:
        return None
    return (
        f"the simulated venue's account ends with {total:.10g} {settled.code}, the books of fills, fees and "
        f"funding with {ours:.10g}: the books are what is reported"
    )


def starting_cash(starting_balance: str) -> Decimal:
    """The amount of ``starting_balance`` as it is written."""
    return Decimal(starting_balance.split()[0].replace("_", ""))


def _same_unit(one: Currency, other: Currency) -> bool:
    """Whether Nautilus takes one for the other."""
    return one == other or (one.code in _DOLLARS and other.code in _DOLLARS)
