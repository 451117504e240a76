"""Contracts of every settlement: what is booked in which currency, what is refused, what the venue says."""

from decimal import Decimal
from typing import Any

import pytest
from nautilus_trader.model import CryptoPerpetual, Currency, InstrumentId, Price, Quantity, Symbol

from actors.trader import Trader
from core.errors import BeaufortError
from engine.sessions.settlement import account_balance, account_currency, settlement_currency, venue_differs
from strategies.momentum import MomentumSettings
from strategies.policy import Decision, Place
from tests.strategies.tiny_market import TREND, Says, play


def perpetual(
    base: str, quote: str, settled: str, *, inverse: bool = False, multiplier: str = "1"
) -> CryptoPerpetual:
    return CryptoPerpetual(
        InstrumentId.from_str("X-PERP.SIM"),
        Symbol("X"),
        Currency.from_str(base),
        Currency.from_str(quote),
        Currency.from_str(settled),
        inverse,
        2,
        3,
        Price.from_str("0.01"),
        Quantity.from_str("0.001"),
        0,
        0,
        multiplier=Quantity.from_str(multiplier),
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.025"),
    )


@pytest.mark.parametrize(
    ("contract", "settled", "booked"),
    [
        (perpetual("BTC", "USDT", "USDT"), "USDT", "USDT"),
        (perpetual("BTC", "USD", "USDC"), "USDC", "USD"),
        (perpetual("BTC", "USDT", "USDC"), "USDC", "USDT"),
        (perpetual("BTC", "JPY", "JPY"), "JPY", "JPY"),
        (perpetual("BTC", "USD", "BTC", inverse=True), "BTC", "BTC"),
        (perpetual("ETH", "USD", "BTC", multiplier="0.000001"), "BTC", "BTC"),
    ],
)
def test_the_currency_of_the_books_and_of_nautilus(contract: Any, settled: str, booked: str) -> None:
    assert settlement_currency(contract).code == settled
    assert account_currency(contract).code == booked
    balance = account_balance(contract, f"1_000 {settled}")
    assert (balance.as_decimal(), balance.currency.code) == (1000, booked)


@pytest.mark.parametrize(
    ("contract", "balance", "message"),
    [
        (perpetual("BTC", "EUR", "USDT"), "1 USDT", "quoted in EUR and settles in USDT: .* needs a rate"),
        (perpetual("ETH", "BTC", "USDT"), "1 USDT", "quoted in BTC and settles in USDT: .* needs a rate"),
        (perpetual("BTC", "USD", "BTC"), "1 BTC", "settles in its base, BTC, but is not inverse"),
        (
            perpetual("BTC", "USD", "USDC", inverse=True),
            "1 USDC",
            "inverse and settles in USDC, .* its base, BTC",
        ),
        (perpetual("BTC", "USD", "USDC"), "1 USD", "is 1.00 USD, but X-PERP.SIM is settled in USDC"),
    ],
)
def test_what_cannot_be_accounted_is_refused(contract: Any, balance: str, message: str) -> None:
    with pytest.raises(BeaufortError, match=message):
        account_balance(contract, balance)


class _Turns:
    """In and out, three times."""

    entries = 0

    def decide(self, view: Any) -> Decision:
        if any(order.role != "stop" for order in view.orders):
            return Decision("none", "waits")
        if view.position:
            return Decision("exit", "", (Place("exit", -1, view.position, reduce_only=True),))
        self.entries += 1
        if self.entries > 3:
            return Decision("none", "done")
        return Decision("enter", "", (Place("entry", 1, 3.333),))

    def stop_price(self, position: float, entry_price: float) -> float:
        return 0.5 * entry_price

    def stopped(self, ts: int) -> None:
        raise AssertionError("no price comes near the stop")


@pytest.mark.parametrize(
    ("contract", "balance", "unit"),
    [
        (perpetual("BTC", "USDT", "USDT"), "10000 USDT", 1e-8),
        (perpetual("BTC", "USD", "USDC"), "10000 USDC", 1e-2),
        (perpetual("BTC", "JPY", "JPY"), "10000 JPY", 1),
        (perpetual("ETH", "USD", "BTC", multiplier="0.0001"), "10 BTC", 1e-8),
    ],
)
def test_the_books_are_exact_and_the_venue_agrees_but_for_rounding(
    contract: Any, balance: str, unit: float
) -> None:
    seen: list[tuple[float, float, str | None]] = []

    def after(trader: Trader) -> None:
        account, cache = trader._c.account, trader._host.cache
        total = (
            cache.account_for_venue(contract.id.venue).balance_total(account_currency(contract)).as_double()
        )
        assert account.position == 0
        seen.append((float(account.cash), total, venue_differs(cache, account, contract)))
        account.cash += Decimal(40 * unit)  # which nobody paid
        assert "the simulated venue's account ends with" in str(venue_differs(cache, account, contract))

    prices = [100.0, 100.37, 99.81, 101.23, 100.42, 98.77, 100.03, 100.11]
    money = str(account_balance(contract, balance))
    played = play(
        MomentumSettings(),
        prices,
        lambda i: Says(TREND),
        instrument=contract,
        balance=money,
        policy=_Turns(),
        after=after,
    )
    assert played.failures == []
    fills = played.fills
    assert len(fills) == 6
    multiplier = contract.multiplier.as_double()
    by_hand = account_balance(contract, balance).as_double()
    for fill in fills:
        worth = multiplier * fill["qty"] * fill["price"]
        assert fill["fee"] == pytest.approx(-0.0005 * worth, rel=1e-12)  # though the cent may be larger
        by_hand += fill["fee"] - fill["side"] * worth
    ((cash, total, differs),) = seen
    assert cash == pytest.approx(by_hand, rel=1e-12)
    assert total == pytest.approx(cash, abs=8 * unit)
    assert differs is None
