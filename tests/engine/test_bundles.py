"""Bundles: what was written comes back; what was tampered with or does not fit is refused in a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundles import load_bundle, load_models
from engine.config import RunConfig
from engine.errors import BeaufortError
from engine.pipeline import Market, bar_identity, model_settings, run_stages
from features.settings import parse_time


@pytest.fixture
def folder(trained: RunConfig, tmp_path: Path) -> Path:
    """A copy of the trained bundle, to be spoilt."""
    (name,) = [path.name for path in trained.train.bundles.iterdir()]
    shutil.copytree(trained.train.bundles / name, tmp_path / name)
    return tmp_path / name


def _change(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _load(config: RunConfig, root: Path, **changed: Any) -> Any:
    arguments: dict[str, Any] = {
        "schema": Market(config).kernel.schema,
        "bars": bar_identity(config),
        "settings": model_settings(config),
        "warmup": config.backtest.warmup,
    }
    return load_models(root, **(arguments | changed))


def test_a_bundle_is_plain_files_that_say_where_they_come_from(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["trained"] == {"from": "2026-01-05T00:00:00Z", "to": "2026-01-05T00:20:00Z"}
    assert manifest["valid"]["from"] == "2026-01-05T00:20:00Z"
    assert {feature["name"] for feature in manifest["features"]} == {
        "log_return_1",
        "log_return_10",
        "book_imbalance_5",
        "trade_imbalance_30",
    }
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == on_disk
    assert {Path(name).suffix for name in on_disk} == {".json"}
    assert manifest["metrics"]["bars"] == 1200 + 1
    assert "numpy" in manifest["versions"]


def test_a_changed_file_is_refused(folder: Path) -> None:
    path = folder / "forecast" / "params.json"
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(BeaufortError, match=r"forecast/params\.json: changed since the bundle was written"):
        load_bundle(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "regime" / "first" / "params.json").unlink()
    with pytest.raises(BeaufortError, match=r"first/params\.json: missing, though the manifest lists it"):
        load_bundle(folder)


def test_a_file_that_was_put_in_is_refused(folder: Path) -> None:
    (folder / "forecast" / "model.onnx").write_bytes(b"")
    with pytest.raises(BeaufortError, match=r"forecast/model\.onnx: not listed in the manifest"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "cannot be read"),
        ("[]", "bundle format None"),
        ('{"format": 1}', "trained, valid, features, .* missing"),
    ],
)
def test_a_broken_manifest_is_refused(folder: Path, content: str, told: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(BeaufortError, match=told):
        load_bundle(folder)


def test_another_format_is_refused(folder: Path) -> None:
    _change(folder, lambda manifest: manifest.update(format=99))
    with pytest.raises(BeaufortError, match="bundle format 99, this version reads 1; train again"):
        load_bundle(folder)


def test_a_bundle_that_would_know_the_future_is_refused(folder: Path) -> None:
    _change(folder, lambda manifest: manifest["valid"].update({"from": "2026-01-05T00:19:59Z"}))
    with pytest.raises(BeaufortError, match="it knows the future"):
        load_bundle(folder)


def test_a_feature_defined_otherwise_is_named(trained: RunConfig, folder: Path) -> None:
    schema = [
        feature | ({"definition": "something else"} if feature["name"] == "trade_imbalance_30" else {})
        for feature in Market(trained).kernel.schema
    ]
    with pytest.raises(
        BeaufortError, match=r"'trade_imbalance_30' is no longer what .* definition was .*, now 'something"
    ):
        _load(trained, folder.parent, schema=schema)


def test_a_feature_that_is_not_computed_is_named(trained: RunConfig, folder: Path) -> None:
    schema = [f for f in Market(trained).kernel.schema if f["name"] != "book_imbalance_5"]
    with pytest.raises(
        BeaufortError, match="reads feature 'book_imbalance_5', which this run does not compute"
    ):
        _load(trained, folder.parent, schema=schema)


def test_other_bars_and_other_settings_are_refused(trained: RunConfig, folder: Path) -> None:
    with pytest.raises(BeaufortError, match=r"trained on bars .*'1s'.*, this run has .*'5s'"):
        _load(trained, folder.parent, bars={"kind": "clock", "interval": "5s"})
    settings = model_settings(trained)
    settings["regime"]["hysteresis"]["dwell"] = 9
    settings["forecast"]["kind"] = "lstm"
    told = r"regime\.hysteresis\.dwell was 3, now 9; forecast\.kind was 'logistic', now 'lstm'; train again"
    with pytest.raises(BeaufortError, match=told):
        _load(trained, folder.parent, settings=settings)


def test_of_two_valid_bundles_the_one_trained_later_speaks(trained: RunConfig, folder: Path) -> None:
    later = folder.with_name("later")
    shutil.copytree(folder, later)
    _change(later, lambda m: m["valid"].update({"from": "2026-01-05T00:25:00Z"}))
    models = _load(trained, folder.parent)
    at = models.bundles[1].validity.valid_from
    assert [bundle.name for bundle in models.bundles] == [folder.name, "later"]
    assert (models.bundle_at(at - 1), models.bundle_at(at)) == (folder.name, "later")
    assert models.bundle_at(models.bundles[0].validity.valid_from - 1) == ""


def test_a_bundle_speaks_again_when_a_later_ones_time_is_over(trained: RunConfig, folder: Path) -> None:
    later = folder.with_name("later")
    shutil.copytree(folder, later)
    _change(
        folder, lambda m: m["valid"].update({"from": "2026-01-05T00:20:00Z", "to": "2026-01-05T00:50:00Z"})
    )
    _change(
        later, lambda m: m["valid"].update({"from": "2026-01-05T00:30:00Z", "to": "2026-01-05T00:40:00Z"})
    )
    models = _load(trained, folder.parent)
    minute = lambda n: parse_time("2026-01-05") + n * 60 * 10**9  # noqa: E731
    told = [models.bundle_at(minute(n)) for n in (19, 20, 29, 30, 39, 40, 49, 50)]
    assert told == ["", folder.name, folder.name, "later", "later", folder.name, folder.name, ""]


def test_loaded_filters_say_what_the_fitted_ones_said(trained: RunConfig) -> None:
    from engine.training import fit

    market = Market(trained)
    start, end = trained.train.start, trained.train.end
    series = market.features(market.data_start(start), end).between(start, end + 1)
    fitted, _ = fit(trained, series)
    loaded = load_bundle(next(trained.train.bundles.iterdir())).stages
    for stage in ("regime", "volatility", "forecast"):
        x = series.table.columns(fitted[stage].inputs)
        np.testing.assert_array_equal(loaded[stage].run(x), fitted[stage].run(x))


def test_no_stage_speaks_before_its_bundle_is_valid(trained: RunConfig) -> None:
    market = Market(trained)
    table = market.features(trained.train.start, trained.backtest.end).table
    said = run_stages(market.models(), table)
    before = table.ts < trained.train.end
    assert before.sum() == 1199
    for stage in (said.regime, said.volatility, said.forecast):
        assert stage is not None
        assert np.isnan(stage.values[before]).all()
        assert np.isfinite(stage.values[~before]).all()
