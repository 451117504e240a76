"""The governor's shell in a real backtest engine: its marks and liquidation, worked by hand."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nautilus_trader.backtest import BacktestEngine
from nautilus_trader.model import BookType, FundingRateUpdate, Money, Price, Venue

from actors.governor import GovernorConfig, RiskGovernor
from actors.guard import RunGuard
from actors.replay import Recording, ReplayActor, ReplayConfig
from actors.trader import TraderConfig
from core.journal import MemoryJournal
from core.records import Decision as Decided
from core.records import EquityMark, Fill, Funding, Liquidation, Record, as_records
from strategies import DeskConfig
from strategies.account import Account, AccountTerms
from strategies.contracts import ContractSpec
from strategies.governor import DrawdownGovernor, RiskSettings
from strategies.momentum import MomentumSettings
from strategies.policy import Decision, Place
from tests.strategies.tiny_market import (
    BTC,
    GRACE,
    START,
    TREND,
    USDT,
    S,
    book,
    inverse_perpetual,
    linear_perpetual,
    minute_like_bars,
    trades,
)
from tests.tiny_engine import tiny_engine

PATIENT = DrawdownGovernor(reduce_at=0.98, pause_at=0.99)  # nothing but liquidation stops it


class Once:
    """Trades once, at the first bar it may: positive buys."""

    def __init__(self, quantity: float) -> None:
        self._quantity = quantity

    def decide(self, view: Any) -> Decision:
        if view.position or view.orders or view.permit != "active":
            return Decision("none", "has its position")
        side = 1 if self._quantity > 0 else -1
        return Decision("enter", "", (Place("entry", side, abs(self._quantity)),))

    def stop_price(self, position: float, entry_price: float) -> float:
        return 0.5 * entry_price if position > 0 else 2.0 * entry_price

    def stopped(self, ts: int) -> None:
        raise AssertionError("no stop is that near")


class Turns(Once):
    """Buys, sells what it has, buys again."""

    def decide(self, view: Any) -> Decision:
        if view.position:
            return Decision("exit", "", (Place("exit", -1, view.position, reduce_only=True),))
        return super().decide(view)


def _run(
    prices: Sequence[float],
    quantity: float,
    *,
    lows: Sequence[float] | None = None,
    firsts: Sequence[float] | None = None,
    low_age: int = 0,
    taker_fee: str = "0",
    liquidation: bool = True,
    inverse: bool = False,
    policy: type[Once] = Once,
    rates: Sequence[FundingRateUpdate] = (),
    funding: list[Funding] | None = None,
    liquidations: list[Liquidation] | None = None,
    fills: list[Fill] | None = None,
    after: Callable[[BacktestEngine], None] = lambda engine: None,
) -> tuple[list[EquityMark], list[dict[str, Any]]]:
    """Equity marks and decisions of one position over bars that close at ``prices``, on an L2 book.

    ``lows`` were met ``low_age`` ns before the closes; ``funding``, ``liquidations`` and ``fills`` receive
    records, the first of ``rates``;
    ``after`` is called while the engine still stands.
    """
    n = len(prices)
    instrument = inverse_perpetual() if inverse else linear_perpetual()
    currency, balance = (BTC, "10 BTC") if inverse else (USDT, "10000 USDT")
    guard = RunGuard()
    journal = MemoryJournal()
    close = np.array(prices)
    first = close if firsts is None else np.array(firsts)
    low = np.minimum(close if lows is None else np.array(lows), first)
    high = np.maximum(close, first)
    ages = np.full(n, float(low_age)), np.zeros(n)
    recording = Recording(
        ts=START + np.arange(1, n + 1) * S,
        features=np.zeros((n, 1)),
        quotes=np.column_stack((close, close - 0.1, close + 0.1, close, first, low, high, *ages)),
        said={
            "regime": np.tile([1.0, 0.0, 0.0, float(TREND)], (n, 1)),
            "volatility": np.tile([0.01, 0.01, 1.0], (n, 1)),
        },
    )
    terms = AccountTerms(
        ContractSpec.of(instrument),
        Money.from_str(balance).as_decimal(),
        taker_fee=Decimal(taker_fee),
        maintenance=float(instrument.margin_maint) if liquidation else math.nan,
    )
    account = Account(terms)
    governor = GovernorConfig(
        PATIENT,
        account,
        instrument,
        0,
        journal,
        guard,
    )
    desk = DeskConfig(
        name="desk",
        settings=MomentumSettings(),
        instrument=str(instrument.id),
        spec=ContractSpec.of(instrument),
        risk=RiskSettings(exposure_cap=20, leverage_risk_on=20),
        bars_per_year=365.0,
        horizon=1,
        maker_fee=0.0,
        features=("nothing",),
        trade_from=0,
        journal=journal,
        bundle_at=lambda ts: "bundle",
    )
    replay = ReplayActor(
        ReplayConfig(
            governor=governor,
            trader=TraderConfig(instrument, (desk,), account, currency, journal),
            guard=guard,
            recording=recording,
            publish_delay=GRACE,
            interval=S,
        )
    )
    replay.trader.desks["desk"].policy = policy(quantity)  # type: ignore[assignment]
    with tiny_engine(
        instrument,
        balance,
        default_leverage=Decimal(20),
        book_type=BookType.L1_MBP if inverse else BookType.L2_MBP,
    ) as engine:
        if inverse:  # the book's levels are no ticks of this one
            engine.add_data(minute_like_bars(instrument, prices))
        else:
            engine.add_data([*book(instrument, prices, 1e6), *trades(instrument, prices)])
        if rates:
            engine.add_data(list(rates))
        engine.add_strategy(replay)
        engine.run(start=START, end=START + n * S + 2 * GRACE)
        after(engine)
    assert guard.failures == []
    tables = journal.tables()
    wanted: list[tuple[type[Record], list[Any] | None]]
    wanted = [(Funding, funding), (Liquidation, liquidations), (Fill, fills)]
    for kind, asked in wanted:
        if asked is not None:
            asked += as_records(kind, tables[kind])
    return list(as_records(EquityMark, tables[EquityMark])), tables[Decided].to_pylist()


def test_liquidation_comes_where_equity_meets_maintenance_margin() -> None:
    # 1,000 bought at 100.1 with 10,000, for a fee of 100.1: cash is -90,200.1, and with 2.5 % for maintenance
    # 1000 p - 90,200.1 = 25 p at p = 92.513.
    liquidations: list[Liquidation] = []
    fills: list[Fill] = []
    equity, decisions = _run(
        [100, 100, 93, 92.45, 120, 120, 120],
        1000,
        lows=[100, 100, 93, 91, 120, 120, 120],
        firsts=[100, 100, 93, 93, 120, 120, 120],
        taker_fee="0.001",
        liquidations=liquidations,
        fills=fills,
    )
    paid = 100.1  # 0.1 % of 100,100
    level = (90_100 + paid) / 975
    assert [round(row.equity, 6) for row in equity[:3]] == [10_000, 9_900 - paid, 2_900 - paid]
    assert [d["permit"] for d in decisions] == ["active"] * 3 + ["liquidated"] * 4
    assert [d["action"] for d in decisions] == ["enter", *["none"] * 6]
    assert decisions[3]["reason"] == "liquidated"
    assert [row.position for row in equity] == [0, 1000, 1000, 0, 0, 0, 0]
    # Booked at the level, though the bar recovered and the position was closed at a better price.
    left = 10_000 - paid + 1000 * (level - 100.1) - level
    assert [row.equity for row in equity[3:]] == pytest.approx([left] * 4, abs=1e-9)
    assert equity[3].equity_low == pytest.approx(left, abs=1e-9)
    (event,) = liquidations
    assert (event.position, event.mark) == (1000, 91)
    assert (event.price, event.level, event.charge, event.equity) == pytest.approx(
        (level, level, -level, left)
    )
    bought, ended = fills
    assert (bought.side, bought.qty, bought.price, bought.fee) == (1, 1000, 100.1, -paid)
    assert (ended.client_order_id, ended.strategy, ended.side, ended.qty) == ("LIQUIDATION", "desk", -1, 1000)
    assert (ended.price, ended.fee) == pytest.approx((level, -level))


def test_a_gap_over_the_level_is_booked_beyond_it() -> None:
    liquidations: list[Liquidation] = []
    equity, _ = _run([100, 100, 80, 120, 120], 1000, liquidations=liquidations)
    assert liquidations[0].price == 80
    assert [round(row.equity, 6) for row in equity[2:]] == [10_000 - 20_100] * 3  # more than there was


def test_what_filled_after_the_wick_earned_nothing() -> None:
    # The wick to 90 came 0.05 s into the third bar, 1,000 were sold at 99.9 as much later.
    turned: dict[str, Any] = {"policy": Turns, "low_age": S // 20 * 19}
    prices, lows = [100, 100, 110, 110], [100, 100, 90, 110]
    fills: list[Fill] = []
    equity, _ = _run(prices, 1000, firsts=[100] * 4, fills=fills, **turned)
    assert [f.price for f in fills[:2]] == [100.1, 99.9]
    assert (equity[2].equity, equity[2].position) == pytest.approx(
        (9_800, 0)
    )  # without the wick nothing was amiss
    liquidations: list[Liquidation] = []
    fills.clear()
    equity, decisions = _run(
        prices, 1000, lows=lows, firsts=[100] * 4, liquidations=liquidations, fills=fills, **turned
    )
    level = 90_100 / 975
    left = 10_000 + 1000 * (level - 100.1)
    assert [row.equity for row in equity[2:]] == pytest.approx([left, left])
    assert [d["permit"] for d in decisions] == ["active"] * 2 + ["liquidated"] * 2
    cash = sum(-f.side * f.qty * f.price + f.fee for f in fills)
    assert 10_000 + cash == pytest.approx(left)  # the fills account for it
    assert sum(f.side * f.qty for f in fills) == 0


def test_a_short_position_is_liquidated_upwards() -> None:
    # 1,000 sold at 99.9: at 107.2 equity is 2,700 and maintenance 2,680, at 107.3 it is 2,600 and 2,682.5.
    equity, decisions = _run(
        [100, 100, 107.2, 107.3, 100, 100], -1000, firsts=[100, 100, 100, 107.2, 100, 100]
    )
    assert [d["permit"] for d in decisions] == ["active"] * 3 + ["liquidated"] * 3
    level = (10_000 + 99_900) / 1025
    assert equity[3].equity == equity[5].equity == pytest.approx(10_000 + 1000 * (99.9 - level))


def test_an_inverse_contract_is_liquidated_in_its_base_currency() -> None:
    # 12,000 contracts of 1 USD bought a little over 100 with 10 BTC, 9.413 left at 100. At 93.5 the loss is
    # 12000/93.5 - 120 = 8.342: 1.071 is over the maintenance of 0.5 % of 128.3, 0.642; at 93 it is 0.381.
    fills: list[Fill] = []
    equity, decisions = _run(
        [100, 100, 93.5, 93, 93], 12_000, firsts=[100, 100, 100, 93.5, 93], inverse=True, fills=fills
    )
    assert equity[1].equity == pytest.approx(9.413, abs=1e-3)
    assert equity[1].equity - equity[2].equity == pytest.approx(12_000 / 93.5 - 120, abs=1e-9)
    assert [d["permit"] for d in decisions] == ["active"] * 3 + ["liquidated"] * 2
    # 10 + 12000 (1/entry - 1/p) = 0.005 * 12000 / p
    level = 1.005 * 12_000 / (10 + sum(f.qty / f.price for f in fills[:-1]))
    assert fills[-1].price == pytest.approx(level)
    assert equity[-1].equity == pytest.approx(0.005 * 12_000 / level)


def test_the_range_of_a_bar_counts_only_against_what_was_held_when_it_was_met() -> None:
    prices = [100.0] * 5
    before, after = {"low_age": S // 20 * 19}, {"low_age": S // 10}
    lows = [100, 92, 100, 100, 100]  # the order is filled a grace, 0.1 s, into the second bar
    equity, opened_later = _run(prices, 1000, lows=lows, **before)
    assert [d["permit"] for d in opened_later] == ["active"] * 5
    assert [row.equity_low for row in equity] == pytest.approx([10_000, *[9_900] * 4])
    _, opened_before = _run(prices, 1000, lows=lows, **after)
    assert [d["permit"] for d in opened_before] == ["active"] + ["liquidated"] * 4
    equity, held = _run(prices, 1000, lows=[100, 100, 93, 92, 100], **before)
    assert [d["permit"] for d in held] == ["active"] * 3 + ["liquidated"] * 2
    assert (equity[2].equity, equity[2].equity_low) == pytest.approx((9_900, 10_000 + 1000 * (93 - 100.1)))


def test_liquidation_can_be_switched_off() -> None:
    equity, decisions = _run([100, 100, 91, 91, 100], 1000, liquidation=False)
    assert {d["permit"] for d in decisions} == {"active"}
    assert equity[-1].position == 1000


def test_the_account_forgets_its_events_as_the_run_goes_on() -> None:
    def kept(bars: int) -> int:
        counts: list[int] = []

        def count(engine: BacktestEngine) -> None:
            counts.append(engine.cache.account_for_venue(Venue("SIM")).event_count)

        _, decisions = _run([100.0] * bars, 10, policy=Turns, after=count)
        assert [d["action"] for d in decisions] == ["enter", "exit"] * (bars // 2)
        return counts[0]

    assert kept(4) == kept(20)


def test_each_settlement_is_logged_once_however_often_it_is_announced() -> None:
    # 10 bought within the second bar: at 100 they pay 0.1 % of 1,000 a settlement, and then receive 0.2 %.
    settlements = [START + 3 * S, START + 5 * S, START + 7 * S]
    iid = linear_perpetual().id
    rates = [
        FundingRateUpdate(iid, Decimal(rate), ts - before, ts - before, None, ts)
        for ts, rate in zip(settlements, ("0.001", "0.001", "-0.002"), strict=True)
        for before in (S + S // 2, S, S // 2)
    ]
    funding: list[Funding] = []
    equity, _ = _run([100.0] * 8, 10, rates=rates, funding=funding)
    assert [(paid.ts, paid.amount) for paid in funding] == list(zip(settlements, (-1, -1, 2), strict=True))
    assert [round(row.equity - equity[1].equity, 9) for row in equity[2:]] == [-1, -1, -2, -2, 0, 0]


def test_only_settlements_to_come_are_waited_for_and_each_by_one_timer() -> None:
    alerts: list[int] = []
    clock = SimpleNamespace(
        timestamp_ns=lambda: 100, set_time_alert_ns=lambda name, at, callback: alerts.append(at)
    )
    instrument = linear_perpetual()
    account = Account(AccountTerms(ContractSpec.of(instrument), Decimal(1)))
    config = GovernorConfig(PATIENT, account, instrument, 0, MemoryJournal(), RunGuard())
    governor = RiskGovernor(SimpleNamespace(clock=clock), config, lambda *_: None)  # type: ignore[arg-type]
    for settlement in (None, 99, 100, 300, 100, 300, 500):
        governor.on_funding_rate(FundingRateUpdate(instrument.id, Decimal(0), 90, 90, None, settlement))
    assert alerts == [101, 301, 501]


@pytest.mark.parametrize(
    ("fills", "mark", "amount"),
    [
        ([(90, "2", "100")], "110", "-0.22"),  # held, at the mark
        ([(90, "2", "100"), (100, "-2", "105")], "110", "-0.22"),  # closed at that very moment: held before
        ([(90, "2", "100"), (100, "-2", "105")], None, "-0.21"),  # without a mark at what it was closed at
        ([(100, "2", "100")], "110", "0"),  # opened at that very moment
        ([(90, "2", "100"), (100, "-5", "105"), (101, "1", "99")], "110", "-0.22"),  # and since
        ([], "110", "0"),
    ],
)
def test_who_held_before_a_settlement_pays_it_where_the_venue_settles_nothing(
    fills: list[tuple[int, str, str]], mark: str | None, amount: str
) -> None:
    settle: list[Any] = []
    clock = SimpleNamespace(
        timestamp_ns=lambda: 50, set_time_alert_ns=lambda name, at, callback: settle.append(callback)
    )
    price = None if mark is None else SimpleNamespace(value=Price.from_str(mark))
    cache = SimpleNamespace(positions_open=lambda instrument_id: [], mark_price=lambda instrument_id: price)
    instrument = linear_perpetual()
    account = Account(AccountTerms(ContractSpec.of(instrument), Decimal(1000)))
    journal = MemoryJournal()
    config = GovernorConfig(PATIENT, account, instrument, 0, journal, RunGuard())
    host = SimpleNamespace(clock=clock, cache=cache)
    governor = RiskGovernor(host, config, lambda *_: None)  # type: ignore[arg-type]
    governor.on_funding_rate(FundingRateUpdate(instrument.id, Decimal("0.001"), 50, 50, None, 100))
    for ts, signed, at in fills:
        account.fill(ts, Decimal(signed), Decimal(at), maker=True)
    before = account.cash
    (callback,) = settle
    callback(None)
    assert journal.latest(Funding) == Funding(100, str(instrument.id), 0.001, float(amount))
    assert account.cash - before == account.ahead == Decimal(amount)
