"""Trained bundles: folders of plain files that say what they were trained on and refuse to be misread.

A bundle holds ``manifest.json`` and one folder a stage (``regime``, ``volatility``, ``forecast``) with
parameters as JSON and networks as ONNX. Its folder is named by what it is, ``<end of training>-<eight hex
digits of the config's identity>-<eight of the data's>``, so no variant of a config overwrites another's.
Loading checks every file's hash and that each feature the stages read is defined as it was.
"""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import Field

from core.causal import CausalFilter, load_filter
from core.errors import BeaufortError
from core.messages import STAGES
from core.settings import Settings, Time, format_time, parse_time
from engine.identity import Window, short_hash
from engine.stages import Stage, Validity

FORMAT = 2
_VERSIONED = ("numpy", "numba", "hmmlearn", "scikit-learn", "arch", "onnxruntime", "torch", "nautilus_trader")
_SHOWN = 4  # differences of settings that a refusal lists

Fingerprints = Callable[[Sequence[int]], list[str]]
"""The data's fingerprint at each end (ns, ascending) of a training window, as the catalog is now."""


class _Span(Settings):
    start: Annotated[Time, Field(alias="from")]
    end: Annotated[Time, Field(alias="to")]


class _Metrics(Settings):
    bars: int = Field(ge=0)
    bars_ready: int = Field(ge=0)
    bars_per_year: float = Field(ge=0)


class _Manifest(Settings):
    """What ``manifest.json`` must hold to be read."""

    format: int
    name: str
    trained: _Span
    valid: _Span
    features: list[dict[str, Any]]
    config: dict[str, Any]
    code: dict[str, str]
    data_fingerprint: str
    metrics: _Metrics
    warnings: list[str]
    versions: dict[str, str]
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """One loaded bundle; ``sha256`` is that of its manifest, which holds those of all other files."""

    name: str
    sha256: str
    manifest: Mapping[str, Any]
    stages: Mapping[str, CausalFilter]
    validity: Validity


@dataclasses.dataclass(frozen=True)
class Models:
    """All bundles of a run, as stages: those that were trained, by name."""

    bundles: tuple[Bundle, ...]
    stages: Mapping[str, Stage]

    def bundle_at(self, ts: int) -> str:
        """The name of the bundle that may speak at ``ts``, or ``""``."""
        return next((b.name for b in self.bundles if b.validity.valid_from <= ts < b.validity.valid_to), "")

    def warnings(self, start: int, end: int) -> list[str]:
        """What is amiss with the fits of the bundles that may speak between two moments, as sentences."""
        return [
            f"bundle {bundle.name}: {sentence}"
            for bundle in self.bundles
            if bundle.validity.valid_from < end and start < bundle.validity.valid_to
            for sentence in bundle.manifest["warnings"]
        ]


def bundle_name(end: int, identity: Mapping[str, Any], data_fingerprint: str) -> str:
    """The folder of the bundle trained until ``end`` (ns) with this identity on this data."""
    stamp = format_time(end).replace(":", "").replace("+0000", "Z")
    return f"{stamp}-{short_hash(identity)}-{data_fingerprint[:8]}"


def write_bundle(
    folder: Path,
    stages: Mapping[str, CausalFilter],
    *,
    window: Window,
    schema: list[dict[str, Any]],
    config: Mapping[str, Any],
    code: Mapping[str, str],
    data_fingerprint: str,
    metrics: Mapping[str, Any],
    warnings: Sequence[str],
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
        "trained": {"from": format_time(window.start), "to": format_time(window.end)},
        "valid": {"from": format_time(window.end), "to": format_time(window.valid_to)},
        "features": [feature for feature in schema if feature["name"] in read],
        "config": dict(config),
        "code": dict(code),
        "data_fingerprint": data_fingerprint,
        "metrics": dict(metrics),
        "warnings": list(warnings),
        "versions": {name: version for name in _VERSIONED if (version := _version(name))},
        "files": {name: _sha256(partial / name) for name in _files(partial)},
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify its files.

    Raises
    ------
    BeaufortError
        If the folder is no bundle, was written by another format, a file is missing or changed, or its
        parameters are none.
    """
    manifest, digest = _read_manifest(folder)
    files, on_disk = manifest["files"], _files(folder)
    for name in sorted(files.keys() - set(on_disk)):
        raise BeaufortError(f"{folder / name}: missing, though the manifest lists it; train again")
    for name in sorted(set(on_disk) - files.keys()):
        raise BeaufortError(f"{folder / name}: not listed in the manifest; remove it, or train again")
    for name in on_disk:
        if _sha256(folder / name) != files[name]:
            raise BeaufortError(
                f"{folder / name}: changed since the bundle was written (its sha256 differs); train again"
            )
    known = {stage.name: stage for stage in STAGES}
    stages = {}
    for name in dict.fromkeys(path.partition("/")[0] for path in on_disk):
        if name not in known:
            raise BeaufortError(f"{folder / name}: no stage of a bundle; remove it, or train again")
        try:
            stages[name] = load_filter(folder / name)
        except Exception as error:  # whatever a damaged file does to what reads it
            raise BeaufortError(
                f"{folder / name}: its parameters cannot be read ({error or type(error).__name__}); "
                "train again"
            ) from error
    wanted = _stages(manifest["config"])
    unfit = [name for name in wanted if name not in stages]
    if unfit:
        raise BeaufortError(f"{folder}: has no {' and no '.join(unfit)}; train again")
    listed = [feature.get("name") for feature in manifest["features"]]
    for name, causal in stages.items():
        unknown = [column for column in causal.inputs if column not in listed]
        if tuple(causal.outputs) != known[name].outputs or name not in wanted or unknown:
            why = f"reads {unknown[0]!r}, which the manifest does not list" if unknown else "is none"
            raise BeaufortError(f"{folder / name}: what should be the bundle's {name} {why}; train again")
        _refuse_nonsense(folder / name, name, causal)
    valid = manifest["valid"]
    return Bundle(
        folder.name,
        digest,
        manifest,
        {name: stages[name] for name in wanted},
        Validity(folder.name, parse_time(valid["from"]), parse_time(valid["to"])),
    )


def _refuse_nonsense(folder: Path, stage: str, causal: CausalFilter) -> None:
    """Raise where a stage, asked of bars on which nothing happens, says what none can mean."""
    rows = getattr(getattr(causal, "first", causal), "window", 300) + 2
    told = causal.run(np.zeros((rows, len(causal.inputs))))
    names = causal.outputs
    probabilities = told[:, [i for i, name in enumerate(names) if name.startswith("p_")]]
    scales = told[:, [i for i, name in enumerate(names) if "volatility" in name]]
    sums = probabilities.sum(axis=1) if probabilities.size else np.zeros(0)
    likely = np.nan_to_num(np.concatenate((probabilities.ravel(), sums)))
    if np.isinf(told).any() or (likely < -1e-6).any() or (likely > 1 + 1e-6).any() or (scales < 0).any():
        last = dict(zip(names, told[-1].tolist(), strict=True))
        raise BeaufortError(f"{folder}: what it says of a market at rest, {last}, is no {stage}; train again")


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """A bundle's manifest, checked, and its sha256."""
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
    except FileNotFoundError:
        raise BeaufortError(f"{folder}: no bundle here (no manifest.json); run 'beaufort train'") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BeaufortError(f"{path}: cannot be read ({error}); train again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BeaufortError(f"{folder}: bundle format {found!r}, this version reads {FORMAT}; train again")
    try:
        _Manifest.model_validate(manifest)
    except pydantic.ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))} ({e['msg'].lower()})" for e in error.errors()[:_SHOWN]]
        raise BeaufortError(f"{path}: {', '.join(wrong)}; train again") from None
    trained, spoken, until = (
        manifest[span][key] for span, key in (("trained", "to"), ("valid", "from"), ("valid", "to"))
    )
    if parse_time(spoken) < parse_time(trained):
        raise BeaufortError(
            f"{folder}: valid from {spoken}, trained on data until {trained}: it knows the future; "
            "train again"
        )
    if parse_time(until) <= parse_time(spoken):
        raise BeaufortError(f"{folder}: valid from {spoken} to {until}: it may never speak; train again")
    return manifest, hashlib.sha256(content).hexdigest()


def load_models(
    root: Path,
    identity: Mapping[str, Any],
    schema: list[dict[str, Any]],
    warmup: int,
    fingerprints: Fingerprints,
) -> Models:
    """The bundles under ``root`` of this identity, as stages; folders of others are not read.

    Of two trained until one moment on different data, that one is taken whose data is the catalog's now, by
    ``fingerprints``. All are checked against the run's feature ``schema``.
    """
    folders = sorted(p.parent for p in root.glob(f"*-{short_hash(identity)}-*/manifest.json"))
    folders = [folder for folder in folders if folder.suffix != ".partial"]
    if not folders:
        raise BeaufortError(f"{root}: {_none_for(root, identity)}")
    bundles = _of_this_data(root, [load_bundle(folder) for folder in folders], fingerprints)
    for bundle in bundles:
        if bundle.manifest["config"] != identity or bundle.manifest["name"] != bundle.name:
            raise BeaufortError(f"{root / bundle.name}: its manifest is another bundle's; train again")
        _check_schema(root / bundle.name, bundle.manifest, schema)
    bundles = sorted(bundles, key=lambda b: b.validity.valid_from)
    for earlier, later in itertools.pairwise(b.validity for b in bundles):
        if earlier.valid_to > later.valid_from:
            raise BeaufortError(
                f"{root}: {earlier.bundle} and {later.bundle} are both valid at "
                f"{format_time(later.valid_from)}; train again, or remove one"
            )
    return Models(
        tuple(bundles),
        {name: _stage(bundles, name, warmup) for name in _stages(identity)},
    )


def _of_this_data(root: Path, bundles: list[Bundle], fingerprints: Fingerprints) -> list[Bundle]:
    """One bundle an end of training."""
    by_end: dict[int, list[Bundle]] = {}
    for bundle in bundles:
        by_end.setdefault(parse_time(bundle.manifest["trained"]["to"]), []).append(bundle)
    doubtful = sorted(end for end, of in by_end.items() if len(of) > 1)
    try:
        now = dict(zip(doubtful, fingerprints(doubtful), strict=True)) if doubtful else {}
    except BeaufortError:
        now = {}  # the catalog they were trained on is not at hand
    for end in doubtful:
        same = [b for b in by_end[end] if b.manifest["data_fingerprint"] == now.get(end)]
        if not same:
            names = ", ".join(b.name for b in by_end[end])
            raise BeaufortError(
                f"{root}: {names} are of this config and trained on different data, none of it what the "
                "catalog holds now; run 'beaufort train', or remove all but one"
            )
        by_end[end] = same
    return [bundle for of in by_end.values() for bundle in of]


def _none_for(root: Path, identity: Mapping[str, Any]) -> str:
    """Why there is no bundle of this identity, by the one nearest to it."""
    others = []
    for path in sorted(root.glob("*/manifest.json")):
        try:
            then = _read_manifest(path.parent)[0]["config"]
        except BeaufortError:
            continue
        others.append((list(_differences("", then, identity)), path.parent.name))
    if not others:
        return "no bundles here; run 'beaufort train' with this config first"
    changed, name = min(others, key=lambda other: len(other[0]))
    shown = "; ".join(f"{key} was {old}, now {new}" for key, old, new in changed[:_SHOWN])
    more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return (
        f"no bundle for this config; of the {len(others)} there the nearest, {name}, was trained with other "
        f"settings: {shown}{more}. Run 'beaufort train' with this config and the same --set first"
    )


def _stages(identity: Mapping[str, Any]) -> list[str]:
    """The stages that a config asks for."""
    return [stage.name for stage in STAGES if not stage.optional or identity.get(stage.name) is not None]


def _stage(bundles: list[Bundle], name: str, warmup: int) -> Stage:
    return Stage(tuple((b.validity, b.stages[name]) for b in bundles), warmup)


def _check_schema(folder: Path, manifest: Mapping[str, Any], schema: list[dict[str, Any]]) -> None:
    now = {feature["name"]: feature for feature in schema}
    for then in manifest["features"]:
        current = now.get(str(then.get("name")))
        if current is None:
            raise BeaufortError(
                f"{folder}: reads feature {then.get('name')!r}, which this run does not compute; "
                "add it to 'features'"
            )
        changed = [key for key in then if key != "source" and current.get(key) != then[key]]
        if changed:
            raise BeaufortError(
                f"{folder}: feature {then['name']!r} is no longer what the bundle was trained on: "
                + "; ".join(f"{key} was {then[key]!r}, now {current.get(key)!r}" for key in changed)
                + ". Train again"
            )


def _differences(place: str, then: Any, now: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*then, *now]):
            yield from _differences(f"{place}.{key}" if place else key, then.get(key), now.get(key))
    elif then != now:
        yield place, "absent" if then is None else repr(then), "absent" if now is None else repr(now)


def _files(folder: Path) -> list[str]:
    """The files of a bundle beside its manifest, relative to ``folder``, sorted."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if name != "manifest.json")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
