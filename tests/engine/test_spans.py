"""Spans against the recording: far beyond it they are refused before any work, a little is warned of."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import small_market

import engine.cli
import engine.pipeline
import engine.research.audit
from core.errors import BeaufortError
from engine.config import RunConfig
from engine.research.audit import audit_config
from engine.research.evaluation import evaluate
from engine.research.training import train
from engine.sessions.backtest import run_backtest

DATA = r"2026-01-05T00:00:0\S+ \.\. 2026-01-05T00:\S+"
"""The span of the small market, as errors name it."""


def _features(config: RunConfig) -> None:
    from engine.config import to_toml

    path = config.backtest.runs / "x.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(config))
    arguments = engine.cli._parser().parse_args(
        ["features", str(path), "--out", str(path.with_suffix(".pq"))]
    )
    arguments.run(arguments)


@pytest.mark.parametrize(
    ("work", "key"),
    [
        (train, "train"),
        (evaluate, "train"),
        (lambda config: run_backtest(config, "replay"), "backtest"),
        (evaluate, "backtest"),
        (lambda config: audit_config(config, 1), "backtest"),
        (_features, "backtest"),
    ],
)
@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        (
            "1970-01-01",
            None,
            r"start = 1970-01-01T00:00:00Z is 20458d before the data: .*{data}; write {key}.start",
        ),
        ("2026-01-03", None, r"start = 2026-01-03T00:00:00Z is 2d before the data: .* in {data}"),
        (
            None,
            "2261-12-31",
            r"end = 2261-12-31T00:00:00Z is 86\d+d after the data: .*{data}; write {key}.end",
        ),
        (
            "2025-01-05",
            "2025-01-06",
            r"2025-01-06T00:00:00Z: nothing recorded of BTCUSDT-PERP.SIM .* in {data}",
        ),
        ("2027-01-05", "2027-01-06", r"nothing recorded of BTCUSDT-PERP.SIM in it; .* has it in {data}"),
    ],
)
def test_a_span_far_beyond_the_data_is_refused_before_the_work(
    catalog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[RunConfig], object],
    key: str,
    start: str | None,
    end: str | None,
    told: str,
) -> None:
    def works(*_args: object, **_kwargs: object) -> None:
        pytest.fail("the work was begun")

    monkeypatch.setattr(engine.pipeline.Market, "pieces", works)
    monkeypatch.setattr(engine.pipeline.Market, "models", works)
    sets = [f"{key}.start={start}"] * (start is not None) + [f"{key}.end={end}"] * (end is not None)
    config = small_market.config(catalog, tmp_path, *sets)
    with pytest.raises(BeaufortError, match=f"(?s){told.format(data=DATA, key=key)}"):
        work(config)
    assert not list(tmp_path.rglob("*.pq"))


def test_a_training_span_a_little_beyond_the_data_is_a_warning_kept_in_the_bundle(
    catalog: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    config = small_market.config(catalog, tmp_path, "train.start=2026-01-04T23:50:00Z")
    (folder,) = train(config, said.append)
    kept = json.loads((folder / "manifest.json").read_text())["warnings"]
    told = [line for line in kept if "the training span is 2026-01-04T23:50:00Z .. " in line]
    assert len(told) == 2  # deltas and trades
    assert f"  warning: {told[0]}" in said
    (within,) = train(small_market.config(catalog, tmp_path))
    kept = json.loads((within / "manifest.json").read_text())["warnings"]
    assert not [line for line in kept if "training span is" in line]


def test_a_warmup_far_longer_than_the_recording_begins_little_before_it(trained: RunConfig) -> None:
    long = trained.backtest.model_copy(update={"warmup": 366 * 86_400 * 10**9})
    market = engine.pipeline.Market(trained.model_copy(update={"backtest": long}))
    first = small_market.START - 86_400 * 10**9
    assert first <= market.data_start(trained.backtest.start) <= first + 10**9


def test_a_schedule_of_more_fits_than_anyone_waits_for_is_refused(catalog: Path, tmp_path: Path) -> None:
    schedule = "train.schedule={window='10m', step='%s'}"
    assert small_market.config(catalog, tmp_path, schedule % "1s").train.schedule is not None
    with pytest.raises(
        BeaufortError, match=r"train.schedule: a step of 1us .* makes 600,000,001 fits, at most"
    ):
        small_market.config(catalog, tmp_path, schedule % "1us")
    with pytest.raises(BeaufortError, match=r"train: valid_to .* is not after end"):
        small_market.config(catalog, tmp_path, "train.valid_to=2026-01-05")
