"""Trained bundles: folders of plain files that say what they were trained on and refuse to be misread.

A bundle holds ``manifest.json`` and one folder a stage (``regime``, ``volatility``, ``forecast``) with
parameters as JSON and networks as ONNX. Loading checks every file's hash and that each feature the stages
read is defined as it was.
"""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import BeaufortError
from engine.stages import Stage, Validity
from features.causal import CausalFilter, load_filter
from features.settings import format_time, parse_time

FORMAT = 1
STAGES = ("regime", "volatility", "forecast")
_KEYS = ("trained", "valid", "features", "bars", "config", "data_fingerprint", "metrics", "files")
_VERSIONED = ("numpy", "numba", "hmmlearn", "arch", "onnxruntime", "torch", "nautilus_trader")


@dataclasses.dataclass(frozen=True)
class Bundle:
    """One loaded bundle."""

    name: str
    manifest: Mapping[str, Any]
    stages: Mapping[str, CausalFilter]
    validity: Validity


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
    """Write a bundle under a temporary name, then put it in its place (an older one of that name is
    replaced)."""
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
        raise BeaufortError(f"{folder}: no bundle here (no manifest.json); run 'beaufort train'") from None
    except (OSError, ValueError) as error:
        raise BeaufortError(f"{folder / 'manifest.json'}: cannot be read ({error}); train again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BeaufortError(f"{folder}: bundle format {found!r}, this version reads {FORMAT}; train again")
    absent = [key for key in _KEYS if key not in manifest]
    if absent:
        raise BeaufortError(f"{folder / 'manifest.json'}: {', '.join(absent)} missing; train again")
    trained, spoken = manifest["trained"]["to"], manifest["valid"]["from"]
    if parse_time(spoken) < parse_time(trained):
        raise BeaufortError(
            f"{folder}: valid from {spoken}, trained on data until {trained}: it knows the future; "
            "train again"
        )
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise BeaufortError(f"{path}: missing, though the manifest lists it; train again")
        if _sha256(path) != digest:
            raise BeaufortError(
                f"{path}: changed since the bundle was written (its sha256 differs); train again"
            )
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    added = sorted(on_disk - {"manifest.json", *manifest["files"]})
    if added:
        raise BeaufortError(f"{folder / added[0]}: not listed in the manifest; remove it, or train again")
    try:
        stages = {name: load_filter(folder / name) for name in STAGES if (folder / name).is_dir()}
    except (ValueError, KeyError, TypeError) as error:
        raise BeaufortError(f"{folder}: its parameters cannot be read ({error}); train again") from error
    unfit = [name for name in ("regime", "volatility") if name not in stages]
    if unfit:
        raise BeaufortError(f"{folder}: has no {' and no '.join(unfit)}; train again")
    valid = manifest["valid"]
    return Bundle(
        folder.name,
        manifest,
        stages,
        Validity(folder.name, parse_time(valid["from"]), parse_time(valid["to"])),
    )


def load_models(
    root: Path,
    schema: list[dict[str, Any]],
    bars: Mapping[str, Any],
    settings: Mapping[str, Any],
    warmup: int,
) -> Models:
    """Every bundle under ``root`` as stages.

    Where two are valid at once, the one trained later speaks. They are checked against the run's feature
    ``schema``, its ``bars``, and the ``settings`` of its models: a changed setting has no effect until the
    models are trained again, and a run must not hide that.
    """
    folders = sorted(p.parent for p in root.glob("*/manifest.json") if not p.parent.name.endswith(".partial"))
    if not folders:
        raise BeaufortError(f"{root}: no bundles here; run 'beaufort train' with this config first")
    bundles = sorted((load_bundle(folder) for folder in folders), key=lambda b: b.validity.valid_from)
    for bundle in bundles:
        _check_schema(root / bundle.name, bundle.manifest, schema, bars)
        _check_settings(root / bundle.name, bundle.manifest["config"], settings)
    bundles = _in_turn(bundles)
    if settings.get("forecast") is not None:
        for bundle in bundles:
            if "forecast" not in bundle.stages:
                raise BeaufortError(
                    f"{root / bundle.name}: has no forecaster, this run names one; train again"
                )
    return Models(
        tuple(bundles),
        _stage(bundles, "regime", warmup),
        _stage(bundles, "volatility", warmup),
        _stage(bundles, "forecast", warmup) if all("forecast" in b.stages for b in bundles) else None,
    )


def _in_turn(bundles: list[Bundle]) -> list[Bundle]:
    """The bundles, which come in the order of their training, each as often as it speaks without a break."""
    moments = sorted({t for b in bundles for t in (b.validity.valid_from, b.validity.valid_to)})
    turns: list[Bundle] = []
    for start, end in itertools.pairwise(moments):
        valid = [b for b in bundles if b.validity.valid_from <= start and end <= b.validity.valid_to]
        if not valid:
            continue
        last = turns[-1] if turns else None
        if last is not None and last.name == valid[-1].name and last.validity.valid_to == start:
            start, valid = last.validity.valid_from, [turns.pop()]
        validity = dataclasses.replace(valid[-1].validity, valid_from=start, valid_to=end)
        turns.append(dataclasses.replace(valid[-1], validity=validity))
    return turns


def _stage(bundles: list[Bundle], name: str, warmup: int) -> Stage:
    return Stage(tuple((b.validity, b.stages[name]) for b in bundles), warmup)


def _check_schema(
    folder: Path, manifest: Mapping[str, Any], schema: list[dict[str, Any]], bars: Mapping[str, Any]
) -> None:
    if manifest["bars"] != dict(bars):
        raise BeaufortError(
            f"{folder}: trained on bars {manifest['bars']}, this run has {dict(bars)}; train again"
        )
    now = {feature["name"]: feature for feature in schema}
    for then in manifest["features"]:
        current = now.get(then["name"])
        if current is None:
            raise BeaufortError(
                f"{folder}: reads feature {then['name']!r}, which this run does not compute; "
                "add it to 'features'"
            )
        changed = [key for key in then if key != "source" and current.get(key) != then[key]]
        if changed:
            raise BeaufortError(
                f"{folder}: feature {then['name']!r} is no longer what the bundle was trained on: "
                + "; ".join(f"{key} was {then[key]!r}, now {current.get(key)!r}" for key in changed)
                + ". Train again"
            )


def _check_settings(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [
        f"{key} was {old}, now {new}"
        for name, value in now.items()
        for key, old, new in _differences(name, then.get(name), value)
    ]
    if changed:
        raise BeaufortError(
            f"{folder}: trained with other settings: {'; '.join(changed)}; train again, or remove that folder"
        )


def _differences(place: str, then: Any, now: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*then, *now]):
            yield from _differences(f"{place}.{key}", then.get(key), now.get(key))
    elif then != now:
        yield place, "absent" if then is None else repr(then), "absent" if now is None else repr(now)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
