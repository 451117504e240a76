"""Fits: what cannot be one is refused in a sentence before long work; what is amiss with one is kept."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_market
from threadpoolctl import threadpool_info, threadpool_limits

from core.errors import BeaufortError
from core.fitting import warn_fit
from core.kinds import by_kind, kinds_of
from core.settings import Settings
from core.table import FeatureTable
from engine.config import RunConfig, to_toml
from engine.pipeline import training_market
from engine.reports import write_report
from engine.research.fits import Fitted, fit
from engine.research.training import train
from engine.sessions.backtest import run_backtest
from regimes import RegimeSettings
from regimes.rules import RulesSettings
from strategies.forecasters import ForecastSettings
from volatility import VolatilitySettings
from volatility.ewma import EwmaSettings

KINDS = [
    (stage, model)
    for stage, family in (
        ("regime", RegimeSettings),
        ("volatility", VolatilitySettings),
        ("forecast", ForecastSettings),
    )
    for model in kinds_of(family)
]
N = 3_000


def _table(returns: np.ndarray) -> FeatureTable:
    ts = np.arange(1, len(returns) + 1) * 60 * 10**9
    columns = {
        "log_return_1": returns,
        "log_return_60": np.convolve(returns, np.ones(60))[: len(returns)],
        "realized_volatility_60": np.sqrt(np.convolve(returns**2, np.ones(60))[: len(returns)]),
        **{
            f"log_volatility_{n}": 0.5
            * np.log(np.maximum(np.convolve(returns**2, np.ones(n) / n)[: len(returns)], 1e-16))
            for n in (15, 60, 360)
        },
        "time_of_day_sin": np.sin(ts / 1e13),
        "time_of_day_cos": np.cos(ts / 1e13),
    }
    return FeatureTable(ts, tuple(columns), np.column_stack(list(columns.values())))


def _one_move() -> np.ndarray:
    returns = np.zeros(N)
    returns[1_500] = 0.01
    return returns


def _short() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1e-3, 40)


def _constant() -> np.ndarray:
    return np.zeros(N)


def _unknown() -> np.ndarray:
    return np.full(N, np.nan)


SPANS = {"one move": _one_move, "short": _short, "constant": _constant, "unknown": _unknown}
OBSERVED = {
    "hmm": {
        "features": ["log_return_60", "realized_volatility_60"],
        "direction": "log_return_60",
        "dispersion": "realized_volatility_60",
    }
}
FITTED_ALL_THE_SAME = {("rules", "one move"), ("rules", "constant")}  # nothing of theirs is learned


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize(("stage", "model"), KINDS, ids=lambda v: v.__name__ if isinstance(v, type) else v)
def test_what_cannot_be_fitted_is_seen_before_the_fit(stage: str, model: type[Settings], span: str) -> None:
    settings: Any = model.model_validate(OBSERVED.get(model.model_fields["kind"].default, {}))
    if (settings.kind, span) in FITTED_ALL_THE_SAME:
        return
    table = _table(SPANS[span]())
    price = 100 * np.exp(np.nancumsum(table.column("log_return_1")))
    arguments = (table, price) if stage == "forecast" else (table,)
    with pytest.raises(ValueError, match=r"train on|drop it|raise forecast"):
        settings.check(*arguments)


def test_a_forecaster_of_one_class_is_refused_before_anything_is_fitted(
    trained: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RulesSettings, "fit", lambda *_: pytest.fail("the regime was fitted first"))
    config = small_market.config(trained.data.catalog, tmp_path, "forecast.cost_bps=500.0")
    with pytest.raises(BeaufortError) as refused:
        train(config)
    told = str(refused.value)
    assert "forecast logistic on 2026-01-05T00:00:01Z .. 2026-01-05T00:20:00Z (1,200 bars)" in told
    assert "0 go up and 0 down" in told
    assert not list(config.train.bundles.iterdir())


@pytest.mark.parametrize(
    ("model", "stage"),
    [
        (RulesSettings, "regime rules"),
        (EwmaSettings, "volatility ewma"),
        (by_kind(ForecastSettings)["logistic"], "forecast logistic"),
    ],
)
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("float division by zero"), np.linalg.LinAlgError("singular")]
)
def test_whatever_a_library_raises_becomes_a_sentence(
    trained: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: Any,
    stage: str,
    error: Exception,
) -> None:
    def breaks(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(model, "fit", breaks)
    with pytest.raises(BeaufortError) as refused:
        train(small_market.config(trained.data.catalog, tmp_path))
    told = str(refused.value)
    assert told.startswith(f"training failed: {stage} on 2026-01-05T00:00:01Z .. ")
    assert str(error) in told


def test_what_is_amiss_is_kept_in_bundle_run_and_report(
    trained: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = EwmaSettings.fit

    def lame(*arguments: Any) -> Any:
        for _ in range(2):
            warn_fit("it limps")
        return honest(*arguments)

    monkeypatch.setattr(EwmaSettings, "fit", lame)
    config = small_market.config(trained.data.catalog, tmp_path)
    said: list[str] = []
    (folder,) = train(config, said.append)
    assert "  warning: volatility ewma: it limps" in said
    assert json.loads((folder / "manifest.json").read_text())["warnings"] == ["volatility ewma: it limps"]
    run, _ = run_backtest(config, "replay", quiet=True)
    sentence = f"bundle {folder.name}: volatility ewma: it limps"
    assert sentence in json.loads((run / "manifest.json").read_text())["warnings"]
    write_report(run)
    assert sentence[1:] in (run / "report.html").read_text()


def test_a_run_states_its_bundles_by_hash(trained: RunConfig, tmp_path: Path) -> None:
    spans = trained.backtest.model_copy(update={"runs": tmp_path})
    run, _ = run_backtest(trained.model_copy(update={"backtest": spans}), "replay", quiet=True)
    (folder,) = trained.train.bundles.iterdir()
    told = json.loads((run / "manifest.json").read_text())["bundles"]
    assert told == {folder.name: sha256((folder / "manifest.json").read_bytes()).hexdigest()}


def test_fits_work_on_one_thread_of_linear_algebra(
    trained: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    honest = EwmaSettings.fit

    def counts(*arguments: Any) -> Any:
        seen.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
        return honest(*arguments)

    monkeypatch.setattr(EwmaSettings, "fit", counts)
    market = training_market(trained)
    series = market.features(trained.train.start, trained.train.end)
    with threadpool_limits(2):
        assert isinstance(fit(trained, series), Fitted)
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {2}
    assert seen == [{1}]


HMM = (
    "regime={kind='hmm', features=['log_return_30', 'realized_volatility_30'], "
    "direction='log_return_30', dispersion='realized_volatility_30'}"
)
NETWORKS = (
    "volatility={kind='tcn', horizon=30, layers=4, training={epochs=2}}",
    "forecast={kind='lstm', features=['log_return_10', 'book_imbalance_5'], horizon=30, cost_bps=1.0, "
    "window=8, hidden=6, training={epochs=2}}",
)
CROSSED = (
    "volatility={kind='lstm', horizon=30, window=8, hidden=4, training={epochs=2}}",
    "forecast={kind='tcn', features=['log_return_10', 'book_imbalance_5'], horizon=30, cost_bps=1.0, "
    "layers=3, channels=4, training={epochs=2}}",
)
LINEAR = ("volatility={kind='linear', horizon=10}",)
MODELS = {
    "hmm, egarch, logistic": (HMM, "volatility.kind=egarch"),
    "rules, linear, logistic": LINEAR,
    "rules, lstm, tcn": CROSSED,
    "rules, har, logistic": ("volatility={kind='har', horizon=10}",),
    "rules, garch, logistic": ("volatility.kind=garch",),
    "hmm, tcn, lstm": (HMM, *NETWORKS),
}


@pytest.mark.slow
@pytest.mark.parametrize("models", MODELS)
def test_bundles_do_not_depend_on_the_number_of_threads(catalog: Path, tmp_path: Path, models: str) -> None:
    """Nor does what a run does with them: each in processes of its own, told how many threads to use."""
    written, fingerprints = [], []
    for threads in ("1", "2"):
        config = small_market.config(catalog, tmp_path / threads, *MODELS[models])
        file = tmp_path / threads / "small.toml"
        file.parent.mkdir()
        file.write_text(to_toml(config))
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads)

        def beaufort(*arguments: str, env: dict[str, str] = environment) -> str:
            command = [sys.executable, "-m", "engine.cli", *arguments]
            return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

        beaufort("train", str(file))
        bundles = config.train.bundles
        written.append({p.relative_to(bundles): p.read_bytes() for p in bundles.rglob("*") if p.is_file()})
        run = json.loads(beaufort("backtest", str(file), "--mode", "replay", "--no-report", "--json"))
        fingerprints.append(run["fingerprint"])
    assert len(written[0]) >= 6
    assert written[0] == written[1]
    assert fingerprints[0] == fingerprints[1]
