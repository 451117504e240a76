"""Evaluation: models judged out of sample, against the truth where the market is synthetic."""

import dataclasses
import importlib.util
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_market
from sklearn.metrics import roc_auc_score
from small_market import START
from threadpoolctl import threadpool_limits

import engine.research.evaluation
from catalogs.synthetic.writing import SynthSettings, read_truth, synthesize
from core.errors import BeaufortError
from core.messages import REGIMES
from core.settings import format_time
from core.table import FeatureTable
from engine.bundles import Models
from engine.cli import main
from engine.config import RunConfig, load_config, load_settings, settings_from, to_toml
from engine.pipeline import Market, run_stages
from engine.reports import jsonable, write_evaluation
from engine.research.evaluation import evaluate, true_path
from engine.research.training import train
from volatility.garch import GarchSettings


def test_models_are_judged_on_the_span_they_were_not_trained_on(trained: RunConfig, tmp_path: Path) -> None:
    said: list[str] = []
    results = evaluate(trained, said.append)
    assert results["judged"] == "2026-01-05T00:20:00Z .. 2026-01-05T00:30:00Z"
    assert len(results["regimes"]["timeline"]["ts"]) == 600
    # Accuracy and confusion, counted anew.
    truth = read_truth(trained.data.catalog)
    market = Market(trained)
    table = market.features(market.data_start(small_market.SPLIT), small_market.END).table
    labels = run_stages(market.models(), table)["regime"].between(
        small_market.SPLIT + 1, small_market.END + 1
    )
    second = {int(ts): int(regime) for ts, regime in zip(truth.ts, truth.column("regime"), strict=True)}
    pairs = [
        (second[int(ts)], int(said)) for ts, said in zip(labels.ts, labels.column("regime"), strict=True)
    ]
    assert len(pairs) == 600
    assert results["regimes"]["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    for a in range(len(REGIMES)):
        for b in range(len(REGIMES)):
            assert results["regimes"]["confusion"][a][b] == pairs.count((a, b))
    path = [a for a, _ in pairs]
    assert len(results["regimes"]["lags"]) == sum(a != b for a, b in itertools.pairwise(path))
    networks = {"tcn"} if importlib.util.find_spec("torch") else set()
    assert {s["model"] for s in results["volatility"]["scores"]} == {"ewma", "garch", "egarch"} | networks
    qlikes = [score["qlike"] for score in results["volatility"]["scores"]]
    assert qlikes == sorted(qlikes)
    forecaster = results["forecaster"]
    assert 0 < forecaster["auc"]["up"] < 1
    assert sum(b["count"] for b in forecaster["reliability"]["up"]) == forecaster["observations"]
    assert any("har left out" in text for text in said)  # the span is too short for it, and it says so
    json.dumps(jsonable(results), allow_nan=False)
    write_evaluation(results, tmp_path / "page.html")
    assert "</html>" in (tmp_path / "page.html").read_text()


def test_the_forecaster_is_judged_by_what_came_on_each_side(trained: RunConfig) -> None:
    results = evaluate(trained)["forecaster"]
    market = Market(trained)
    series = market.features(market.data_start(small_market.SPLIT), small_market.END)
    said = run_stages(market.models(), series.table)["forecast"]
    both = pd.DataFrame({"up": said.column("p_up"), "down": said.column("p_down")}, index=said.ts)
    log_price = pd.Series(np.log(series.price), index=said.ts)
    both["move"] = log_price.shift(-30) - log_price
    both = both[both.index > small_market.SPLIT].dropna()
    happened = {"up": both["move"] > 1e-4, "down": both["move"] < -1e-4}  # cost_bps is one
    assert happened["up"].mean() != happened["down"].mean()
    assert results["observations"] == len(both)
    for side, came in happened.items():
        assert results["auc"][side] == pytest.approx(roc_auc_score(came, both[side]))
        assert results["brier"][side] == pytest.approx(((both[side] - came) ** 2).mean())
        assert results["brier_base"][side] == pytest.approx(came.var(ddof=0))
        observed = [b["observed"] * b["count"] for b in results["reliability"][side]]
        assert sum(observed) == pytest.approx(came.sum())


def test_baselines_have_seen_the_warm_up_when_they_are_scored(trained: RunConfig) -> None:
    series = evaluate(trained)["volatility"]["series"]
    market = Market(trained)
    returns = market.features(market.data_start(small_market.SPLIT), small_market.END).table
    learned = market.features(START, small_market.SPLIT).table
    with threadpool_limits(1):
        fitted = GarchSettings(horizon=30).fit(learned, trained.seed)
    forecast = dict(zip(returns.ts.tolist(), fitted.run(returns.columns(fitted.inputs))[:, 0], strict=True))
    assert series["ts"][0] == small_market.SPLIT + 10**9
    assert series["forecasts"]["garch"].tolist() == [forecast[ts] for ts in series["ts"].tolist()]


def test_bars_without_a_decision_count_in_the_lag_and_in_nothing_else(
    trained: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = read_truth(trained.data.catalog)
    honest = engine.research.evaluation.run_stages

    def late(models: Models, table: FeatureTable) -> dict[str, FeatureTable]:
        """The truth, but undecided in the first seven bars of each regime."""
        stages = honest(models, table)
        path = true_path(truth, table.ts)
        decided = np.all([path == np.roll(path, k) for k in range(8)], axis=0)
        regime = stages["regime"]
        values = regime.values.copy()
        values[:, regime.names.index("regime")] = np.where(decided, path, np.nan)
        return stages | {"regime": dataclasses.replace(regime, values=values)}

    monkeypatch.setattr(engine.research.evaluation, "run_stages", late)
    found = evaluate(trained)["regimes"]
    assert len(found["lags"]) > 0
    assert set(found["lags"]) == {7.0}
    assert found["accuracy"] == 1.0
    assert np.sum(found["confusion"]) == 600 - 7 * len(found["lags"])


def test_the_true_path_is_that_of_the_second_before_the_close(catalog: Path) -> None:
    truth = read_truth(catalog)
    regime = truth.column("regime").astype(int)
    np.testing.assert_array_equal(true_path(truth, truth.ts), regime)
    assert true_path(truth, truth.ts[5:6] + 1).tolist() == [regime[5]]
    outside = np.array([truth.ts[0] - 1, truth.ts[-1] + 1])
    assert true_path(truth, outside).tolist() == [-1, -1]


def test_without_truth_there_is_no_accuracy(trained: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(trained.data.catalog, tmp_path / "real")
    for path in (tmp_path / "real").glob("truth.*"):
        path.unlink()
    data = trained.data.model_copy(update={"catalog": tmp_path / "real"})
    results = evaluate(trained.model_copy(update={"data": data}))
    assert "accuracy" not in results["regimes"]
    assert results["regimes"]["switches_per_day"] > 0
    with pytest.raises(BeaufortError, match="--seeds"):
        evaluate(trained.model_copy(update={"data": data}), seeds=1)


HMM = (
    "regime={kind='hmm', features=['log_return_30', 'realized_volatility_30'], "
    "direction='log_return_30', dispersion='realized_volatility_30'}"
)


def test_what_is_fitted_anew_is_fitted_where_the_models_were_trained(catalog: Path, tmp_path: Path) -> None:
    # The market that is traded begins only after the training span.
    tree = {"seed": 4, "start": format_time(small_market.SPLIT), "duration": "15m", "levels": 10, "rate": 0.5}
    synthesize(settings_from(SynthSettings, "later", tree, []), tmp_path / "later")
    overrides = [HMM, f"train.catalog={catalog}"]
    start = small_market.SPLIT + 3 * small_market.MINUTE
    config = small_market.config(tmp_path / "later", tmp_path, *overrides)
    config = config.model_copy(update={"backtest": config.backtest.model_copy(update={"start": start})})
    train(config)
    results = evaluate(config)
    assert {score["model"] for score in results["volatility"]["scores"]} >= {"ewma", "garch", "egarch"}
    assert results["trained"].endswith(f"of {catalog}")
    truth = read_truth(tmp_path / "later")
    told = results["regimes"]["timeline"]
    assert told["truth"].tolist() == true_path(truth, told["ts"]).tolist()
    assert 0.5 < results["regimes"]["reference"] <= 1
    assert len(results["regimes"]["reference_lags"]) == len(results["regimes"]["lags"])
    with pytest.raises(BeaufortError, match=r"train\.catalog"):
        evaluate(config, seeds=1)


class Silent:
    """A forecaster that is warming up for ever."""

    inputs, outputs = ("log_return_1",), ("volatility",)

    def run(self, xs: np.ndarray) -> np.ndarray:
        return np.full((len(xs), 1), np.nan)


def test_a_baseline_that_never_speaks_is_left_out(
    trained: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GarchSettings, "fit", lambda *_: Silent())
    results = evaluate(trained)
    assert "garch" not in {score["model"] for score in results["volatility"]["scores"]}
    assert any("garch left out: it is still warming up" in note for note in results["notes"])


def test_baselines_of_a_walk_forward_are_said_to_be_fitted_once(catalog: Path, tmp_path: Path) -> None:
    schedule = "train.schedule={window='20m', step='5m'}"
    config = small_market.config(catalog, tmp_path, schedule)
    train(config)
    notes = evaluate(config)["notes"]
    assert "fitted once, on the first window (2026-01-05T00:00:00Z .. 2026-01-05T00:20:00Z)" in notes[0]


@pytest.mark.slow
def test_detector_on_other_seeds(catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_market.config(catalog, tmp_path, HMM)
    train(config)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config))
    assert main(["evaluate", str(file), "--seeds", "2", "--json", "--out", str(tmp_path / "page.html")]) == 0
    captured = capsys.readouterr()
    seeds = json.loads(captured.out)["regimes"]["seeds"]
    assert [one["seed"] for one in seeds] == [1001, 1002]
    # Twenty minutes are few to learn four states from: what is learned may be wrong, what is told is not.
    assert all(0 <= one["accuracy"] <= 1 and 0.5 < one["reference"] <= 1 for one in seeds)
    assert seeds[0]["accuracy"] != seeds[1]["accuracy"]
    assert captured.err.count("true parameters") == 2
    assert "reference" in json.loads(captured.out)["regimes"]


@pytest.mark.slow
def test_the_demo_detector_knows_nearly_all_that_can_be_known_on_ten_markets(tmp_path: Path) -> None:
    configs = Path(__file__).parents[2] / "configs"
    catalog = tmp_path / "market"
    synthesize(load_settings(SynthSettings, configs / "demo-market.toml"), catalog)
    overrides = [f"data.catalog={catalog}", f"train.bundles={tmp_path / 'bundles'}"]
    config = load_config(configs / "demo.toml", overrides)
    config = config.model_copy(update={"forecast": None})
    train(config)
    seeds = evaluate(config, seeds=10)["regimes"]["seeds"]
    assert len(seeds) == 10
    # A detector whose states were named wrongly would fall far below; chance is about a third.
    assert min(seed["accuracy"] / seed["reference"] for seed in seeds) >= 0.95
