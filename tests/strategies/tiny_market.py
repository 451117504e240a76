"""A tiny hand-made market in a real backtest engine, and a script of what the stages say."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from nautilus_trader.execution import DefaultFillModel, MakerTakerFeeModel, StaticLatencyModel
from nautilus_trader.model import (
    AggressorSide,
    Bar,
    BarType,
    BookAction,
    BookOrder,
    BookType,
    CryptoPerpetual,
    Currency,
    InstrumentId,
    Money,
    OrderBookDelta,
    OrderBookDeltas,
    OrderSide,
    Price,
    Quantity,
    QuoteTick,
    StrategyId,
    Symbol,
    TradeId,
    TradeTick,
)
from nautilus_trader.trading import Strategy

from actors.guard import RunGuard
from actors.trader import Trader, TraderConfig
from core.journal import MemoryJournal
from core.messages import BarState, Forecast, RegimeState, RiskState, VolatilityState
from core.records import Decision, Fill
from strategies import DeskConfig, PolicySettings
from strategies.account import Account, AccountTerms
from strategies.contracts import ContractSpec
from strategies.governor import RiskSettings
from tests.tiny_engine import tiny_engine

S = 10**9
START = 1_700_000_000 * S
GRACE = S // 10
TREND, CHOP, STRESS = 0, 1, 2
HALF_SPREAD = 0.1
USDT, BTC = Currency.from_str("USDT"), Currency.from_str("BTC")


def linear_perpetual() -> CryptoPerpetual:
    return CryptoPerpetual(
        InstrumentId.from_str("BTCUSDT-PERP.SIM"),
        Symbol("BTCUSDT-PERP"),
        BTC,
        USDT,
        USDT,
        False,
        1,
        3,
        Price.from_str("0.1"),
        Quantity.from_str("0.001"),
        0,
        0,
        min_quantity=Quantity.from_str("0.001"),
        min_notional=Money.from_str("5 USDT"),
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.025"),
    )


def inverse_perpetual() -> CryptoPerpetual:
    usd = Currency.from_str("USD")
    return CryptoPerpetual(
        InstrumentId.from_str("XBTUSD-PERP.SIM"),
        Symbol("XBTUSD"),
        BTC,
        usd,
        BTC,
        True,
        1,
        0,
        Price.from_str("0.5"),
        Quantity.from_str("100"),
        0,
        0,
        min_quantity=Quantity.from_str("100"),
        margin_init=Decimal("0.01"),
        margin_maint=Decimal("0.005"),
    )


@dataclasses.dataclass
class Says:
    """What the stages say at one bar; a test changes what it needs."""

    regime: int = TREND
    up: float = math.nan
    down: float = math.nan
    volatility: float = 0.01
    risk_on: bool = True
    permit: str = "active"
    size_factor: float = 1.0
    equity: float = 10_000.0


@dataclasses.dataclass(frozen=True)
class ScriptConfig:
    strategy_id: StrategyId
    order_id_tag: str
    prices: Sequence[float]
    says: Callable[[int], Says]
    guard: RunGuard
    standing: list[Any]  # receives the orders that stand when the run ends, before desks cancel them
    trader: TraderConfig


class Script(Strategy):
    """Stands in for the hub, the stages and the governor: one bar a second, and a trader that hears it."""

    def __init__(self, config: ScriptConfig) -> None:
        super().__init__(config)
        self._c = config
        self._bar = 0
        watch = config.guard.watch
        self.trader = Trader(self, config.trader, lambda callback: watch(self, callback))
        self.on_order_event = watch(self, self.trader.on_order_event)
        self.on_position_event = watch(self, self.trader.on_position_event)

    def on_start(self) -> None:
        self.trader.recover()
        self.clock.set_timer_ns(
            "bars", S, start_time_ns=START + GRACE, callback=self._c.guard.watch(self, self._close)
        )

    def on_stop(self) -> None:
        self._c.standing.extend(self.cache.orders_open())
        self.trader.stop()

    def _close(self, _event: Any) -> None:
        i = self._bar
        self._bar += 1
        if i >= len(self._c.prices):
            return
        ts = START + (i + 1) * S
        said = self._c.says(i)
        posterior = tuple(1.0 if k == said.regime else 0.0 for k in range(3))
        price, half = self._c.prices[i], HALF_SPREAD
        bar = BarState(
            ts,
            np.array([float(i), price]),
            price,
            price - half,
            price + half,
            price,
            price,
            RegimeState(said.regime, posterior),
            VolatilityState(said.volatility, said.volatility, said.risk_on),
            Forecast(said.up, said.down),
            RiskState(said.permit, said.size_factor, said.equity, 0.0),
        )
        self.trader.on_bar(bar)


@dataclasses.dataclass
class Played:
    """What a run left: records as dicts, the trader, orders, the net position, failures."""

    decisions: list[dict[str, Any]]
    fills: list[dict[str, Any]]
    trader: Trader
    orders: list[Any]
    open_orders: list[Any]
    net: float
    failures: list[str]

    def actions(self, strategy: str = "s0") -> list[str]:
        return [d["action"] for d in self.decisions if d["strategy"] == strategy]

    def at(self, bar: int, strategy: str = "s0") -> dict[str, Any]:
        return next(
            d for d in self.decisions if d["ts"] == START + (bar + 1) * S and d["strategy"] == strategy
        )


def ticks(prices: Sequence[float]) -> Iterator[tuple[int, float]]:
    """When the market moves: prices change in the middle of a bar, and stand still around its close.

    The venue carries out what has arrived when the next event comes, hence two events after a close.
    """
    for i, price in enumerate(prices):
        if i:
            yield START + i * S + S // 5, prices[i - 1]
            yield START + i * S + 3 * S // 10, prices[i - 1]
        yield START + i * S + S // 2, price


def quotes(instrument: Any, prices: Sequence[float], size: float = 1_000.0) -> list[Any]:
    """Best bid and ask at every tick."""
    iid, pp, sp = instrument.id, instrument.price_precision, instrument.size_precision
    half = max(HALF_SPREAD, instrument.price_increment.as_double() / 2)
    amount = Quantity(size, sp)
    return [
        QuoteTick(iid, Price(p - half, pp), Price(p + half, pp), amount, amount, at, at)
        for at, p in ticks(prices)
    ]


def trades(instrument: Any, prices: Sequence[float]) -> list[Any]:
    """A trade of one lot at each price, right after the first quote."""
    iid, pp = instrument.id, instrument.price_precision
    return [
        TradeTick(
            iid,
            Price(p, pp),
            instrument.size_increment,
            AggressorSide.BUY,
            TradeId(str(i)),
            START + i * S + S // 2 + 1,
            START + i * S + S // 2 + 1,
        )
        for i, p in enumerate(prices)
    ]


def minute_like_bars(instrument: Any, prices: Sequence[float]) -> list[Any]:
    """External bars of one second, each from the last price to this one: no book, no trades."""
    bar_type = BarType.from_str(f"{instrument.id}-1-SECOND-LAST-EXTERNAL")
    pp, sp = instrument.price_precision, instrument.size_precision
    data, last = [], prices[0]
    for i, p in enumerate(prices):
        at = START + (i + 1) * S - 1
        levels = [Price(x, pp) for x in (last, max(last, p), min(last, p), p)]
        data.append(Bar(bar_type, *levels, Quantity(1_000.0, sp), at, at))
        last = p
    return data


def book(instrument: Any, prices: Sequence[float], size: float = 50.0) -> list[Any]:
    """An L2 book of three levels a side, redrawn at every tick.

    Sizes differ a little from tick to tick: a level whose size never changes is never refilled, so what was
    taken from it stays taken.
    """
    iid, pp, sp = instrument.id, instrument.price_precision, instrument.size_precision
    data = []
    for i, (at, p) in enumerate(ticks(prices)):
        empty = BookOrder(OrderSide.BUY, Price(0, pp), Quantity(0, sp), 0)
        deltas = [OrderBookDelta(iid, BookAction.CLEAR, empty, 0, i, at, at)]
        for k in range(3):
            away = HALF_SPREAD + 0.1 * k
            for side, level in ((OrderSide.BUY, p - away), (OrderSide.SELL, p + away)):
                flags = 128 if k == 2 and side is OrderSide.SELL else 0
                order = BookOrder(side, Price(level, pp), Quantity(size + 0.001 * (i % 2), sp), 0)
                deltas.append(OrderBookDelta(iid, BookAction.ADD, order, flags, i, at, at))
        data.append(OrderBookDeltas(iid, deltas))
    return data


def play(
    settings: PolicySettings | Sequence[PolicySettings],
    prices: Sequence[float],
    says: Callable[[int], Says],
    *,
    instrument: Any = None,
    data: Sequence[Any] | None = None,
    balance: str = "10000 USDT",
    risk: RiskSettings | None = None,
    trade_from: int = 0,
    book_type: BookType = BookType.L1_MBP,
    queue_position: bool = True,
    policy: Any = None,
    latency: int = 0,
    holes: Sequence[tuple[int, int]] = (),
    spec: ContractSpec | None = None,
    after: Callable[[Trader], None] = lambda trader: None,
) -> Played:
    """Run strategies ``s0, s1, …`` over the market.

    ``policy`` replaces the first one's; ``latency`` is what the trader knows of the venue's 5 ms, and
    ``holes`` of silences; ``spec`` what desks think of the contract; ``after`` is called with the trader
    while the engine still stands.
    """
    instrument = linear_perpetual() if instrument is None else instrument
    data = [*quotes(instrument, prices), *trades(instrument, prices)] if data is None else data
    guard = RunGuard()
    standing: list[Any] = []
    journal = MemoryJournal()
    money = Money.from_str(balance)
    several = [settings] if isinstance(settings, PolicySettings) else list(settings)
    config = TraderConfig(
        instrument=instrument,
        desks=tuple(
            DeskConfig(
                name=f"s{i}",
                settings=one,
                instrument=str(instrument.id),
                spec=spec or ContractSpec.of(instrument),
                risk=risk or RiskSettings(),
                bars_per_year=365.0,
                horizon=1,
                maker_fee=0.0002,
                features=("bar", "price"),
                trade_from=trade_from,
                journal=journal,
                bundle_at=lambda ts: "bundle-a",
            )
            for i, one in enumerate(several)
        ),
        account=Account(
            AccountTerms(
                ContractSpec.of(instrument), money.as_decimal(), Decimal("0.0002"), Decimal("0.0005")
            )
        ),
        currency=money.currency,
        journal=journal,
        latency=latency,
        holes=holes,
    )
    script = Script(ScriptConfig(StrategyId("Script-T"), "T", prices, says, guard, standing, config))
    trader = script.trader
    if policy is not None:
        trader.desks["s0"].policy = policy
    with tiny_engine(
        instrument,
        balance,
        default_leverage=Decimal(10),
        fee_model=MakerTakerFeeModel(Decimal("0.0002"), Decimal("0.0005")),
        fill_model=DefaultFillModel(1.0, 0.0, 7),
        latency_model=StaticLatencyModel(base_latency_nanos=5_000_000),
        book_type=book_type,
        liquidity_consumption=True,
        queue_position=queue_position,
    ) as engine:
        engine.add_data(list(data))
        engine.add_strategy(script)
        engine.run(start=START, end=START + len(prices) * S + 2 * GRACE)
        cache = engine.cache
        after(trader)
        positions = cache.positions_open(None, instrument.id)
        return Played(
            journal.tables()[Decision].to_pylist(),
            journal.tables()[Fill].to_pylist(),
            trader,
            sorted(cache.orders(), key=lambda o: o.ts_init),
            standing,
            sum(p.signed_qty for p in positions),
            guard.failures,
        )
