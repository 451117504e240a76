"""Trained bundles: folders of plain files that say what they were trained on and refuse to be misread.

A bundle holds ``manifest.json`` and one folder a stage (``regime``, ``volatility``, ``forecast``) with parameters as JSON
and networks as ONNX. Loading checks every file's hash and that each feature the stages read is defined as it was.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import BeaufortError
from engine.stages import Stage, Validity
from features.causal import CausalFilter, load_filter
from features.settings import format_time, parse_time

FORMAT = 1
STAGES = ("regime", "volatility", "forecast")
_VERSIONED = ("numpy", "numba", "hmmlearn", "arch", "onnxruntime", "torch", "nautilus_trader")


@dataclasses.dataclass(frozen=True)
class Bundle:
    """One loaded bundle."""

    name: str
    manifest: Mapping[str, Any]
    stages: Mapping[str, CausalFilter]

    @property
    def validity(self) -> Validity:
        valid = self.manifest["valid"]
        return Validity(self.name, parse_time(valid["from"]), parse_time(valid["to"]))


@dataclasses.dataclass(frozen=True)
class Models:
    """All bundles of a run, as stages. ``forecast`` is None where no forecaster was trained."""

    bundles: tuple[Bundle, ...]
    regime: Stage
    volatility: Stage
    forecast: Stage | None

    def bundle_at(self, ts: int) -> str:
        """The name of the bundle that may speak at ``ts``, or ``""``."""
        return next((b.name for b in self.bundles if b.validity.valid_from <= ts < b.validity.valid_to), "")


def write_bundle(
    folder: Path,
    stages: Mapping[str, CausalFilter],
    *,
    schema: list[dict[str, Any]],
    bars: Mapping[str, Any],
    config: Mapping[str, Any],
    trained: tuple[int, int],
    valid: tuple[int, int],
    data_fingerprint: str,
    metrics: Mapping[str, Any],
) -> None:
    """Write a bundle under a temporary name, then put it in its place (an older one of that name is replaced)."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, causal in stages.items():
        causal.save(partial / name)
    read = {column for causal in stages.values() for column in causal.inputs}
    manifest = {
        "format": FORMAT,
        "name": folder.name,
        "trained": {"from": format_time(trained[0]), "to": format_time(trained[1])},
        "valid": {"from": format_time(valid[0]), "to": format_time(valid[1])},
        "features": [feature for feature in schema if feature["name"] in read],
        "bars": dict(bars),
        "config": dict(config),
        "data_fingerprint": data_fingerprint,
        "metrics": dict(metrics),
        "versions": {name: version for name in _VERSIONED if (version := _version(name))},
        "files": {str(p.relative_to(partial)): _sha256(p) for p in sorted(partial.rglob("*")) if p.is_file()},
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify its files.

    Raises
    ------
    BeaufortError
        If the folder is no bundle, was written by another format, or a file is missing or changed.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        raise BeaufortError(f"{folder}: no bundle here (manifest.json is missing); run 'beaufort train'") from None
    if manifest.get("format") != FORMAT:
        raise BeaufortError(f"{folder}: bundle format {manifest.get('format')!r}, this version reads {FORMAT}; train again")
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise BeaufortError(f"{path}: missing, though the manifest lists it; train again")
        if _sha256(path) != digest:
            raise BeaufortError(f"{path}: changed since the bundle was written (its sha256 differs); train again")
    stages = {name: load_filter(folder / name) for name in STAGES if (folder / name).is_dir()}
    return Bundle(folder.name, manifest, stages)


def load_models(root: Path, schema: list[dict[str, Any]], bars: Mapping[str, Any], warmup: int) -> Models:
    """Every bundle under ``root`` as stages, checked against the run's feature ``schema`` and ``bars``."""
    folders = sorted(p.parent for p in root.glob("*/manifest.json") if not p.parent.name.endswith(".partial"))
    if not folders:
        raise BeaufortError(f"{root}: no bundles here; run 'beaufort train' with this config first")
    bundles = sorted((load_bundle(folder) for folder in folders), key=lambda b: b.validity.valid_from)
    for bundle in bundles:
        _check_schema(root / bundle.name, bundle.manifest, schema, bars)
    return Models(
        tuple(bundles),
        *(_stage(bundles, name, warmup) for name in ("regime", "volatility")),  # type: ignore[arg-type]
        _stage(bundles, "forecast", warmup) if all("forecast" in b.stages for b in bundles) else None,
    )


def _stage(bundles: list[Bundle], name: str, warmup: int) -> Stage:
    return Stage(tuple((b.validity, b.stages[name]) for b in bundles), warmup)


def _check_schema(
    folder: Path, manifest: Mapping[str, Any], schema: list[dict[str, Any]], bars: Mapping[str, Any]
) -> None:
    if manifest["bars"] != dict(bars):
        raise BeaufortError(f"{folder}: trained on bars {manifest['bars']}, this run has {dict(bars)}; train again")
    now = {feature["name"]: feature for feature in schema}
    for then in manifest["features"]:
        current = now.get(then["name"])
        if current is None:
            raise BeaufortError(f"{folder}: reads feature {then['name']!r}, which this run does not compute; add it to 'features'")
        changed = [key for key in then if current.get(key) != then[key]]
        if changed:
            raise BeaufortError(
                f"{folder}: feature {then['name']!r} is no longer what the bundle was trained on: "
                + "; ".join(f"{key} was {then[key]!r}, now {current.get(key)!r}" for key in changed)
                + ". Train again"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
