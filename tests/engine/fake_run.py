"""A seeded run folder as a backtest leaves it, made without the engine: books kept trade by trade."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

REGIMES = ("trend", "chop", "stress")
START = 1_767_571_200 * 10**9  # 2026-01-05T00:00Z


def fake_run(
    folder: Path,
    *,
    seed=7,
    bars=4_000,
    bar_ns=60 * 10**9,
    inverse=False,
    complete=True,
    names=("momentum", "grid"),
):
    """Write a run folder and return the net PnL that its books came to."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ts = START + bar_ns * np.arange(1, bars + 1)
    regime, trend = _weather(rng, bars)
    sigma = np.array([4e-4, 2.5e-4, 1.1e-3])[regime] * np.exp(0.3 * _smooth(rng, bars, 300))
    price = 92_000 * np.exp(np.cumsum(sigma * rng.standard_normal(bars) + trend))
    price = np.round(price, 1)
    label = np.where(np.arange(bars) < 60, -1, np.concatenate((np.full(3, regime[0]), regime[:-3])))
    posterior = _posterior(rng, label)
    volatility = sigma * np.sqrt(60) * np.exp(0.1 * rng.standard_normal(bars))
    risk_on = volatility < np.quantile(volatility, 0.85)

    instrument = "XBTUSD-PERP.SIM" if inverse else "BTCUSDT-PERP.SIM"
    value = (lambda p: -1.0 / p) if inverse else (lambda p: p)
    unit = 1000.0 if inverse else 0.05
    cash = fees = received = 0.0
    position = [0.0, 0.0]
    rows = {name: [] for name in ("decisions", "orders", "fills", "funding")}
    equity, start_equity = np.zeros((bars, 4)), 2.0 if inverse else 100_000.0
    p_up = 1 / (1 + np.exp(-(trend / 3e-5 + rng.standard_normal(bars))))
    for k in range(bars):
        r = int(label[k])
        regime_name = REGIMES[r] if r >= 0 else "none"
        for s, name in enumerate(names):
            want, action, reason = _intent(s, r, p_up[k], price, k, position[s] / unit, risk_on[k])
            change = want * unit - position[s]
            ids = ""
            if abs(change) > 1e-12:
                ids = f"O-{k:07d}-{s}"
                side = 1 if change > 0 else -1
                maker = s == 1 and rng.random() < 0.8
                paid = round(price[k] * (1 + side * (-2e-5 if maker else 6e-5)), 1)
                status = (
                    "FILLED" if rng.random() < 0.93 else ("CANCELED" if rng.random() < 0.8 else "REJECTED")
                )
                kind = "LIMIT" if s == 1 else "MARKET"
                limit = paid if s == 1 else np.nan
                rows["orders"].append(
                    (
                        ts[k],
                        ids,
                        name,
                        instrument,
                        "BUY" if side > 0 else "SELL",
                        kind,
                        abs(change),
                        limit,
                        status,
                        "entry",
                        "",
                        0,
                    )
                )
                if status == "FILLED":
                    # Two partial fills, some milliseconds after the close they were decided at.
                    for j, part in enumerate((0.6, 0.4)):
                        qty = abs(change) * part
                        fee = -abs(qty * value(paid)) * (2e-4 if maker else 5e-4)
                        at = int(ts[k]) + 5_000_000 * (j + 1)
                        state = (maker, price[k], regime_name, bool(risk_on[k]))
                        fill = (at, ids, name, instrument, side, qty, paid, fee, *state)
                        rows["fills"].append(fill)
                        cash -= side * qty * value(paid)
                        position[s] += side * qty
                        fees += fee
            direction = p_up[k] * 0.8
            seen = (
                ts[k],
                name,
                instrument,
                regime_name,
                *posterior[k],
                volatility[k],
                bool(risk_on[k]),
            )
            said = (direction, 0.8 - direction, f"{k:016x}", "active", 1.0, action if ids else "none", reason)
            done = (abs(change), "volatility_target" if ids else "", position[s], price[k], ids, "bundle-a")
            rows["decisions"].append((*seen, *said, *done))
        position = [0.0 if abs(q) < 1e-12 else q for q in position]
        if ts[k] % (8 * 3_600 * 10**9) == 0:
            rate = 1e-4 * (1 + rng.standard_normal())
            amount = -sum(position) * abs(value(price[k])) * rate
            received += amount
            rows["funding"].append((ts[k] + 6_000_001, instrument, rate, amount))
        marked = cash + sum(position) * value(price[k])
        equity[k] = start_equity + marked + fees + received, sum(position), marked, fees
    _write(folder / "decisions.parquet", _DECISIONS, rows["decisions"])
    _write(
        folder / "orders.parquet",
        "ts client_order_id strategy instrument side type qty price status role reason held",
        rows["orders"],
    )
    _write(folder / "fills.parquet", _FILLS, rows["fills"])
    _write(folder / "funding.parquet", "ts instrument rate amount", rows["funding"])
    columns = {
        "ts": ts,
        "instrument": [instrument] * bars,
        "equity": equity[:, 0],
        "price": price,
        "position": equity[:, 1],
    }
    columns["regime"] = [REGIMES[r] if r >= 0 else "none" for r in label]
    columns["equity_low"] = equity[:, 0]
    columns |= {"risk_on": risk_on, "gross_pnl": equity[:, 2], "fees": equity[:, 3]}
    pq.write_table(pa.table(columns), folder / "equity.parquet")
    manifest = {
        "format": 4,
        "name": "fake",
        "mode": "replay",
        "started": "2026-02-01T09:30:00Z",
        "ended": "2026-02-01T09:30:12Z",
        "wall_s": 12.5,
        "events": bars * 431,
        "start": START,
        "end": int(ts[-1]),
        "instrument": instrument,
        "currency": "BTC" if inverse else "USDT",
        "starting_equity": start_equity,
        "complete": complete,
        "bars": "1m clock bars",
        "multiplier": 1.0,
        "inverse": inverse,
        "bundles": {"bundle-a": "ab" * 32},
        "data_fingerprint": "ab" * 32,
        "versions": {"nautilus_trader": "2.0.0rc7", "numpy": np.__version__},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "config.toml").write_text('name = "fake"\nseed = 7\n')
    return float(equity[-1, 0] - start_equity)


_DECISIONS = (
    "ts strategy instrument regime p_trend p_chop p_stress volatility risk_on p_up p_down features_hash "
    "permit size_factor action reason size bound position price client_order_ids bundle"
)
_FILLS = "ts client_order_id strategy instrument side qty price fee maker mid regime risk_on"


def _write(path, names, rows):
    if rows:
        columns = zip(*rows, strict=True)
        pq.write_table(pa.table(dict(zip(names.split(), map(list, columns), strict=True))), path)


def _smooth(rng, n, window):
    noise = rng.standard_normal(n + window)
    return np.convolve(noise, np.ones(window) / np.sqrt(window), mode="valid")[:n]


def _weather(rng, n):
    regime, trend, at, state = np.zeros(n, int), np.zeros(n), 0, 1
    while at < n:
        length = int(rng.gamma(4, (90, 110, 25)[state])) + 5
        regime[at : at + length] = state
        trend[at : at + length] = (rng.choice((-1, 1)) * 4e-5, 0.0, -6e-5)[state]
        at += length
        state = int(
            rng.choice(((1, 2), (0, 2), (0, 1))[state], p=((0.8, 0.2), (0.75, 0.25), (0.4, 0.6))[state])
        )
    return regime, trend


def _posterior(rng, label):
    scores = 1.5 * rng.standard_normal((len(label), 3))
    scores[np.arange(len(label)), np.maximum(label, 0)] += 4
    p = np.exp(scores)
    p /= p.sum(axis=1, keepdims=True)
    p[label < 0] = np.nan
    return p


def _intent(strategy, regime, p_up, price, k, units, risk_on):
    """Wanted position in units, and what is said about it."""
    if regime < 0:
        return units, "none", "no model is valid"
    if regime != strategy:
        return (0.0, "exit", "left its regime") if units else (0.0, "none", f"regime is {REGIMES[regime]}")
    if strategy == 0:
        if units:
            held = p_up > 0.4 if units > 0 else p_up < 0.6
            return (units, "none", "position held") if held else (0.0, "exit", "forecast turned")
        if not risk_on:
            return 0.0, "none", "gate is risk-off"
        if abs(p_up - 0.5) < 0.38:
            return 0.0, "none", "probability under threshold"
        return float(np.sign(p_up - 0.5)), "enter", "probability over threshold"
    fair = price[max(0, k - 60) : k + 1].mean()
    want = float(np.clip(-np.round((price[k] / fair - 1) / 1.5e-3), -4, 4))
    return (
        (want, "ladder", "level crossed") if abs(want - units) > 0.5 else (want, "none", "inside the ladder")
    )
