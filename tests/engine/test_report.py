import dataclasses
import io
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_evaluation import fake_results
from fake_run import fake_run
from rich.console import Console

from core.records import Liquidation, schema
from engine.reports import jsonable, print_evaluation, print_summary, summary, write_evaluation, write_report
from engine.reports.columns import unpack
from engine.reports.decimate import lasts, least, means
from engine.reports.evaluation_charts import lags_figure
from engine.reports.ledger import round_trips
from engine.reports.run_folder import read_run
from engine.reports.summary import amount
from engine.reports.tables import cost_table

KEYS = (
    "run mode events wall_s decisions orders fills gross_pnl fees funding net_pnl sharpe max_drawdown "
    "win_rate profit_factor time_in_regime pnl_by_regime pnl_by_strategy fingerprint"
)
HOSTILE = "</script><img src=x onerror=alert(1)>"


def opened(path):
    """What a page's scripts get to see, and the page's text."""
    text = path.read_text()
    about, columns = unpack(re.search(r"id='packed'>(.*?)</script>", text, re.DOTALL)[1])
    return about, columns, text


def panel_of(about, figure, title):
    return next(p for p in about["figures"][figure]["panels"] if p["title"].startswith(title))


def line_of(about, figure, title, name):
    return next(s for s in panel_of(about, figure, title)["series"] if s["name"] == name)


def is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (int, float, str, bool)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fake-2026"
    fake_run(folder, bars=3_000)
    return folder


def test_summary_is_the_promised_object(run_folder):
    figures = summary(run_folder)
    assert list(figures)[: len(KEYS.split())] == KEYS.split()
    assert figures == json.loads((run_folder / "summary.json").read_text())
    assert is_plain(figures)
    assert figures["net_pnl"] == pytest.approx(figures["gross_pnl"] + figures["fees"] + figures["funding"])
    for part in ("pnl_by_regime", "pnl_by_strategy"):
        assert sum(figures[part].values()) == pytest.approx(figures["net_pnl"])
    assert sum(figures["time_in_regime"].values()) == pytest.approx(1)
    equity = pq.read_table(run_folder / "equity.parquet")["equity"].to_numpy()
    assert figures["net_pnl"] == pytest.approx(equity[-1] - 100_000)
    assert figures["max_drawdown"] == pytest.approx(
        np.max(1 - equity / np.maximum.accumulate(equity)), rel=1e-2
    )
    assert figures["unexplained"] == pytest.approx(0, abs=1e-8)


def test_costs_are_negative_in_every_form(tmp_path):
    fake_run(tmp_path, bars=1_500)
    figures = summary(tmp_path)
    fills = pq.read_table(tmp_path / "fills.parquet").to_pandas()
    assert figures["fees"] == pytest.approx(fills["fee"].sum())
    assert figures["slippage"] == pytest.approx(
        (fills["side"] * fills["qty"] * (fills["mid"] - fills["price"])).sum()
    )
    assert figures["fees"] < 0
    assert figures["slippage"] < 0
    told = io.StringIO()
    print_summary(figures, Console(file=told, width=120))
    page = write_report(tmp_path).read_text()
    fees = f"{figures['fees']:+,.2f}"
    assert re.search(rf"fees .* {fees} USDT", told.getvalue())
    assert f"fees {fees} ·" in page
    steps = page[page.index("From gross to net") : page.index("Cumulative net PnL")]
    for name in ("fees", "slippage", "funding"):
        value = figures[name]
        assert re.search(rf">{name}</td>.*?>{re.escape(amount(value))}</td>", steps), name


def test_steps_from_gross_to_net_by_hand():
    figures = {
        "turnover": 2.0,
        "starting_equity": 10.0,
        "currency": "BTC",
        "gross_pnl": -2.0,
        "slippage": -1.0,
    }
    text = cost_table(figures | {"fees": -3.0, "funding": 1.0, "net_pnl": -4.0})
    # Between -5 and 0: each step hangs on where the one before it ended.
    bars = re.findall(r"margin-left:([\d.]+)%;width:([\d.]+)%", text)
    expected = [(80, 20), (60, 20), (60, 40), (0, 60), (0, 20), (20, 80)]
    assert [(float(left), float(width)) for left, width in bars] == expected
    bps = [float(value) for value in re.findall(r"<td class='dim'>([^<]+)<", text)]
    assert bps == [-500, -500, -1000, -1500, 500, -2000]


def test_sharpe_equals_pandas_resampling(run_folder):
    table = pq.read_table(run_folder / "equity.parquet").to_pandas()
    equity = table.set_index(pd.to_datetime(table["ts"]))["equity"]
    # Hours closed on the right: a bar stamped 01:00 is the last of the first hour.
    hourly = equity.resample("1h", closed="right", label="right").last()
    hourly = hourly[hourly.index <= equity.index[-1]]
    returns = pd.concat([pd.Series([100_000.0]), hourly]).pct_change().dropna()
    expected = returns.mean() / returns.std() * np.sqrt(365 * 24)
    assert summary(run_folder)["sharpe"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("inverse", "moved"),
    [(False, 42.0), (True, 0.0015), (True, 0.000003)],  # 1.5 millionths of two bitcoin
)
def test_unexplained_is_what_the_books_do_not_account_for(tmp_path, inverse, moved):
    fake_run(tmp_path, bars=300, inverse=inverse)
    table = pq.read_table(tmp_path / "equity.parquet").to_pandas()
    table["equity"] += moved
    table.to_parquet(tmp_path / "equity.parquet")
    figures = summary(tmp_path)
    assert figures["unexplained"] == pytest.approx(moved)
    said = f"recorded equity moved by {'+42.00 USDT' if not inverse else f'{moved:+.4g} BTC'} more"
    told = io.StringIO()
    print_summary(figures, Console(file=told, width=250))
    for text in (told.getvalue(), write_report(tmp_path).read_text()):
        assert "books differ" in text.lower()
        assert said[1:] in text
        assert "a position from before the run, or an error" in text


def test_slippage_has_one_sign_on_the_page(tmp_path):
    fake_run(tmp_path, bars=1_500)
    figures, text = summary(tmp_path), write_report(tmp_path).read_text()
    said = f"{figures['slippage_bps']:+.2f}"
    assert f">{said} bps<" in text  # the tile
    assert re.search(rf">slippage</td>.*?<td class='dim'>\{said}<", text)
    by_strategy = {"momentum": -1, "grid": 1}  # takes, and makes for the most part
    for name, sign in by_strategy.items():
        row = re.search(rf"</span>{name}</td>(.*?)</tr>", text[text.index("median hold") :])[1]
        assert np.sign(float(re.findall(r">([^<>]+)</td>", row)[-2])) == sign


def test_fills_count_for_the_gate_they_were_decided_under(run_folder):
    text = write_report(run_folder).read_text()
    row = re.search(r"</span>risk-on</td>(.*?)</tr>", text)[1]
    _, fills, _ = re.findall(r"<td[^>]*>([^<]*)</td>", row)
    recorded = pq.read_table(run_folder / "fills.parquet")["risk_on"].to_numpy()
    assert 0 < recorded.sum() < len(recorded)
    assert int(fills.replace(",", "")) == recorded.sum()


def test_time_without_a_model_is_not_risk_off(tmp_path):
    fake_run(tmp_path, bars=1_000)
    for name, key in (("decisions", "volatility"), ("equity", "risk_on")):
        table = pq.read_table(tmp_path / f"{name}.parquet").to_pandas()
        first = table["ts"].isin(np.sort(table["ts"].unique())[:250])
        table.loc[first, key] = np.nan if key == "volatility" else False
        table.to_parquet(tmp_path / f"{name}.parquet")
    risk_on = pq.read_table(tmp_path / "equity.parquet")["risk_on"].to_numpy()
    about, columns, text = opened(write_report(tmp_path))
    rows = dict(re.findall(r"</span>(risk-on|risk-off|no model)</td>.*?<td class='dim'>([^<]+)<", text))
    assert rows["no model"] == "25.0%"
    assert rows["risk-on"] == f"{risk_on.mean():.1%}"
    strip = panel_of(about, "run", "Gate")["strip"]
    assert strip["names"] == ["risk-on", "risk-off", "no model"]
    assert np.flatnonzero(columns[strip["codes"]] == 2).tolist() == list(range(250))
    assert np.array_equal(columns[strip["codes"]] == 0, risk_on)


def test_books_that_agree_are_not_remarked_on(run_folder):
    told = io.StringIO()
    print_summary(summary(run_folder), Console(file=told, width=250))
    assert "books differ" not in told.getvalue()


def test_terminal_table_shows_net_before_gross(run_folder):
    console = Console(width=100, record=True, file=io.StringIO())
    print_summary(summary(run_folder), console)
    text = console.export_text()
    assert text.index("net PnL") < text.index("gross PnL") < text.index("Sharpe")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal_table_fits_eighty_columns_in_any_encoding(tmp_path, encoding):
    folder = tmp_path / "a-run-with-quite-a-long-name-20261125T132505Z"
    fake_run(folder, bars=1_500, names=("momentum", "a-strategy-with-a-long-name-of-its-own"), complete=False)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding)
    print_summary(summary(folder), Console(file=file, width=80))
    file.flush()
    lines = raw.getvalue().decode(encoding).splitlines()
    assert lines[0] == f"{folder.name} (replay)"
    assert lines[1].startswith("incomplete: ")
    table = lines[2:]
    assert len({len(line) for line in table}) == 1
    assert len(table[0]) <= 80
    assert sum("a-strategy-with-a-long-name-of-its-own, net" in line for line in table) == 1
    counts = "orders -> fills" if encoding == "ascii" else "orders → fills"
    assert sum(counts in line for line in table) == 1


def test_report_stands_alone(run_folder):
    about, _, text = opened(write_report(run_folder))
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", text)
    assert "@import" not in text
    assert "default-src 'none'" in text
    for name in (*about["figures"], *about["tables"]):
        assert f"id='{name}'" in text
    titles = [panel["title"] for panel in about["figures"]["run"]["panels"]]
    for title in ("Equity", "Regime", "Gate", "Drawdown", "Position", "Price", "Filtered", "Forecast"):
        assert any(found.startswith(title) for found in titles), title
    assert len(text) < 1_000_000
    assert not list(run_folder.glob("*.partial"))


def test_charts_hold_every_recorded_value(run_folder):
    about, columns, _ = opened(write_report(run_folder))
    equity = pq.read_table(run_folder / "equity.parquet").to_pandas()
    net = line_of(about, "run", "Equity", "net")["y"]
    assert columns["bars.ts"].tolist() == (equity["ts"] // 10**6).tolist()
    np.testing.assert_allclose(columns[net], equity["equity"], rtol=1e-7)
    assert columns[line_of(about, "run", "Price", "price")["y"]].tolist() == equity["price"].tolist()
    np.testing.assert_allclose(columns["bars.position"], equity["position"], atol=1e-6)
    assert about["derived"]["bars.long"] == ["positive", "bars.position"]
    strip = panel_of(about, "run", "Regime")["strip"]
    assert [strip["names"][int(code)] for code in columns[strip["codes"]]] == equity["regime"].tolist()
    # Gross is net less what was paid.
    assert about["derived"]["bars.gross"] == ["difference", net, "bars.paid"]
    fills = pq.read_table(run_folder / "fills.parquet").to_pandas()
    funding = pq.read_table(run_folder / "funding.parquet").to_pandas()
    assert columns["bars.paid"][-1] == pytest.approx(fills["fee"].sum() + funding["amount"].sum(), rel=1e-6)
    marks = panel_of(about, "run", "Price")["marks"]
    by_order = fills.groupby("client_order_id").agg({"ts": "first", "qty": "sum", "side": "first"})
    by_order = by_order.sort_values("ts", kind="stable")
    assert columns[marks["x"]].tolist() == (by_order["ts"] // 10**6).tolist()
    np.testing.assert_allclose(np.sort(columns[marks["qty"]]), np.sort(by_order["qty"]), rtol=1e-6)
    earned = summary(run_folder)["net_pnl"]
    for by in ("strategy", "regime"):
        (panel,) = about["figures"][f"by-{by}"]["panels"]
        assert sum(columns[s["y"]][-1] for s in panel["series"]) == pytest.approx(earned, rel=1e-5)


def test_names_cannot_inject_script(tmp_path):
    folder = tmp_path / "run-<img src=x>"
    fake_run(folder, bars=800, names=(HOSTILE, "grid"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {
        "name": HOSTILE,
        "instrument": HOSTILE,
        "currency": HOSTILE,
        "bars": HOSTILE,
        "bundles": {HOSTILE: HOSTILE},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "config.toml").write_text(f'name = "{HOSTILE}"')
    table = pq.read_table(folder / "decisions.parquet").to_pandas()
    table["reason"] = HOSTILE
    orders = pq.read_table(folder / "orders.parquet").to_pandas()
    orders["reason"], orders["status"] = HOSTILE, "rejected"
    orders.to_parquet(folder / "orders.parquet")
    table.to_parquet(folder / "decisions.parquet")
    assert "<img" not in write_report(folder).read_text()
    results = fake_results(bars=500) | {"name": HOSTILE, "notes": [HOSTILE], "trained": HOSTILE}
    results["volatility"]["scores"][0]["model"] = HOSTILE
    results["volatility"]["series"]["forecasts"][HOSTILE] = results["volatility"]["series"]["realized"]
    results["regimes"]["moments"][HOSTILE] = {HOSTILE: 1.0}
    assert "<img" not in write_evaluation(results, tmp_path / "evaluation.html").read_text()


def test_an_interrupted_run_is_readable_and_says_so(tmp_path):
    fake_run(tmp_path, bars=300, complete=False)
    for name in ("fills", "orders", "funding"):
        (tmp_path / f"{name}.parquet").unlink(missing_ok=True)
    figures = summary(tmp_path)
    assert figures["complete"] is False
    assert figures["net_pnl"] == 0
    assert figures["win_rate"] is None
    assert figures["sharpe"] is None
    text = write_report(tmp_path).read_text()
    assert "Incomplete run" in text
    assert "No fills" in text


def test_a_liquidation_is_said_in_every_form(tmp_path):
    fake_run(tmp_path, bars=300)
    assert summary(tmp_path)["liquidated"] is None
    path = tmp_path / "decisions.parquet"
    table = pq.read_table(path)
    permits = ["active"] * 500 + ["liquidated"] * (len(table) - 500)
    pq.write_table(table.set_column(table.schema.get_field_index("permit"), "permit", [permits]), path)
    figures = summary(tmp_path)
    assert figures["liquidated"] == table["ts"][500].as_py()
    told = io.StringIO()
    print_summary(figures, Console(file=told, width=120))
    row = next(line for line in told.getvalue().splitlines() if "liquidated" in line)
    assert "2026-01-05T04:11:00Z: equity met maintenance margin" in row
    assert "<b>Liquidated.</b> 2026-01-05T04:11:00Z: equity met" in write_report(tmp_path).read_text()
    event = {
        "ts": figures["liquidated"] - 10**9,
        "instrument": "BTCUSDT-PERP.SIM",
        "position": -3.0,
        "price": 98.5,
        "level": 98.0,
        "mark": 99.0,
    }
    event |= {"charge": -1.5, "equity": 12.25}
    pq.write_table(pa.Table.from_pylist([event], schema(Liquidation)), tmp_path / "liquidations.parquet")
    figures = summary(tmp_path)
    assert figures["liquidation"] == event
    told = io.StringIO()
    print_summary(figures, Console(file=told, width=120))
    about, _, page = opened(write_report(tmp_path))
    for text in (told.getvalue(), page):
        assert "margin at 98; -3 contracts were taken over at 98.5, +12.25 USDT was left" in text.replace(
            "\n", " "
        )
    (drawn,) = about["figures"]["run"]["events"]
    assert drawn["from"] == drawn["to"] == event["ts"] // 10**6


def test_a_run_stopped_before_its_first_bar_still_reports(tmp_path):
    fake_run(tmp_path, bars=60, complete=False)
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    assert summary(tmp_path)["bars"] == 0
    assert "It recorded no bar" in write_report(tmp_path).read_text()
    print_summary(summary(tmp_path), Console(quiet=True))


def test_means_pass_over_unknown_values():
    at, mean = means(np.array([[1.0], [3.0], [np.nan], [5.0], [np.nan]]), points=3)
    assert at.tolist() == [0, 2, 4]
    np.testing.assert_allclose(mean[:, 0], [2.0, 5.0, np.nan])


def test_the_least_of_each_stretch_is_found():
    values = np.array([5.0, 3.0, np.nan, 9.0, 7.0, 8.0, 1.0])
    assert least(values, points=3).tolist() == [1, 4, 6]
    assert least(values, points=7).tolist() == list(range(7))
    assert least(np.empty(0)).tolist() == []


def test_the_last_of_each_stretch_is_kept():
    assert lasts(5, points=5).tolist() == [0, 1, 2, 3, 4]
    assert lasts(7, points=3).tolist() == [2, 5, 6]
    assert lasts(6, points=2).tolist() == [2, 5]
    assert lasts(0).tolist() == []


def test_evaluation_page_has_every_section(tmp_path):
    results = fake_results()
    about, columns, text = opened(write_evaluation(results, tmp_path / "evaluation.html"))
    for name in about["figures"]:
        assert f"id='{name}'" in text
    for score in results["volatility"]["scores"]:
        assert f"{score['qlike']:.4f}" in text
    assert text.count("class='best'") == 2
    assert "0.969" in text  # 0.912 of 0.941
    (panel,) = about["figures"]["volatility-calibration"]["panels"]
    calibration = line_of(about, "volatility-calibration", "", "EGARCH")["y"]
    first = next(x for x, y in zip(panel["x"], calibration, strict=True) if y is not None)
    known = np.isfinite(results["volatility"]["series"]["forecasts"]["EGARCH"])
    least = np.sort(results["volatility"]["series"]["forecasts"]["EGARCH"][known])[: known.sum() // 20]
    assert first == pytest.approx(100 * np.sqrt(np.mean(least**2)), rel=1e-3)
    truth = panel_of(about, "regime-timeline", "Truth")["strip"]["codes"]
    assert columns[truth].tolist() == results["regimes"]["timeline"]["truth"].tolist()
    label = panel_of(about, "regime-timeline", "Label")["strip"]["codes"]
    assert (
        np.where(columns[label] == 3, -1, columns[label]).tolist()
        == results["regimes"]["timeline"]["label"].tolist()
    )
    realized = about["derived"][line_of(about, "volatility-series", "", "realized")["y"]]
    np.testing.assert_allclose(
        np.exp(columns[realized[1]]), 100 * results["volatility"]["series"]["realized"], rtol=1e-6
    )


def test_evaluation_as_text_and_as_json(tmp_path):
    results = fake_results(bars=600)
    console = Console(width=120, record=True, file=io.StringIO())
    print_evaluation(results, console)
    text = console.export_text()
    assert "0.9120" in text
    assert f"{results['volatility']['scores'][4]['qlike']:.4f}" in text
    market, ratios = (
        results["regimes"]["seeds"][0],
        [s["accuracy"] / s["reference"] for s in results["regimes"]["seeds"]],
    )
    row = next(line for line in text.splitlines() if str(market["seed"]) in line.split())
    assert f"{market['accuracy']:.4f}" in row
    assert f"{ratios[0]:.4f}" in row
    assert f"the least ratio {min(ratios):.3f}" in text
    plain = json.loads(json.dumps(jsonable(results), allow_nan=False))
    assert plain["regimes"]["confusion"] == results["regimes"]["confusion"].tolist()
    assert "series" not in plain["volatility"]
    assert jsonable({"a": (np.float64("nan"), np.int64(3))}) == {"a": [None, 3]}


def test_switches_never_seen_count_in_the_median_and_are_said(tmp_path):
    results = fake_results(bars=300)
    results["regimes"] |= {"lags": [1.0, 2.0, 7.0, np.inf, np.inf], "reference_lags": [1.0, 4.0, np.inf]}
    console = Console(width=120, record=True, file=io.StringIO())
    print_evaluation(results, console)
    about, _, page = opened(write_evaluation(results, tmp_path / "a.html"))
    for text in (console.export_text(), page):
        assert "7 bars" in text
        assert "2 of 5 never seen" in text
        assert "4 bars" in text
        assert "1 of 3 never seen" in text
    assert sum(line_of(about, "regime-lags", "", "switches")["y"]) == 3
    assert jsonable(results)["regimes"]["lags"] == [1.0, 2.0, 7.0, None, None]
    results["regimes"]["lags"] = [np.inf, np.inf]
    about, _, page = opened(write_evaluation(results, tmp_path / "b.html"))
    assert ">never<" in page
    assert "regime-lags" not in about["figures"]


@pytest.mark.parametrize(("longest", "width"), [(0, 1), (7, 1), (39, 1), (40, 2), (99, 3)])
def test_bars_of_lags_lie_about_whole_numbers(longest, width):
    (panel,) = lags_figure(np.arange(longest + 1.0).repeat(3))["panels"]
    counts = panel["series"][0]["y"]
    assert np.array(panel["x"]) == pytest.approx((width - 1) / 2 + width * np.arange(len(panel["x"])))
    assert set(counts[:-1]) <= {3 * width}
    assert sum(counts) == 3 * (longest + 1)


def test_switches_a_day_are_said_in_plain_words(tmp_path):
    for switches, often, held in (
        (9.6, "9.60; one every 2.5 h", "holds for 2.5 h on average"),
        (0.0, "0.00", "never changed"),
    ):
        results = fake_results(bars=300)
        results["regimes"]["switches_per_day"] = switches
        console = Console(width=80, record=True, file=io.StringIO())
        print_evaluation(results, console)
        assert re.search(rf"switches a day +│ +{often}", console.export_text())
        assert held in write_evaluation(results, tmp_path / "a.html").read_text()


def test_tiles_without_a_figure_are_left_out(tmp_path):
    fake_run(tmp_path, bars=600)  # ten hours: no ratio of returns
    text = write_report(tmp_path).read_text()
    tiles = text[text.index("class='tiles'") : text.index("<h2>The run")]
    assert "Sharpe" not in tiles
    assert "n/a" not in tiles
    assert "Net return" in tiles
    fake_run(tmp_path, bars=1_500)
    assert ">Sharpe<" in write_report(tmp_path).read_text().replace("</i>", ">")


def test_long_and_short_and_the_list_of_trips_equal_the_recorded_positions(run_folder):
    trips = pd.DataFrame([dataclasses.asdict(t) for t in round_trips(read_run(run_folder))])
    about, _, text = opened(write_report(run_folder))
    table = text[text.index("Long and short") : text.index("What round trips earned")]
    for name, column in (
        ("net", "net_pnl"),
        ("gross", "gross_pnl"),
        ("fees", "fees"),
        ("funding", "funding"),
    ):
        row = re.search(rf"<td class=''>{name}</td>(.*?)</tr>", table)[1]
        found = re.findall(r">([+-][^<]+)</td>", row)
        assert found == [amount(trips[trips["side"] == side][column].sum()) for side in (1, -1)]
    rows = about["tables"]["trips-list"]["rows"]
    assert len(rows) == len(trips)
    assert [row[5] for row in rows] == [amount(net) for net in trips["net_pnl"]]
    assert about["tables"]["trips-list"]["from"] == (trips["opened"] // 10**6).tolist()
    assert about["tables"]["trips-list"]["to"] == (trips["closed"] // 10**6).tolist()


def test_a_decision_is_shown_at_its_moment(run_folder):
    about, _, _ = opened(write_report(run_folder))
    decisions = pq.read_table(run_folder / "decisions.parquet").to_pandas()
    acted = decisions[decisions["action"] != "none"]
    listed = about["tables"]["decisions"]
    assert listed["from"] == listed["to"] == (acted["ts"] // 10**6).tolist()
    assert [row[10] for row in listed["rows"]] == acted["reason"].tolist()
    assert listed["labels"][0] == f"{acted['strategy'].iloc[0]}: {acted['action'].iloc[0]}"
    assert listed["pad"] == 60 * 60_000 + 1  # sixty bars on either side


def test_months_by_hand(tmp_path):
    day = 86_400 * 10**9
    fake_run(tmp_path, bars=90, bar_ns=day)
    table = pq.read_table(tmp_path / "equity.parquet").to_pandas()
    # The first bar closes 6 January; midnight of 1 February, 1 March and 1 April close their months.
    table["equity"] = np.repeat([110_000.0, 99_000.0, 99_000.0, 198_000.0], [27, 28, 31, 4])
    table.to_parquet(tmp_path / "equity.parquet")
    text = write_report(tmp_path).read_text()
    row = re.search(r"<td class=''>2026</td>(.*?)</tr>", text)[1]
    assert re.findall(r">([+-][^<]+)<", row) == ["+10.0%", "-10.0%", "+0.0%", "+100.0%", "+98.0%"]


def test_evaluation_sections_are_optional(tmp_path):
    head = {key: fake_results(bars=300)[key] for key in ("name", "instrument", "bars", "trained", "judged")}
    assert "Nothing was evaluated" in write_evaluation(head, tmp_path / "a.html").read_text()
    bare = {"switches_per_day": 3.0, "moments": {"trend": {"volatility_bps": 3.0}}}
    about, _, text = opened(write_evaluation(head | {"regimes": bare}, tmp_path / "b.html"))
    assert about["figures"] == {}
    assert "Moments by regime" in text
    assert "Label against truth" not in text
