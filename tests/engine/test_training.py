"""Training: what is up to date is kept, walk-forward windows meet, and the engine switches at their times."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_market
from small_market import END, MINUTE, SPLIT, START

import engine.pipeline
import engine.research.training
import learners.base
import learners.linear
import regimes.rules
import strategies.forecasters.learned
import volatility.ewma
import volatility.gate
from actors.guard import RunGuard
from core.errors import BeaufortError
from core.journal import MemoryJournal
from core.records import Decision
from core.settings import parse_time
from core.table import FeatureTable
from engine.config import RunConfig
from engine.pipeline import BarSeries, Market
from engine.research.training import train, windows
from engine.sessions.assembly import assemble
from engine.sessions.backtest import play
from features import kernel
from features.names import choose

SCHEDULE = ("train.schedule={window='10m', step='4m'}",)


@pytest.fixture(scope="module")
def scheduled(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The small market with three walk-forward windows."""
    config = small_market.config(catalog, tmp_path_factory.mktemp("scheduled"), *SCHEDULE)
    train(config)
    return config


def _decisions(config: RunConfig) -> list[dict[str, Any]]:
    market = Market(config)
    outcome = play(market, market.models(), "faithful")
    assert not outcome.failures
    decisions: list[dict[str, Any]] = outcome.tables[Decision].to_pylist()
    return decisions


def test_windows_meet_end_to_end_and_never_overlap_what_they_trade(scheduled: RunConfig) -> None:
    found = windows(scheduled)
    assert [(w.start, w.end, w.valid_to) for w in found] == [
        (START, SPLIT, SPLIT + 4 * MINUTE),
        (SPLIT - 6 * MINUTE, SPLIT + 4 * MINUTE, SPLIT + 8 * MINUTE),
        (SPLIT - 2 * MINUTE, SPLIT + 8 * MINUTE, SPLIT + 12 * MINUTE),
    ]
    manifests = [json.loads(p.read_text()) for p in sorted(scheduled.train.bundles.glob("*/manifest.json"))]
    assert [m["name"][:18] for m in manifests] == [
        "2026-01-05T002000Z",
        "2026-01-05T002400Z",
        "2026-01-05T002800Z",
    ]
    assert [parse_time(m["valid"]["to"]) for m in manifests] == [w.valid_to for w in found]


def test_schedules_that_end_on_a_step_or_at_a_given_time(catalog: Path, tmp_path: Path) -> None:
    five = "train.schedule={window='10m', step='5m'}"
    found = windows(small_market.config(catalog, tmp_path, five))
    # The bar that closes at the end of the backtest belongs to the bundle trained until then.
    assert [w.end for w in found] == [SPLIT, SPLIT + 5 * MINUTE, END]
    found = windows(small_market.config(catalog, tmp_path, five, "train.valid_to=2026-01-05T00:27:00Z"))
    assert [(w.end, w.valid_to) for w in found] == [
        (SPLIT, SPLIT + 5 * MINUTE),
        (SPLIT + 5 * MINUTE, SPLIT + 7 * MINUTE),
    ]


def test_without_a_schedule_one_window_stays_valid(trained: RunConfig) -> None:
    (window,) = windows(trained)
    assert (window.start, window.end) == (START, SPLIT)
    assert window.valid_to > END


def test_the_engine_switches_bundles_at_their_times(scheduled: RunConfig) -> None:
    rows = [row for row in _decisions(scheduled) if row["strategy"] == "momentum"]
    ts = np.array([row["ts"] for row in rows])
    switches = [rows[i]["ts"] for i in range(1, len(rows)) if rows[i]["bundle"] != rows[i - 1]["bundle"]]
    assert switches == [SPLIT + 4 * MINUTE, SPLIT + 8 * MINUTE]
    assert rows[0]["bundle"].startswith("2026-01-05T002000Z-")
    # The next bundle is warm at its turn: it speaks from its first bar on.
    for at in switches:
        row = rows[int(np.flatnonzero(ts == at)[0])]
        assert row["regime"] != "none"
        assert np.isfinite([row["p_up"], row["volatility"], row["p_trend"]]).all()
    # Each bundle's forecasts are its own.
    market = Market(scheduled)
    table = market.features(market.data_start(SPLIT), END).table
    for bundle in market.models().bundles:
        causal = bundle.stages["forecast"]
        said = causal.run(table.columns(causal.inputs))[:, 0]
        own = {row["ts"]: row["p_up"] for row in rows if row["bundle"] == bundle.name}
        assert len(own) >= 120
        expected = dict(zip(table.ts.tolist(), said.tolist(), strict=True))
        assert own == {at: expected[at] for at in own}


def test_in_a_gap_between_bundles_nothing_is_traded(catalog: Path, tmp_path: Path) -> None:
    config = small_market.config(catalog, tmp_path, *SCHEDULE)
    folders = train(config)
    gap = [
        parse_time(json.loads((folders[1] / "manifest.json").read_text())["valid"][key])
        for key in ("from", "to")
    ]
    for path in sorted(folders[1].rglob("*"), reverse=True):  # the middle one is lost
        path.unlink() if path.is_file() else path.rmdir()
    folders[1].rmdir()
    rows = _decisions(config)
    inside = [row for row in rows if gap[0] <= row["ts"] < gap[1]]
    assert len(inside) == 2 * 240
    assert {(row["regime"], row["bundle"], row["risk_on"]) for row in inside} == {("none", "", False)}
    for row in inside:
        assert "no valid model" in row["reason"], row
        assert np.isnan([row["p_up"], row["volatility"], row["p_chop"]]).all()
    # A position from before is closed or worked out; nothing is added, and soon all is flat.
    sizes = {
        name: [abs(r["position"]) for r in inside if r["strategy"] == name] for name in config.strategies
    }
    for held in sizes.values():
        assert all(b <= a + 1e-9 for a, b in itertools.pairwise(held[1:]))
    assert sizes["momentum"][-1] == 0
    # It goes on when the next bundle's time comes.
    after = [row for row in rows if row["ts"] >= gap[1]]
    assert all(row["bundle"] == folders[2].name for row in after)
    assert any(row["client_order_ids"] for row in after)


def test_an_interrupted_training_goes_on_where_it_stopped(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_market.config(catalog, tmp_path, *SCHEDULE)
    honest, calls = engine.research.training.fit, []

    def breaks_off(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(*args)

    monkeypatch.setattr(engine.research.training, "fit", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    (first,) = config.train.bundles.glob("2026-01-05T002000Z-*/manifest.json")
    written = first.stat().st_mtime_ns
    said: list[str] = []
    folders = train(config, said.append)
    assert len(folders) == 3
    assert len(calls) == 2 + 2
    assert said[0].endswith("up to date")
    assert first.stat().st_mtime_ns == written
    # All is there: nothing is fitted again, until something that decides a fit changes.
    train(config)
    assert len(calls) == 4
    train(small_market.config(catalog, tmp_path, *SCHEDULE, "strategies.grid.levels=3", "venue.latency=1ms"))
    assert len(calls) == 4
    train(small_market.config(catalog, tmp_path, *SCHEDULE, "volatility.decay=0.9"))
    assert len(calls) == 7


def test_changed_code_of_a_model_or_a_feature_is_fitted_again(
    trained: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = tmp_path / "bundles"
    shutil.copytree(trained.train.bundles, bundles)
    config = trained.model_copy(update={"train": trained.train.model_copy(update={"bundles": bundles})})

    def said() -> str:
        texts: list[str] = []
        train(config, texts.append)
        return texts[0]

    assert said().endswith("up to date")
    written_in = (learners.linear, learners.base, strategies.forecasters.learned)
    for module in (regimes.rules, volatility.ewma, volatility.gate, *written_in, kernel):
        changed = tmp_path / "changed.py"
        changed.write_bytes(Path(module.__file__).read_bytes() + b"# changed")
        monkeypatch.setattr(module, "__file__", str(changed))
        assert "fitting" in said(), module
        assert said().endswith("up to date")
    monkeypatch.setitem(choose("log_return_10").feature.__dict__, "code", "another")
    with pytest.raises(BeaufortError, match=r"'log_return_1' is no longer what .*code was .*Train again"):
        Market(config).models()
    assert "fitting" in said()
    Market(config).models()


def test_training_twice_gives_the_same_files(catalog: Path, trained: RunConfig, tmp_path: Path) -> None:
    config = small_market.config(catalog, tmp_path)
    (again,) = train(config)
    (first,) = trained.train.bundles.iterdir()
    files = [json.loads((folder / "manifest.json").read_text())["files"] for folder in (first, again)]
    assert files[0] == files[1]


def test_nothing_at_or_after_the_end_is_read(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[FeatureTable] = []

    def looks(_config: RunConfig, series: BarSeries, _say: Any) -> Any:
        seen.append(series.table)
        raise StopIteration

    monkeypatch.setattr(engine.research.training, "fit", looks)
    with pytest.raises(StopIteration):
        train(small_market.config(catalog, tmp_path))
    (table,) = seen
    assert (table.ts[0], table.ts[-1]) == (
        START + 10**9,
        SPLIT,
    )  # bars by their close: the last holds what came before the end


VOLUME, DOLLAR = "bars={kind='volume', size=0.5}", "bars={kind='dollar', size=30000.0}"


@pytest.mark.parametrize("bars", ["bars.interval=1s", VOLUME])
def test_a_fit_is_the_same_on_a_catalog_that_ends_with_its_span(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: str
) -> None:
    (whole,) = train(small_market.config(catalog, tmp_path / "whole", bars))
    monkeypatch.setattr(engine.pipeline, "Market", lambda config: Market(config, until=SPLIT + 1))
    (cut,) = train(small_market.config(catalog, tmp_path / "cut", bars))
    told, expected = (json.loads((folder / "manifest.json").read_text()) for folder in (whole, cut))
    assert told["metrics"]["bars"] == expected["metrics"]["bars"] > 900
    assert told["files"] == expected["files"]


@pytest.mark.parametrize("bars", [VOLUME, DOLLAR])
def test_event_bars_are_annualised_by_how_many_the_training_span_had(
    catalog: Path, tmp_path: Path, bars: str
) -> None:
    config = small_market.config(catalog, tmp_path, bars)
    (folder,) = train(config)
    market = Market(config)
    ts = market.features(START, SPLIT).table.ts
    a_year = (len(ts) - 1) / ((ts[-1] - ts[0]) / (365 * 86_400e9))
    assert json.loads((folder / "manifest.json").read_text())["metrics"]["bars_per_year"] == a_year
    assert _bars_per_year(config) == {a_year}
    assert not 0.9 < a_year / (365 * 86_400) < 1.1


def test_clock_bars_are_annualised_by_their_interval(trained: RunConfig) -> None:
    assert _bars_per_year(trained) == {365 * 86_400}


def _bars_per_year(config: RunConfig) -> set[float]:
    """What the desks are told."""
    market = Market(config)
    spans = {"first": market.data_start(SPLIT), "trade_from": SPLIT, "end": END}
    component = assemble(market, market.models(), "replay", MemoryJournal(), RunGuard(), **spans)
    return {desk.config.bars_per_year for desk in component.trader.desks.values()}


def test_a_network_without_torch_says_how_to_install_it(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    tree = small_market.tree(catalog, tmp_path)
    config = small_market.settings_from(RunConfig, "", tree, ["forecast.kind=lstm"])
    with pytest.raises(BeaufortError, match=r"training failed: .*pip install"):
        train(config)


def test_epochs_of_networks_are_told(catalog: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    overrides = [
        "forecast.kind=lstm",
        "forecast.window=4",
        "forecast.hidden=4",
        "forecast.training={epochs=2, samples=64}",
    ]
    said: list[str] = []
    train(small_market.config(catalog, tmp_path, *overrides), said.append)
    epochs = [text.strip() for text in said if text.strip().startswith("epoch")]
    assert [text.partition(":")[0] for text in epochs] == ["epoch 0 of 2", "epoch 1 of 2", "epoch 2 of 2"]
    assert "the best so far" in epochs[0]
