"""The look-ahead audit passes what is honest, and finds and names leaks planted at every stage."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

import engine.research.audit
import engine.sessions.backtest
from core import records
from core.causal import State
from core.records import schema
from engine.bundles import Models
from engine.config import RunConfig
from engine.pipeline import BarSeries, Market
from engine.research.audit import AuditResult, Said, audit, audit_config, print_audit
from engine.stages import Stage
from strategies.policy import Decision, MarketView

RNG = np.random.default_rng(3)
TS = np.arange(1, 401) * 10
X = RNG.normal(size=400).cumsum()

# -- the comparison itself, on made-up columns -----------------------------------------------------------


def _compute(end: int, *, leak: str) -> dict[str, Said]:
    n = int(np.searchsorted(TS, end, side="right"))
    x = X[:n]
    columns = {"features/mean_so_far": np.cumsum(x) / np.arange(1, n + 1)}
    columns["features/x"] = np.where(x > 2, np.nan, x)
    if leak == "standardized":
        columns["features/standardized"] = (x - x.mean()) / x.std()  # a scaler fitted on everything
    if leak == "centred":
        columns["features/centred"] = np.convolve(x, np.ones(5) / 5, mode="same")  # a centred window
    if leak == "silent":
        columns["features/silent"] = np.where(x < x.max(), x, np.nan)  # NaN only where the future says so
    return {name: Said(TS[:n], values) for name, values in columns.items()}


def test_clean_computation_passes() -> None:
    result = audit(lambda end: _compute(end, leak=""), 0, 4000, cuts=5, seed=1)
    assert result.clean
    # Two columns, each compared at every bar before each cut.
    assert result.values_compared == 2 * sum(int(np.sum(cut > TS)) for cut in result.cuts)


@pytest.mark.parametrize("leak", ["standardized", "silent"])
def test_a_column_that_saw_the_future_is_named(leak: str) -> None:
    result = audit(lambda end: _compute(end, leak=leak), 0, 4000, cuts=3, seed=1)
    assert {found.column for found in result.leaks} == {f"features/{leak}"}


def test_a_centred_window_is_named_with_its_first_bar() -> None:
    result = audit(lambda end: _compute(end, leak="centred"), 0, 4000, cuts=3, seed=1)
    assert {leak.column for leak in result.leaks} == {"features/centred"}
    # Only the two bars at the edge of the cut can differ.
    for leak in result.leaks:
        last = TS[np.searchsorted(TS, leak.cut) - 1]
        assert last - 10 <= leak.ts <= last


def test_a_row_that_only_the_future_brings_is_a_leak() -> None:
    def late(end: int) -> dict[str, Said]:
        ts = TS[: np.searchsorted(TS, end, side="right")]
        ts = ts if end == 4000 else ts[ts != 700]
        return {"decisions/s/action": Said(ts, np.array(["none"] * len(ts), object))}

    result = audit(late, 0, 4000, cuts=1, seed=1)
    assert [(leak.column, leak.ts) for leak in result.leaks] == [("decisions/s/action", 700)]


def test_a_decision_is_known_a_grace_after_its_bar_closed() -> None:
    rows = [
        records.Decision(**(dict.fromkeys(schema(records.Decision).names, i) | {"ts": ts, "strategy": name}))
        for i, (ts, name) in enumerate([(10, "a"), (10, "b"), (20, "a"), (30, "a")])
    ]
    said = engine.research.audit._decisions(rows, grace=3)
    assert said["decisions/a/size"].ts.tolist() == [13, 23, 33]
    assert said["decisions/a/size"].values.tolist() == [0, 2, 3]
    assert said["decisions/b/ts"].ts.tolist() == [13]
    assert said["decisions/b/ts"].values.tolist() == [10]


# -- the engine ------------------------------------------------------------------------------------------


def _leaking_stages(result: AuditResult) -> list[str]:
    return list(dict.fromkeys(leak.stage for leak in result.leaks))


def test_the_engine_does_not_look_ahead(trained: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    result = audit_config(trained, 2, said.append)
    assert result.leaks == ()
    assert len(said) == 3  # all of it, then each cut
    stages = ("features", "quotes", "regime", "volatility", "forecast", "decisions")
    assert {name.partition("/")[0] for name in result.columns} == set(stages)
    print_audit(result)
    out = capsys.readouterr().out
    assert "Nothing looks ahead" in out
    for unseen in ("fitted", "publication times", "governor"):  # what the audit cannot find it says
        assert unseen in out.partition("Not audited, but believed:")[2]
        assert unseen in " ".join(result.to_dict()["believes"])


def test_a_feature_standardised_with_the_whole_span(
    trained: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = Market.features

    def peeks(self: Market, *args: Any) -> BarSeries:
        series = honest(self, *args)
        values = series.table.values.copy()
        at = series.table.names.index("trade_imbalance_30")
        values[:, at] = (values[:, at] - np.nanmean(values[:, at])) / np.nanstd(values[:, at])
        return BarSeries(dataclasses.replace(series.table, values=values), series.quotes)

    monkeypatch.setattr(Market, "features", peeks)
    result = audit_config(trained, 1)
    assert result.leaks[0].column == "features/trade_imbalance_30"
    features = {leak.column for leak in result.leaks if leak.stage == "features"}
    assert features == {"features/trade_imbalance_30"}
    # The forecaster reads it, the others do not.
    assert _leaking_stages(result) == ["features", "forecast"]
    print_audit(result)
    out = capsys.readouterr().out
    assert "trade_imbalance_30" in out
    assert "begin with features" in out


@dataclasses.dataclass(frozen=True)
class Smoothed:
    """A filter whose batch run goes over its rows once more, backwards; a bar at a time it is honest."""

    honest: Any

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.honest.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.honest.outputs

    def initial_state(self) -> State:
        return self.honest.initial_state()

    def step(self, state: State, x: np.ndarray) -> np.ndarray:
        return self.honest.step(state, x)

    def run(self, xs: np.ndarray, state: State | None = None) -> np.ndarray:
        out = self.honest.run(xs, state)
        for i in range(len(out) - 2, -1, -1):
            out[i] = 0.1 * out[i] + 0.9 * out[i + 1]
        return out


@pytest.mark.parametrize("stage", ["regime", "volatility", "forecast"])
def test_a_stage_that_smooths(trained: RunConfig, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    honest = Market.models

    def smoothing(self: Market) -> Models:
        models = honest(self)
        own: Stage = models.stages[stage]
        filters = tuple((validity, Smoothed(causal)) for validity, causal in own.filters)
        stages = {**models.stages, stage: dataclasses.replace(own, filters=filters)}
        return dataclasses.replace(models, stages=stages)

    monkeypatch.setattr(Market, "models", smoothing)
    result = audit_config(trained, 1)
    assert _leaking_stages(result) == [stage]


def test_a_policy_that_reads_the_recorded_future(trained: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = engine.sessions.backtest.assemble

    def assemble(market: Market, *args: Any, **kwargs: Any) -> Any:
        conductor = honest(market, *args, **kwargs)
        trades = market.catalog.trades("BTCUSDT-PERP.SIM")

        class Prophet:
            def __init__(self, policy: Any) -> None:
                self._policy = policy

            def __getattr__(self, name: str) -> Any:
                return getattr(self._policy, name)

            def decide(self, view: MarketView) -> Decision:
                at = min(np.searchsorted(trades["ts_init"], view.ts + 60 * 10**9), len(trades) - 1)
                if trades["price"][at] > view.price:
                    return self._policy.decide(view)
                return Decision("none", "a minute later it is cheaper")

        momentum = conductor.trader.desks["momentum"]
        momentum.policy = Prophet(momentum.policy)
        return conductor

    monkeypatch.setattr(engine.sessions.backtest, "assemble", assemble)
    result = audit_config(trained, 2)
    assert _leaking_stages(result) == ["decisions"]
    # Its reasons change with the future; the grid, which takes over from it, may be touched as well.
    assert "decisions/momentum/reason" in {leak.column for leak in result.leaks}
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert not told["clean"]
    assert told["leaks"][0]["stage"] == "decisions"
