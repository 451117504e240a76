import dataclasses
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_run import fake_run
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BeaufortError
from core.records import Decision, EquityMark, Fill, Funding, Order, RoundTrip, as_table, schema
from engine.reports import metrics
from engine.reports.benchmark import hold
from engine.reports.ledger import Contract, keep_ledger, round_trips, slippage
from engine.reports.run_folder import LABELS, Run, read_run

HOUR = metrics.HOUR


def make_run(fills=(), bars=(), funding=(), orders=(), config="", **manifest):
    """A run of rows: fills (ts, strategy, side, qty, price, fee, mid), bars (ts, price, regime), funding, and
    the times at which the fills' orders were placed."""
    ids = [str(i) if orders else "" for i in range(len(fills))]
    orders = [
        Order(t, key, "", "", "", "", 0.0, 0.0, "", "") for t, key in zip(orders, ids, strict=bool(orders))
    ]
    bars = [EquityMark(t, "", 0.0, 0.0, price, 0.0, regime, True) for t, price, regime in bars]
    fills = [
        Fill(t, key, name, "", side, qty, p, fee, False, mid, "", True)
        for key, (t, name, side, qty, p, fee, mid) in zip(ids, fills, strict=True)
    ]
    return Run(
        folder=None,
        manifest={"instrument": "X"} | manifest,
        config=config,
        decisions=as_table(Decision, []),
        orders=as_table(Order, orders),
        fills=as_table(Fill, fills),
        funding=as_table(Funding, [Funding(t, "", 0.0, amount) for t, amount in funding]),
        equity=as_table(EquityMark, bars),
    )


def test_linear_ledger_by_hand():
    run = make_run(
        fills=[(15, "a", 1, 2.0, 101.0, -0.5, 100.5), (35, "a", -1, 2.0, 111.0, -0.6, 111.5)],
        bars=[(10, 100.0, "trend"), (20, 104.0, "chop"), (30, 110.0, "chop"), (40, 90.0, "stress")],
        funding=[(25, -0.2)],
    )
    ledger = keep_ledger(run)
    # [10, 20): bought at 101, marked at 104. [20, 30): 104 to 110. [30, 40): sold at 111 what stood at 110.
    assert ledger.gross[:, 0] == pytest.approx([0, 6, 12, 2, 0])
    assert ledger.fees[:, 0] == pytest.approx([0, -0.5, 0, -0.6, 0])
    assert ledger.funding[:, 0] == pytest.approx([0, 0, -0.2, 0, 0])
    assert ledger.by_regime_and_strategy()[:, 0] == pytest.approx([5.5, 12 + 2 - 0.6 - 0.2, 0, 0])
    (trip,) = round_trips(run)
    assert (trip.opened, trip.closed, trip.side) == (15, 35, 1)
    assert trip.net_pnl == pytest.approx(20 - 1.1 - 0.2)
    assert slippage(run) == pytest.approx(
        [-1.0, -1.0]
    )  # bought 0.5 above the mid, sold 0.5 below it, two contracts


def test_what_happens_before_a_bar_is_heard_of_belongs_to_the_regime_acted_on():
    run = make_run(
        # At the close, within the grace, at its end from before, at its end placed on that bar, after it.
        fills=[
            (t, "a", 1, 1.0, 100.0, fee, 100.0)
            for t, fee in ((20, -1), (22, -2), (23, -4), (23, -8), (24, -16))
        ],
        orders=[13, 13, 13, 23, 23],
        bars=[(10, 100.0, "trend"), (20, 104.0, "chop"), (30, 105.0, "stress")],
        funding=[(20, 0.5), (24, 0.25)],
        config='[bars]\ngrace = "3ns"',
    )
    ledger = keep_ledger(run)
    assert ledger.fees[:, 0].tolist() == [0, -1 - 2 - 4, -8 - 16, 0]
    assert ledger.fills[:, 0].tolist() == [0, 3, 2, 0]
    assert ledger.funding[:, 0].tolist() == [0, 0.5, 0.25, 0]
    # Three bought at 100 are marked at 104, as in that bar's equity; then those three, and two more at 100.
    assert ledger.gross[:, 0] == pytest.approx([0, 3 * 4, 3 * 1 + 2 * 5, 0])
    assert ledger.by_regime_and_strategy()[:, 0] == pytest.approx([12 - 7 + 0.5, 13 - 24 + 0.25, 0, 0])


def test_inverse_ledger_by_hand():
    run = make_run(
        fills=[(15, "a", -1, 10_000, 10_000.0, -0.0005, 10_000.0)],
        bars=[(10, 10_000.0, "stress"), (20, 8_000.0, "stress")],
        inverse=True,
    )
    # Short 10 000 contracts of a dollar from 10 000 to 8 000: 10 000 / 8 000 - 10 000 / 10 000 bitcoin.
    assert keep_ledger(run).gross.sum() == pytest.approx(0.25)
    assert keep_ledger(run).by_regime_and_strategy()[2, 0] == pytest.approx(0.2495)
    assert Contract(1.0, inverse=True).notional(np.array([10_000]), np.array([8_000.0])) == pytest.approx(
        [1.25]
    )


def test_entries_of_an_inverse_contract_are_not_averaged_arithmetically():
    fills = ((1, 1, 1_000.0, 10_000.0), (2, 1, 1_000.0, 12_000.0), (3, -1, 2_000.0, 11_000.0))
    run = make_run(fills=[(t, "a", side, qty, p, 0.0, p) for t, side, qty, p in fills], inverse=True)
    (trip,) = round_trips(run)  # the limit that the README names: by the arithmetic mean it would be nothing
    assert trip.gross_pnl == pytest.approx(0.1 + 1 / 12 - 2 / 11)
    assert round(trip.gross_pnl, 5) == 0.00152
    assert keep_ledger(run).gross.sum() == pytest.approx(trip.gross_pnl)


def test_round_trip_through_zero_splits_the_fee():
    run = make_run(
        fills=[
            (1, "a", 1, 1.0, 100.0, -0.1, math.nan),
            (2, "a", -1, 3.0, 110.0, -0.3, math.nan),
            (3, "b", 1, 1.0, 100.0, 0.0, math.nan),
            (4, "a", 1, 2.0, 120.0, -0.2, math.nan),
        ]
    )
    first, second = round_trips(run)  # b is still open
    assert (first.side, first.closed, second.side, second.opened, second.closed) == (1, 2, -1, 2, 4)
    assert first.gross_pnl == pytest.approx(10)
    assert first.fees == pytest.approx(-0.1 - 0.1)
    assert second.gross_pnl == pytest.approx(-20)
    assert second.fees == pytest.approx(-0.2 - 0.2)


def test_the_order_of_rows_in_the_file_does_not_matter(tmp_path):
    fake_run(tmp_path, bars=1_000)
    run = read_run(tmp_path)
    turned = dataclasses.replace(run, fills=run.fills.take(np.arange(len(run.fills))[::-1]))
    assert keep_ledger(turned).net.sum() == pytest.approx(keep_ledger(run).net.sum())
    assert sum(t.net_pnl for t in round_trips(turned)) == pytest.approx(
        sum(t.net_pnl for t in round_trips(run))
    )


def test_decimal_sizes_come_back_to_flat():
    sides = [(1, 0.1), (1, 0.2), (-1, 0.3)]  # 0.1 + 0.2 - 0.3 is not zero in binary
    run = make_run(fills=[(t, "a", d, q, 100.0, 0.0, 100.0) for t, (d, q) in enumerate(sides)])
    assert len(round_trips(run)) == 1


def test_funding_goes_to_who_holds():
    run = make_run(
        fills=[(1, "a", 1, 3.0, 100.0, 0, 100.0), (2, "b", -1, 1.0, 100.0, 0, 100.0)],
        bars=[(0, 100.0, "trend"), (5, 100.0, "trend")],
        funding=[(3, -2.0)],
    )
    assert keep_ledger(run).funding.sum(axis=0) == pytest.approx([-3.0, 1.0])


def naive_net(run, inverse):
    """Net PnL by (regime, strategy), walking through fills, bars and funding one by one."""
    value = (lambda p: -1 / p) if inverse else (lambda p: p)
    moments = [(row["ts"], 0, row) for row in run.equity.to_pylist()]
    moments += [(row["ts"], 1, row) for row in run.funding.to_pylist()]
    moments += [(row["ts"], 2, row) for row in run.fills.to_pylist()]
    held, marked, net, regime = {}, {}, {}, "none"

    def book(name, earned):
        net[regime, name] = net.get((regime, name), 0.0) + earned

    for _, kind, row in sorted(moments, key=lambda m: m[:2]):
        if kind == 0:
            for name, lots in held.items():
                book(name, lots * (value(row["price"]) - marked[name]))
                marked[name] = value(row["price"])
            regime = row["regime"]
        elif kind == 1:
            total = sum(held.values())
            for name, lots in held.items():
                if abs(total) > 1e-9:
                    book(name, row["amount"] * lots / total)
        else:
            name, signed = row["strategy"], row["side"] * row["qty"]
            # Everything held is marked at the fill's price, so the fill itself is worth nothing yet.
            book(name, held.get(name, 0.0) * (value(row["price"]) - marked.get(name, 0.0)) + row["fee"])
            held[name], marked[name] = held.get(name, 0.0) + signed, value(row["price"])
    last = run.equity.to_pylist()[-1]
    if run.fills["ts"].to_pylist()[-1] >= last["ts"]:
        end = run.fills["mid"].to_pylist()[-1]
        for name, lots in held.items():
            book(name, lots * (value(end) - marked[name]))
    return net


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_attribution_equals_a_naive_walk_and_adds_up_to_the_books(tmp_path, inverse, seed):
    booked = fake_run(tmp_path, seed=seed, bars=2_500, inverse=inverse)
    run = read_run(tmp_path)
    ledger = keep_ledger(run)
    assert len(run.fills) > 50
    assert len(run.funding) > 0
    assert ledger.net.sum() == pytest.approx(booked, rel=1e-9)
    cells, naive = ledger.by_regime_and_strategy(), naive_net(run, inverse)
    for i, label in enumerate(LABELS):
        for j, name in enumerate(ledger.strategies):
            assert cells[i, j] == pytest.approx(
                naive.get((label, name), 0.0), abs=1e-9 * abs(ledger.gross).sum()
            )
    flat = [np.cumsum(run.fills["side"].to_numpy() * run.fills["qty"].to_numpy())[-1]]
    trips = sum(trip.net_pnl for trip in round_trips(run))
    if abs(flat[0]) < 1e-9:
        assert trips == pytest.approx(booked, rel=1e-9)


def test_ratios_by_hand():
    returns = np.array([0.02, -0.01, 0.03, 0.0])
    assert metrics.sharpe(returns, metrics.DAY) == pytest.approx(
        0.01 / np.std(returns, ddof=1) * math.sqrt(365)
    )
    assert metrics.sortino(returns, metrics.DAY) == pytest.approx(0.01 / 0.005 * math.sqrt(365))
    assert metrics.sharpe_error(np.array([1.0, -1.0] * 50), metrics.DAY) == pytest.approx(
        math.sqrt(365 / 100)
    )
    assert math.isnan(metrics.sharpe(np.zeros(10), metrics.DAY))
    assert math.isnan(metrics.sharpe(np.array([0.1]), metrics.DAY))


def test_sampling_period_needs_a_span_that_means_something():
    assert metrics.sampling_period(19 * HOUR) is None
    assert metrics.sampling_period(20 * HOUR) == HOUR
    assert metrics.sampling_period(60 * metrics.DAY) == metrics.DAY


def test_periodic_returns_take_the_last_value_known():
    ts = np.array([1, 9, 11, 35]) * HOUR // 10
    returns = metrics.periodic_returns(ts, np.array([101.0, 110.0, 99.0, 121.0]), 100.0, 0, HOUR)
    # Ends at 1 h (110), 2 h (99) and 3 h (99, nothing new); 3.5 h is a broken period.
    assert returns == pytest.approx([0.1, -0.1, 0.0])


def test_drawdown_counts_from_the_start():
    closes = np.array([90.0, 120.0, 60.0])
    assert metrics.drawdown(closes, 100.0) == pytest.approx([0.1, 0.0, 0.5])
    lows = np.array([85.0, 70.0, 60.0])
    # 70 is measured by 100, the highest close before it, 120 came later.
    assert metrics.drawdown(closes, 100.0, lows) == pytest.approx([0.15, 0.3, 0.5])
    assert metrics.max_drawdown(np.empty(0), 100.0, np.empty(0)) == 0


def test_worst_drawdowns_by_hand():
    ts = np.arange(1, 11)
    equity = np.array([100.0, 98, 110, 99, 88, 110, 120, 114, 119, 90])
    falls = metrics.worst_drawdowns(ts, equity, 100.0, 0)
    # From 120 at 7 to 90 at 10, still there; from 110 at 3 to 88 at 5, back at 6; from 100 at 1 to 98.
    assert [(f.start, f.trough, f.recovered) for f in falls] == [(7, 10, None), (3, 5, 6), (1, 2, 3)]
    assert [f.depth for f in falls] == pytest.approx([0.25, 0.2, 0.02])
    assert metrics.worst_drawdowns(ts, equity, 100.0, 0, count=1) == falls[:1]
    lowest = np.where(ts == 4, 77.0, np.where(ts == 3, 90.0, equity))
    # 77 deepens the fall from 110; 90 was met on the way from 98 to 110.
    falls = metrics.worst_drawdowns(ts, equity, 100.0, 0, lowest)
    assert [(f.start, f.trough, f.recovered) for f in falls] == [(3, 4, 6), (7, 10, None), (1, 3, 3)]
    assert [f.depth for f in falls] == pytest.approx([0.3, 0.25, 0.1])
    assert metrics.worst_drawdowns(ts, equity + 50, 200.0, 0)[0].start == 0  # never above the start
    assert metrics.worst_drawdowns(ts[:1], equity[:1], 100.0, 0) == []


@pytest.mark.parametrize(("period", "window"), [(metrics.DAY, 30), (HOUR, 24)])
def test_rolling_figures_equal_pandas(period, window):
    pd = pytest.importorskip("pandas")
    returns = np.random.default_rng(4).normal(0.001, 0.02, 80)
    found = metrics.rolling(returns, 1_000, period)
    series = pd.Series(returns)
    rolled = series.rolling(window)
    expected = (rolled.mean() / rolled.std() * math.sqrt(metrics.YEAR / period)).dropna()
    np.testing.assert_allclose(found.sharpe, expected)
    total = rolled.apply(lambda part: np.prod(1 + part) - 1).dropna()
    np.testing.assert_allclose(found.total, total)
    deepest = rolled.apply(lambda part: metrics.max_drawdown(np.cumprod(1 + np.array(part)), 1.0)).dropna()
    np.testing.assert_allclose(found.drawdown, deepest, atol=1e-12)
    assert found.ts.tolist() == [1_000 + period * (i + 1) for i in expected.index]
    assert metrics.rolling(returns[: 2 * window - 1], 0, period) is None
    assert np.isnan(metrics.rolling(np.zeros(80), 0, period).sharpe).all()


def test_holding_the_instrument_by_hand():
    bars = [(10, math.nan, "chop"), (20, 50.0, "chop"), (30, 60.0, "chop"), (40, 45.0, "chop")]
    run = make_run(bars=bars, starting_equity=1_000.0)
    holding = hold(run)  # twenty contracts at 50
    np.testing.assert_allclose(holding.equity, [math.nan, 1_000.0, 1_200.0, 900.0])
    assert holding.total == pytest.approx(-0.1)
    assert holding.settlements == 0
    rows = [(25, 0.01, -3.0), (35, math.nan, -3.0), (36, -0.02, 0.0)]
    paid = as_table(Funding, [Funding(ts, "", rate, amount) for ts, rate, amount in rows])
    holding = hold(dataclasses.replace(run, funding=paid))
    # Of 20 x 60 at a rate of 1 %, and of 20 x 45 at -2 %; of the one between no rate is known.
    np.testing.assert_allclose(holding.received, [0, 0, -12, -12 + 18])
    np.testing.assert_allclose(holding.equity[1:], [1_000.0, 1_188.0, 906.0])
    assert holding.settlements == 2
    assert hold(make_run(bars=bars[:1], starting_equity=1_000.0)) is None


def test_a_holder_with_nothing_left_stays_there():
    bars = [(10, 100.0, "chop"), (20, 80.0, "chop"), (30, 50.0, "chop"), (40, 200.0, "chop")]
    holding = hold(make_run(bars=bars, starting_equity=2.0, inverse=True))  # 200 contracts of a dollar
    np.testing.assert_allclose(holding.equity, [2.0, 2.0 + 200 / 100 - 200 / 80, 0.0, 0.0])
    assert holding.total == -1


def test_wins_are_net_of_costs():
    trips = [RoundTrip("", "", 1, 0, 1, gross, -1.0, 0.0, gross - 1.0) for gross in (4.0, 0.5, 0.9, 3.0)]
    assert metrics.win_rate(trips) == 0.5
    assert metrics.profit_factor(trips) == pytest.approx(5.0 / 0.6)
    assert math.isnan(metrics.profit_factor(trips[:1]))
    assert math.isnan(metrics.win_rate([]))


def test_time_is_weighted_by_how_long_a_bar_held():
    ts, regime = np.array([0, 10, 40, 50]), np.array([0, 1, 3, 2])
    shares = metrics.time_in_regime(ts, regime)  # 10, 30, 10 and the median gap, 10
    assert shares == pytest.approx({"trend": 1 / 6, "chop": 1 / 2, "stress": 1 / 6, "none": 1 / 6})
    assert metrics.exposure_time(ts, np.array([0.0, 2.0, -1.0, 0.0])) == pytest.approx(4 / 6)


def test_fingerprint_is_of_values_not_of_storage(tmp_path):
    fake_run(tmp_path, bars=400)
    run = read_run(tmp_path)
    original = metrics.fingerprint(run.decisions, run.fills)
    for name in ("decisions", "fills"):
        table = pq.read_table(tmp_path / f"{name}.parquet")
        extra = table.append_column("extra", pa.nulls(len(table))).select(
            ["extra", *table.column_names[::-1]]
        )
        strings = [
            f.with_type(pa.dictionary(pa.int32(), pa.string())) if f.type == pa.string() else f
            for f in extra.schema
        ]
        pq.write_table(extra.cast(pa.schema(strings)), tmp_path / f"{name}.parquet", row_group_size=37)
    again = read_run(tmp_path)
    assert metrics.fingerprint(again.decisions, again.fills) == original


def test_fingerprint_sees_every_cell(tmp_path):
    fake_run(tmp_path, bars=200)
    run = read_run(tmp_path)
    original = metrics.fingerprint(run.decisions, run.fills)
    assert metrics.fingerprint(run.decisions.slice(1), run.fills) != original
    other = {pa.int64(): 5, pa.float64(): 0.123456, pa.string(): "ä", pa.bool_(): None}
    for i, field in enumerate(schema(Decision)):
        values = run.decisions[field.name].to_pylist()
        values[77] = other[field.type]
        changed = run.decisions.set_column(i, field, pa.chunked_array([values], field.type))
        assert metrics.fingerprint(changed, run.fills) != original, field.name


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=3), min_size=2, max_size=6))
def test_fingerprint_knows_where_one_string_ends(words):
    def decisions(reasons):
        blank = {f.name: pa.nulls(len(reasons), f.type) for f in schema(Decision)}
        return pa.table(blank | {"reason": pa.array(reasons, pa.string())}, schema=schema(Decision))

    moved = [words[0] + words[1], "", *words[2:]]
    same = moved == words
    fills = schema(Fill).empty_table()
    assert (
        metrics.fingerprint(decisions(words), fills) == metrics.fingerprint(decisions(moved), fills)
    ) == same


def test_nan_has_one_form():
    signalling = np.frombuffer(np.uint64(0xFFF8_0000_0000_0001).tobytes(), "f8")
    blank = {f.name: pa.nulls(1, f.type) for f in schema(Decision)}
    tables = [
        pa.table(blank | {"p_up": pa.array(a, pa.float64())}, schema=schema(Decision))
        for a in (np.array([np.nan]), signalling)
    ]
    prints = {metrics.fingerprint(table, schema(Fill).empty_table()) for table in tables}
    assert len(prints) == 1


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(BeaufortError, match=r"no manifest\.json"):
        read_run(tmp_path)
    fake_run(tmp_path, bars=50)
    manifest = (tmp_path / "manifest.json").read_text()
    assert '"format": 4' in manifest
    (tmp_path / "manifest.json").write_text(manifest.replace('"format": 4, ', ""))
    with pytest.raises(BeaufortError, match=r"run format 1, .*costs are negative"):
        read_run(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest)
    pq.write_table(pa.table({"ts": [1]}), tmp_path / "equity.parquet")
    with pytest.raises(BeaufortError, match="no column 'instrument'"):
        read_run(tmp_path)
