"""Bundles: what was written comes back; what was tampered with or does not fit is refused in a sentence."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import BeaufortError
from engine.bundles import load_bundle, load_models
from engine.config import RunConfig
from engine.identity import identity
from engine.pipeline import Market, run_stages, training_fingerprints, training_market
from engine.research.fits import fit


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
        "identity": identity(config),
        "schema": Market(config).kernel.schema,
        "warmup": config.backtest.warmup,
        "fingerprints": lambda ends: training_fingerprints(training_market(config), ends),
    }
    return load_models(root, **(arguments | changed))


def _copied(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """The bundle once more under another name, with its manifest changed."""
    shutil.copytree(folder, folder.with_name(name))
    _change(folder.with_name(name), lambda manifest: (manifest.update(name=name), change(manifest)))
    return folder.with_name(name)


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
    assert manifest["metrics"]["bars"] == 1200
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
        ('{"format": 2}', r"trained \(field required\), valid \(field required\).*; train again"),
    ],
)
def test_a_broken_manifest_is_refused(folder: Path, content: str, told: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(BeaufortError, match=told):
        load_bundle(folder)


def test_another_format_is_refused(folder: Path) -> None:
    _change(folder, lambda manifest: manifest.update(format=99))
    with pytest.raises(BeaufortError, match="bundle format 99, this version reads 2; train again"):
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


def test_what_an_other_config_was_trained_with_is_told(trained: RunConfig, folder: Path) -> None:
    asked = identity(trained)
    asked["bars"]["interval"] = "5s"
    asked["regime"]["hysteresis"]["dwell"] = 9
    asked["forecast"]["kind"] = "lstm"
    told = (
        rf"no bundle for this config; of the 1 there the nearest, {folder.name}, was trained with other "
        r"settings: bars\.interval was '1s', now '5s'; regime\.hysteresis\.dwell was 3, now 9; "
        r"forecast\.kind was 'logistic', now 'lstm'\. Run 'beaufort train' with this config and the same"
    )
    with pytest.raises(BeaufortError, match=told):
        _load(trained, folder.parent, identity=asked)


def test_a_folder_is_named_by_end_config_and_data(trained: RunConfig, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    asked = json.dumps(manifest["config"], sort_keys=True).encode()
    digits = hashlib.sha256(asked).hexdigest()[:8]
    assert folder.name == f"2026-01-05T002000Z-{digits}-{manifest['data_fingerprint'][:8]}"
    (bundle,) = _load(trained, folder.parent).bundles
    assert bundle.sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def test_a_bundle_under_the_name_of_another_is_refused(trained: RunConfig, folder: Path) -> None:
    _change(folder, lambda manifest: manifest["config"].update(seed=8))
    with pytest.raises(BeaufortError, match=r"its manifest is another bundle's; train again"):
        _load(trained, folder.parent)


def test_folders_of_other_configs_are_not_read(trained: RunConfig, folder: Path) -> None:
    other = folder.with_name(folder.name[:19] + "0" * 8 + folder.name[27:])
    shutil.copytree(folder, other)
    (other / "forecast" / "params.json").write_text("damaged")
    assert [bundle.name for bundle in _load(trained, folder.parent).bundles] == [folder.name]


def test_of_bundles_trained_on_different_data_that_of_the_catalog_speaks(
    trained: RunConfig, folder: Path
) -> None:
    other = _copied(folder, folder.name[:-8] + "0" * 8, lambda m: m.update(data_fingerprint="0" * 64))
    assert [bundle.name for bundle in _load(trained, folder.parent).bundles] == [folder.name]
    told = f"{other.name}, {folder.name} are of this config and trained on different data, none of it what"
    with pytest.raises(BeaufortError, match=told):
        _load(trained, folder.parent, fingerprints=lambda ends: ["1" * 64 for _ in ends])


def test_two_that_are_valid_at_once_are_refused(trained: RunConfig, folder: Path) -> None:
    def later(manifest: dict[str, Any]) -> None:
        manifest["trained"]["to"] = manifest["valid"]["from"] = "2026-01-05T00:25:00Z"

    other = _copied(folder, folder.name.replace("002000", "002500"), later)
    with pytest.raises(BeaufortError, match=f"{folder.name} and {other.name} are both valid at .*00:25:00Z"):
        _load(trained, folder.parent)


def test_loaded_filters_say_what_the_fitted_ones_said(trained: RunConfig) -> None:
    market = training_market(trained)
    series = market.features(trained.train.start, trained.train.end)
    fitted = fit(trained, series).stages
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
    assert list(said) == ["regime", "volatility", "forecast"]
    for stage in said.values():
        assert np.isnan(stage.values[before]).all()
        assert np.isfinite(stage.values[~before]).all()
