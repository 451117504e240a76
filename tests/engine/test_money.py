"""What a backtest charges, pays and allows, recounted from its own records and from the catalog."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import small_market
from nautilus_trader.backtest import BacktestVenueConfig
from small_market import MINUTE, START

from catalogs.reader import Catalog
from catalogs.writer import CatalogWriter
from core.records import EquityMark, Fill, Order, as_records
from engine.config import RunConfig
from engine.pipeline import Market
from engine.reports import summary
from engine.sessions.backtest import node_config, play, played_feeds, run_backtest

_ID = "BTCUSDT-PERP.SIM"
_MAKER, _TAKER = 1e-5, 1e-4  # of small_market


@pytest.fixture(scope="module")
def run(trained: RunConfig) -> dict[str, pd.DataFrame]:
    folder, _ = run_backtest(trained, "replay", quiet=True)
    names = ("fills", "funding", "equity", "decisions", "positions")
    return {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in names}


def test_every_fill_pays_the_fee_of_its_side_of_the_book(run: dict[str, pd.DataFrame]) -> None:
    fills = run["fills"]
    assert set(fills["maker"]) == {True, False}
    rate = np.where(fills["maker"], _MAKER, _TAKER)
    np.testing.assert_allclose(fills["fee"], -fills["qty"] * fills["price"] * rate, atol=1e-8)


def test_what_was_paid_is_negative_in_every_table(run: dict[str, pd.DataFrame]) -> None:
    trips, fills = run["positions"], run["fills"]
    assert (fills["fee"] < 0).all()
    assert len(trips) > 3
    assert (trips["fees"] < 0).all()
    np.testing.assert_allclose(trips["net_pnl"], trips["gross_pnl"] + trips["fees"] + trips["funding"])


def test_the_grid_knows_what_a_maker_pays(trained: RunConfig) -> None:
    venue = trained.venue.model_copy(update={"maker_fee": Decimal("0.001")})
    config = trained.model_copy(update={"venue": venue})
    outcome = play(Market(config), Market(config).models(), "replay")
    assert not outcome.failures
    sent = outcome.tables[Order].to_pandas()
    quotes = sent[(sent["strategy"] == "grid") & (sent["type"] == "limit")]
    first = quotes[quotes["ts"] == quotes["ts"].min()]
    steps = first.groupby("side")["price"].apply(lambda prices: np.diff(np.sort(prices)).min() / prices.max())
    # A round trip of one level costs two fees of 0.1 %: levels stand that far apart, where they were drawn.
    assert steps.to_dict() == {"buy": pytest.approx(0.002, rel=0.02), "sell": pytest.approx(0.002, rel=0.02)}


def test_the_venue_has_the_leverage_and_the_queues_of_the_config(trained: RunConfig, tmp_path: Path) -> None:
    def venue(config: RunConfig, **changed: Any) -> BacktestVenueConfig:
        config = config.model_copy(update={"venue": config.venue.model_copy(update=changed)})
        market = Market(config)
        (one,) = node_config(market, played_feeds(market, "replay"), START).venues
        return one

    assert venue(trained, default_leverage=Decimal(3)).default_leverage == Decimal(3)
    assert [venue(trained, queue_position=on).queue_position for on in (True, False)] == [True, False]
    # Bars show no trades that could shorten a queue: an order in one would never fill.
    minutes = small_market.minutes_config(small_market.make_minutes(tmp_path / "minutes"), tmp_path)
    assert not venue(minutes, queue_position=True).queue_position


def test_funding_is_paid_once_a_settlement_on_what_was_held(
    trained: RunConfig, run: dict[str, pd.DataFrame]
) -> None:
    catalog = Catalog(trained.data.catalog)
    rates, marks = catalog.funding(_ID), catalog.prices(_ID, "mark")
    expected = {}
    for settlement in (START + 25 * MINUTE, START + 30 * MINUTE):
        before = run["fills"][run["fills"]["ts"] < settlement]
        held = round(float((before["side"] * before["qty"]).sum()), 9)
        rate = rates["rate"][rates["next_funding_ns"] == settlement][-1]
        mark = marks["value"][marks["ts_init"] <= settlement][-1]
        expected[settlement] = -held * mark * rate
    assert any(expected.values())
    assert run["funding"]["ts"].tolist() == list(expected)
    assert run["funding"]["rate"].tolist() == pytest.approx(
        [rates["rate"][rates["next_funding_ns"] == settlement][-1] for settlement in expected]
    )
    assert run["funding"]["amount"].tolist() == pytest.approx(list(expected.values()), rel=1e-6)


def test_equity_is_the_starting_balance_and_every_fill_fee_and_funding(run: dict[str, pd.DataFrame]) -> None:
    fills, equity = run["fills"], run["equity"]
    last = equity.iloc[-1]
    done = fills[fills["ts"] <= last["ts"]]
    signed = done["side"] * done["qty"]
    cash = -(signed * done["price"]).sum() + done["fee"].sum() + run["funding"]["amount"].sum()
    expected = equity["equity"].iloc[0] + cash + signed.sum() * last["price"]
    assert last["equity"] == pytest.approx(expected, abs=1e-4)


def test_the_least_equity_of_every_bar_is_recounted_from_fills_and_mark_prices(
    trained: RunConfig, run: dict[str, pd.DataFrame]
) -> None:
    fills, funding, equity = run["fills"], run["funding"], run["equity"]
    signed = fills["side"] * fills["qty"]
    changes = pd.concat(
        [
            pd.DataFrame({"ts": fills["ts"], "cash": fills["fee"] - signed * fills["price"], "held": signed}),
            pd.DataFrame({"ts": funding["ts"], "cash": funding["amount"], "held": 0.0}),
        ]
    ).sort_values("ts", kind="stable")
    times = changes["ts"].to_numpy()
    cash, held = (np.concatenate(([0.0], changes[name].cumsum())) for name in ("cash", "held"))
    marks = Catalog(trained.data.catalog).prices(_ID, "mark")

    def worth(at: int, price: float) -> float:
        """At a moment, with all that had happened by then."""
        n = np.searchsorted(times, at, side="right")
        return float(100_000 + cash[n] + held[n] * price)

    expected, held_at_worst = [], 0
    for ts, close, last in equity[["ts", "price", "equity"]].itertuples(index=False):
        lo, hi = np.searchsorted(marks["ts_init"], (ts - 10**9, ts))
        value, at = marks["value"][lo:hi], marks["ts_init"][lo:hi]
        heard = ts + trained.bars.grace  # what the bar's record knows
        ends = [(heard, marks["value"][hi - 1])]
        if len(value):
            ends += [(int(at[i]), value[i]) for i in (np.argmin(value), np.argmax(value))]
        expected.append(min(worth(heard, close), *(worth(when, price) for when, price in ends)))
        held_at_worst += expected[-1] < last
    assert held_at_worst > 50
    np.testing.assert_allclose(equity["equity_low"], expected, rtol=1e-12)


def test_an_order_meets_the_book_when_its_latency_is_over(trained: RunConfig) -> None:
    """To the nanosecond, however far the next event is: whatever fills at once fills then."""
    for latency in (0, 7_000_000):
        venue = trained.venue.model_copy(update={"latency": latency})
        config = trained.model_copy(update={"venue": venue})
        outcome = play(Market(config), Market(config).models(), "replay")
        taken = [fill.ts for fill in as_records(Fill, outcome.tables[Fill]) if not fill.maker]
        closes = set(outcome.tables[EquityMark]["ts"].to_pylist())
        entries = [ts for ts in taken if ts - latency - config.bars.grace in closes]
        assert len(entries) > 3
        assert not any(ts - config.bars.grace in closes for ts in taken) or latency == 0


@pytest.fixture(scope="module")
def heavy(trained: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The trained run, with a contract that wants all of a position's worth as maintenance margin."""
    folder = tmp_path_factory.mktemp("heavy") / "market"
    source = trained.data.catalog
    folder.mkdir()
    for path in source.rglob("*.parquet"):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(path)
    instrument = Catalog(source).instrument(_ID)
    told = type(instrument).to_dict(instrument) | {"margin_maint": "0.99", "margin_init": "0.01"}
    with CatalogWriter(folder) as writer:
        writer.instrument(type(instrument).from_dict(told))
    changes: dict[str, Any] = {"data": trained.data.model_copy(update={"catalog": folder})}
    changes["risk"] = trained.risk.model_copy(update={"exposure_cap": 3.0})
    return trained.model_copy(update=changes)


@pytest.mark.parametrize("on", [True, False])
def test_an_account_at_its_maintenance_margin_is_closed_for_good(heavy: RunConfig, on: bool) -> None:
    sizing = {"risk_fraction": None, "volatility_target": 1_000.0, "kelly_fraction": None}
    strategies = {
        name: s.model_copy(update={"sizing": s.sizing.model_copy(update=sizing)})
        for name, s in heavy.strategies.items()
    }
    venue = heavy.venue.model_copy(update={"liquidation": on})
    config = heavy.model_copy(update={"venue": venue, "strategies": strategies})
    runs: list[dict[str, Any]] = []
    for mode in ("faithful", "replay"):
        folder, _ = run_backtest(config, mode, quiet=True)  # type: ignore[arg-type]
        names = ("decisions", "fills", "equity", "positions", "liquidations")
        tables = {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in names}
        runs.append(tables | {"figures": summary(folder)})
        if not on:
            break
    told = runs[0]
    permits = told["decisions"]["permit"].tolist()
    assert ("liquidated" in permits) == on == bool(len(told["liquidations"]))
    if not on:
        assert told["figures"]["liquidation"] is None
        return
    for name in ("decisions", "fills", "equity", "positions", "liquidations"):
        pd.testing.assert_frame_equal(told[name], runs[1][name])
    ((_, ended),) = told["liquidations"].iterrows()
    figures, equity, fills = told["figures"], told["equity"], told["fills"]
    assert set(permits[permits.index("liquidated") :]) == {"liquidated"}
    after = equity[equity["ts"] >= figures["liquidated"]]
    assert (after["position"] == 0).all()
    assert after["equity"].to_numpy() == pytest.approx(ended["equity"])
    assert figures["unexplained"] == pytest.approx(0, abs=1e-7)
    assert figures["net_pnl"] == pytest.approx(ended["equity"] - 100_000)
    assert figures["net_pnl"] == pytest.approx(told["positions"]["net_pnl"].sum())
    # Booked at the level or worse, and the last thing that is booked.
    assert fills["client_order_id"].iloc[-1] == "LIQUIDATION"
    taken = fills[fills["client_order_id"] == "LIQUIDATION"]
    assert -(taken["side"] * taken["qty"]).sum() == pytest.approx(ended["position"])
    assert (ended["position"] > 0) == (ended["mark"] <= ended["level"])
    assert (ended["level"] - ended["price"]) * ended["position"] >= 0
    # At the level, equity is the maintenance margin.
    before = fills[fills["client_order_id"] != "LIQUIDATION"]
    signed = before["side"] * before["qty"]
    cash = 100_000 + (before["fee"] - signed * before["price"]).sum()
    assert cash + signed.sum() * ended["level"] == pytest.approx(0.99 * abs(signed.sum()) * ended["level"])
