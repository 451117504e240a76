"""Judging the models apart from money, out of sample: regimes, volatility, forecaster."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import volatility
from catalogs.synthetic.writing import read_settings, read_truth, synthesize
from core.causal import Chain
from core.errors import BeaufortError
from core.kinds import by_kind
from core.messages import REGIMES
from core.settings import format_duration, format_time
from core.table import FeatureTable
from engine.config import RunConfig
from engine.pipeline import BarSeries, Market, run_stages
from engine.reports.results import (
    ConfidenceDecile,
    ForecasterResults,
    RegimeResults,
    ReliabilityBin,
    Results,
    SeedAccuracy,
    VolatilityResults,
    VolatilityScore,
)
from engine.research.fits import guard, on_one_thread
from regimes.hmm import HmmSettings
from regimes.scores import accuracy, detection_lags, filter_of_path, moments_by_regime, switches_per_day
from strategies.forecasters.base import forward_returns
from strategies.forecasters.scores import auc, brier, calibration_error, confidence_deciles
from volatility.scores import log_error, qlike, realized_variance

Say = Callable[[str], None]

_BASELINES = ("har", "garch", "egarch", "ewma", "tcn")
_TRUE_STATES = ("trend", "trend", "chop", "stress")  # trend up, trend down, chop, stress


@on_one_thread
def evaluate(config: RunConfig, say: Say = lambda text: None, *, seeds: int = 0) -> Results:
    """Everything that can be said of the config's models on its backtest span, which they were not trained
    on.

    Parameters
    ----------
    config : RunConfig
    say : callable
        Told of each step.
    seeds : int
        Also refit and judge the regime detector on so many synthetic markets like the config's own, with
        other seeds.
    """
    baselines = _volatility_models(config)
    read = [name for model in baselines.values() for name in model.columns]
    market = Market(config.model_copy(update={"features": (*config.features, *dict.fromkeys(read))}))
    learned = _training_market(market)
    market.require_data("backtest", config.backtest.start, config.backtest.end)
    learned.require_data("train", config.train.start, config.train.end)
    models = market.models(config)
    say("features of the training span")
    trained = _span(learned, config.train.start, config.train.end)
    say("features and models over the judged span")
    first, start, end = market.data_start(config.backtest.start), config.backtest.start, config.backtest.end
    warm = market.features(first, end)
    said = run_stages(models, warm.table)
    judged = warm.between(start + 1, end + 1)
    said = {name: table.between(start + 1, end + 1) for name, table in said.items()}
    if not len(judged.table):
        raise BeaufortError(f"no bars between {format_time(start)} and {format_time(end)}")
    elsewhere = config.train.catalog
    results: Results = {
        "name": config.name,
        "instrument": str(market.traded.id),
        "bars": config.bars.describe(),
        "trained": _training_span(config) + (f" of {elsewhere}" if elsewhere is not None else ""),
        "judged": f"{format_time(start)} .. {format_time(end)}",
    }
    say("regimes")
    results["regimes"] = _regimes(config, market, learned, trained, judged, said["regime"])
    if seeds:
        results["regimes"]["seeds"] = [_one_seed(config, seed, say) for seed in range(1, seeds + 1)]
    say("volatility")
    notes = results["notes"] = models.warnings(start, end)
    if config.train.schedule is not None:
        notes.append(
            "Walk-forward: the config's own models are refitted by train.schedule, the other volatility "
            f"models are fitted once, on the first window ({_training_span(config)})."
        )
    results["volatility"] = _volatility(
        config, baselines, trained, warm, judged, said["volatility"], notes, say
    )
    if "forecast" in said:
        say("forecaster")
        results["forecaster"] = _forecaster(config, judged, said["forecast"])
    return results


def _training_market(market: Market) -> Market:
    """Where the models were trained: on ``train.catalog``, if the config names one."""
    config, catalog = market.config, market.config.train.catalog
    if catalog is None:
        return market
    return Market(config.model_copy(update={"data": config.data.model_copy(update={"catalog": catalog})}))


def _training_span(config: RunConfig) -> str:
    return f"{format_time(config.train.start)} .. {format_time(config.train.end)}"


def _span(market: Market, start: int, end: int) -> BarSeries:
    return market.features(market.data_start(start), end).between(start + 1, end + 1)


# -- regimes -------------------------------------------------------------------------------------------------


def true_path(truth: FeatureTable, ts: np.ndarray) -> np.ndarray:
    """The true regime (index into ``REGIMES``) in the second before each bar's close, -1 outside the
    truth."""
    at = np.searchsorted(truth.ts, ts, side="right") - 1
    regime = truth.column("regime")[np.maximum(at, 0)].astype(np.int64)
    return np.where((at >= 0) & (ts <= truth.ts[-1]), regime, -1)


def _regimes(
    config: RunConfig,
    market: Market,
    learned: Market,
    trained: BarSeries,
    judged: BarSeries,
    said: FeatureTable,
) -> RegimeResults:
    ts, labels = judged.table.ts, np.nan_to_num(said.column("regime"), nan=-1.0).astype(np.int64)
    returns = np.diff(np.log(judged.price), prepend=np.nan)
    results: RegimeResults = {
        "switches_per_day": switches_per_day(labels, ts),
        "moments": moments_by_regime(labels, returns),
        "timeline": {"ts": ts, "price": judged.price, "label": labels},
    }
    truth = _truth(market)
    if truth is None:
        return results
    path = true_path(truth, ts)
    known = path >= 0
    counts = np.zeros((len(REGIMES), len(REGIMES)))
    decided = known & (labels >= 0)
    np.add.at(counts, (path[decided], labels[decided]), 1.0)
    results["accuracy"] = accuracy(labels[known], path[known])
    results["lags"] = detection_lags(labels[known], path[known])
    results["confusion"] = counts.tolist()
    results["timeline"]["truth"] = path
    told = _truth(learned)
    if isinstance(config.regime, HmmSettings) and told is not None:
        best = _reference_labels(config.regime, told, trained.table, judged.table)
        results["reference"] = accuracy(best[known], path[known])
        results["reference_lags"] = detection_lags(best[known], path[known])
    return results


def _truth(market: Market) -> FeatureTable | None:
    try:
        return read_truth(market.catalog.path)
    except FileNotFoundError:
        return None


def _reference_labels(
    settings: HmmSettings, truth: FeatureTable, trained: FeatureTable, judged: FeatureTable
) -> np.ndarray:
    """What the filter that knows the true parameters says on the judged span, with the same hysteresis.

    ``truth`` is that of the market of ``trained``. Shape (bars,), -1 where it has not decided.
    """
    at = np.clip(np.searchsorted(truth.ts, trained.ts, side="right") - 1, 0, None)
    regime, direction = truth.column("regime")[at].astype(int), truth.column("direction")[at]
    states = np.where(regime == 0, np.where(direction >= 0, 0, 1), regime + 1)
    reference = Chain(filter_of_path(settings, trained, states, _TRUE_STATES), settings.hysteresis.build())
    labels = reference.run(judged.columns(reference.inputs))[:, reference.outputs.index("regime")]
    return np.nan_to_num(labels, nan=-1.0)


def _one_seed(config: RunConfig, seed: int, say: Say) -> SeedAccuracy:
    """A market like the config's own with another seed: the detector fitted on its first part, judged on
    the rest."""
    if not isinstance(config.regime, HmmSettings):
        raise BeaufortError(
            f"--seeds judges the hmm detector; this config has regime.kind = {config.regime.kind!r}"
        )
    if config.train.catalog is not None:
        raise BeaufortError(
            "--seeds trains and judges on one synthetic market a seed; this config trains on another than it "
            f"trades, train.catalog = {str(config.train.catalog)!r}: leave --seeds or train.catalog out"
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            settings = read_settings(config.data.catalog)
        except FileNotFoundError as error:
            raise BeaufortError(f"--seeds needs a synthetic market: {error}") from None
        catalog = Path(folder) / "market"
        synthesize(settings.model_copy(update={"seed": 1_000 + seed}), catalog)
        market = Market(
            config.model_copy(
                update={"data": config.data.model_copy(update={"catalog": catalog}), "seed": seed}
            )
        )
        trained = _span(market, config.train.start, config.train.end)
        judged = _span(market, config.backtest.start, config.backtest.end)
        amiss: list[str] = []
        detector = guard(
            "regime",
            config.regime.kind,
            _training_span(config),
            lambda: config.regime.fit(trained.table, config.seed),
            amiss,
        )
        for sentence in amiss:
            say(f"  seed {1_000 + seed}: {sentence}")
        labels = detector.run(judged.table.columns(detector.inputs))[:, detector.outputs.index("regime")]
        truth = read_truth(catalog)
        path = true_path(truth, judged.table.ts)
        result: SeedAccuracy = {
            "seed": 1_000 + seed,
            "accuracy": accuracy(np.nan_to_num(labels, nan=-1.0), path),
            "reference": accuracy(_reference_labels(config.regime, truth, trained.table, judged.table), path),
        }
    ratio = result["accuracy"] / result["reference"]
    say(
        f"  seed {result['seed']}: accuracy {result['accuracy']:.3f}, "
        f"true parameters {result['reference']:.3f}, ratio {ratio:.3f}"
    )
    return result


# -- volatility ----------------------------------------------------------------------------------------------


def _volatility_models(config: RunConfig) -> dict[str, volatility.VolatilitySettings]:
    """The config's model and the others at their defaults, all on the same returns and horizon."""
    mine = config.volatility
    common: dict[str, Any] = {"returns": mine.returns, "horizon": mine.horizon, "max_rows": mine.max_rows}
    classes = by_kind(volatility.VolatilitySettings)
    others = {kind: classes[kind](**common) for kind in _BASELINES if kind != mine.kind}
    return {mine.kind: mine, **others}


def _volatility(
    config: RunConfig,
    baselines: dict[str, volatility.VolatilitySettings],
    trained: BarSeries,
    warm: BarSeries,
    judged: BarSeries,
    said: FeatureTable,
    notes: list[str],
    say: Say,
) -> VolatilityResults:
    horizon, returns = config.volatility.horizon, config.volatility.returns
    span = _training_span(config)
    realized = realized_variance(judged.table.column(returns), horizon)
    forecasts = {config.volatility.kind: said.column("volatility")}

    def note(text: str) -> None:
        notes.append(text)
        say(f"  {text}")

    def leave_out(kind: str, why: object) -> None:
        note(f"volatility model {kind} left out: {why}")

    for kind, settings in baselines.items():
        if kind in forecasts:
            continue
        say(f"  {kind}")
        amiss: list[str] = []
        try:
            causal = guard("volatility", kind, span, partial(settings.fit, trained.table, config.seed), amiss)
        except BeaufortError as error:
            leave_out(kind, error)
            continue
        for sentence in amiss:
            note(sentence)
        out = causal.run(warm.table.columns(causal.inputs))[:, causal.outputs.index("volatility")]
        forecast = out[len(warm.table) - len(judged.table) :]
        if not (np.isfinite(forecast) & (realized > 0)).any():
            leave_out(kind, "it is still warming up over the judged span; set a longer backtest.warmup")
            continue
        forecasts[kind] = forecast
    # Every model is scored on the same bars: those where all have spoken.
    known = (
        np.isfinite(realized)
        & (realized > 0)
        & np.all([np.isfinite(f) & (f > 0) for f in forecasts.values()], axis=0)
    )
    if not known.any():
        raise BeaufortError(
            "volatility: no bar of the judged span has a forecast of every model and a realized variance"
        )
    scores: list[VolatilityScore] = []
    for kind, forecast in forecasts.items():
        variance = forecast[known] ** 2
        scores.append(
            {
                "model": kind,
                "qlike": qlike(variance, realized[known]),
                "log_error": float(np.sqrt(log_error(variance, realized[known]))),
                "bias": float(np.mean(np.log(variance / realized[known]))),
            }
        )
    interval = getattr(config.bars, "interval", None)
    return {
        "horizon": format_duration(horizon * interval) if interval else f"{horizon} bars",
        "observations": int(known.sum()),
        "scores": sorted(scores, key=lambda s: s["qlike"]),
        "series": {
            "ts": judged.table.ts[known],
            "realized": np.sqrt(realized[known]),
            "forecasts": {kind: forecast[known] for kind, forecast in forecasts.items()},
        },
    }


# -- forecaster ----------------------------------------------------------------------------------------------


def _forecaster(config: RunConfig, judged: BarSeries, said: FeatureTable) -> ForecasterResults:
    settings = config.forecast
    assert settings is not None
    returns = forward_returns(judged.price, settings.horizon)
    known = np.isfinite(returns) & np.isfinite(said.values).all(axis=1)
    if not known.any():
        raise BeaufortError("forecaster: no bar of the judged span has a forecast and a price at its horizon")
    returns = returns[known]
    p = {"up": said.column("p_up")[known], "down": said.column("p_down")[known]}
    happened = {"up": returns > settings.threshold, "down": returns < -settings.threshold}
    base = {side: float(happened[side].mean()) for side in p}
    deciles: list[ConfidenceDecile] = [
        {"confidence": d.confidence, "hit_rate": d.hit_rate, "net_bps": d.net_return * 1e4, "count": d.bars}
        for d in confidence_deciles(p["up"], p["down"], returns, settings.cost_bps * 1e-4)
    ]
    interval = getattr(config.bars, "interval", None)
    return {
        "observations": int(known.sum()),
        "horizon": format_duration(settings.horizon * interval) if interval else f"{settings.horizon} bars",
        "threshold_bps": settings.threshold * 1e4,
        "cost_bps": 0.0 - settings.cost_bps,
        "auc": {side: auc(p[side], happened[side]) for side in p},
        "brier": {side: brier(p[side], happened[side]) for side in p},
        "brier_base": {side: b * (1 - b) for side, b in base.items()},
        "ece": {side: calibration_error(p[side], happened[side]) for side in p},
        "reliability": {side: _reliability(p[side], happened[side]) for side in p},
        "deciles": deciles,
    }


def _reliability(p: np.ndarray, happened: np.ndarray, bins: int = 10) -> list[ReliabilityBin]:
    groups = np.array_split(np.argsort(p, kind="stable"), bins)
    return [
        {"forecast": float(p[g].mean()), "observed": float(happened[g].mean()), "count": len(g)}
        for g in groups
        if len(g)
    ]
