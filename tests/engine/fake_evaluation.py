"""Seeded results of an evaluation, all sections filled."""

import numpy as np

START = 1_767_571_200 * 10**9


def fake_results(seed=11, bars=6_000):
    rng = np.random.default_rng(seed)
    ts = START + 60 * 10**9 * np.arange(bars)
    truth = np.concatenate([np.full(rng.integers(20, 400), i) for i in rng.integers(0, 3, bars)])[:bars]
    late = np.concatenate((np.full(6, -1), truth[:-6]))
    label = np.where(rng.random(bars) < 0.03, rng.integers(0, 3, bars), late)
    price = 90_000 * np.exp(np.cumsum(np.array([4e-4, 2e-4, 1e-3])[truth] * rng.standard_normal(bars)))
    volatility = np.array([4e-4, 2e-4, 1e-3])[truth] * np.sqrt(60) * np.exp(0.2 * rng.standard_normal(bars))
    realized = volatility * np.sqrt(rng.chisquare(20, bars) / 20)
    noise = {"EGARCH": 0.18, "GARCH": 0.25, "EWMA": 0.35, "HAR": 0.2, "TCN": 0.15}
    forecasts = {m: volatility * np.exp(s * rng.standard_normal(bars)) for m, s in noise.items()}
    forecasts["EGARCH"][:200] = np.nan
    scores = []
    for model, forecast in forecasts.items():
        ratio = (realized / forecast)[np.isfinite(forecast)] ** 2
        qlike = float(np.mean(ratio - np.log(ratio) - 1))
        log_error = float(np.sqrt(np.mean(np.log(ratio) ** 2)))
        scores.append(
            {"model": model, "qlike": qlike, "log_error": log_error, "bias": -float(np.log(ratio).mean())}
        )
    said = np.linspace(0.08, 0.55, 10)
    bins = [
        {
            "forecast": float(p),
            "observed": float(p + 0.02 * rng.standard_normal()),
            "count": int(4_000 * np.exp(-8 * p)),
        }
        for p in said
    ]
    deciles = [
        {"confidence": 0.3 + 0.03 * i, "hit_rate": 0.48 + 0.012 * i, "net_bps": -2.2 + 0.4 * i, "count": 600}
        for i in range(10)
    ]
    names = ("share", "mean_bps", "volatility_bps", "autocorrelation", "dwell_bars")
    moments = {
        "trend": dict(zip(names, (0.41, 0.62, 3.9, 0.11, 180.0), strict=True)),
        "chop": dict(zip(names, (0.47, 0.01, 2.1, -0.07, 220.0), strict=True)),
        "stress": dict(zip(names, (0.12, -0.9, 10.4, 0.02, 45.0), strict=True)),
    }
    said_label = label >= 0
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (truth[said_label], label[said_label]), 1)
    seeds = [
        {"seed": i, "accuracy": 0.90 + 0.01 * rng.random(), "reference": 0.93 + 0.01 * rng.random()}
        for i in range(10)
    ]
    return {
        "name": "synth-<b>hour</b>",
        "instrument": "BTCUSDT-PERP.SIM",
        "bars": "1m clock bars",
        "trained": "2026-01-01 → 2026-01-04",
        "judged": "2026-01-05 → 2026-01-09",
        "notes": ["The market is synthetic: its truth is known, and its traders are ours."],
        "regimes": {
            "switches_per_day": 9.4,
            "moments": moments,
            "accuracy": 0.912,
            "reference": 0.941,
            "lags": np.append(np.floor(rng.gamma(2.0, 4.0, 60)), [np.inf] * 3),
            "reference_lags": np.append(np.floor(rng.gamma(2.0, 3.0, 62)), [np.inf]),
            "confusion": confusion,
            "seeds": seeds,
            "timeline": {"ts": ts, "price": price, "label": label, "truth": truth},
        },
        "volatility": {
            "horizon": "1h",
            "observations": bars,
            "scores": scores,
            "series": {"ts": ts, "realized": realized, "forecasts": forecasts},
        },
        "forecaster": {
            "observations": 6_000,
            "horizon": "10m",
            "threshold_bps": 8.0,
            "cost_bps": -7.0,
            "auc": {"up": 0.561, "down": 0.548},
            "brier": {"up": 0.1721, "down": 0.1698},
            "brier_base": {"up": 0.1755, "down": 0.1719},
            "ece": {"up": 0.011, "down": 0.027},
            "reliability": {"up": bins, "down": bins[::-1][2:][::-1]},
            "deciles": deciles,
        },
    }
