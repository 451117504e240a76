"""Bundles and states of sessions, damaged or edited at random: a sentence, never a traceback or nonsense."""

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_market
from test_fits import CROSSED, HMM, LINEAR, NETWORKS

from core.causal import CausalFilter
from core.errors import BeaufortError
from engine.bundles import load_bundle
from engine.config import RunConfig
from engine.pipeline import Market
from engine.research.training import train
from engine.sessions.live_state import SessionState, fitting

NUMBERS = [-1, 0, 10**30, 0.5, -0.5, math.nan, math.inf, -math.inf, 1e308]
ODD = [*NUMBERS, None, True, "", "x", [], {}, [[1.0]], [math.nan]]


def _bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """Content with some bytes changed, cut off, left out or put in."""
    changed = bytearray(content)
    at, many = int(rng.integers(len(changed))), int(rng.integers(1, 24))
    match int(rng.integers(4)):
        case 0:
            changed[at : at + many] = rng.bytes(min(many, len(changed) - at))
        case 1:
            del changed[at:]
        case 2:
            del changed[at : at + many]
        case _:
            changed[at:at] = rng.bytes(many)
    return bytes(changed)


def _places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from _places(value, (*place, key))


def _edited(rng: np.random.Generator, content: bytes) -> bytes:
    """JSON with one value, at any depth, replaced by an odd one, negated, or left out."""
    tree = json.loads(content)
    places = list(_places(tree))
    *parents, last = places[int(rng.integers(len(places)))]
    node = tree
    for key in parents:
        node = node[key]
    kind = int(rng.integers(4))
    if kind == 0:
        del node[last]
    elif kind == 1 and isinstance(node[last], int | float):
        node[last] = -node[last]
    else:
        node[last] = copy.deepcopy(ODD[int(rng.integers(len(ODD)))])
    return json.dumps(tree).encode()


def _rehashed(folder: Path) -> None:
    """The hashes of a bundle as one that edits by hand would mend them."""
    for params in folder.rglob("params.json"):
        network = params.with_name("network.onnx")
        try:
            fields = json.loads(params.read_bytes())
            if network.exists() and isinstance(fields.get("network"), str):
                fields["network"] = hashlib.sha256(network.read_bytes()).hexdigest()
                params.write_text(json.dumps(fields))
        except (ValueError, AttributeError):
            continue
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        for name in manifest["files"]:
            manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _speaks_sense(stages: dict[str, CausalFilter], rng: np.random.Generator) -> None:
    """What a loaded bundle says of any rows is of the kind that the engine reads."""
    for name, causal in stages.items():
        told = causal.run(1e-3 * rng.normal(size=(120, len(causal.inputs))))
        outputs = list(causal.outputs)
        known = told[np.isfinite(told).all(axis=1)]
        assert not np.isinf(told).any(), name
        share = known[:, [outputs.index(n) for n in outputs if n.startswith("p_")]]
        assert ((share >= -1e-6) & (share <= 1 + 1e-6)).all(), name
        assert (known[:, [outputs.index(n) for n in outputs if "volatility" in n]] >= 0).all(), name


MODELS = {
    "rules, ewma, logistic": (),
    "hmm, egarch": (HMM, "volatility.kind=egarch"),
    "har": ("volatility={kind='har', horizon=10}",),
    "linear": LINEAR,
    "networks": NETWORKS,
    "networks, crossed": CROSSED,
}


@pytest.mark.slow
@pytest.mark.parametrize("models", MODELS)
def test_mutated_bundles(catalog: Path, tmp_path: Path, models: str) -> None:
    """Of each bundle 500: half as damage leaves them, half with their hashes mended."""
    if models.startswith("networks"):
        pytest.importorskip("torch")
    config = small_market.config(catalog, tmp_path, *MODELS[models])
    (honest,) = train(config)
    files = [p.relative_to(honest) for p in sorted(honest.rglob("*")) if p.is_file()]
    sentences: list[str] = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        folder = tmp_path / "mutant" / honest.name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(honest, folder)
        path = folder / files[int(rng.integers(len(files)))]
        content = path.read_bytes()
        structured = path.suffix == ".json" and rng.random() < 0.7
        changed = (_edited if structured else _bytes)(rng, content)
        path.write_bytes(changed)
        mended = seed % 2 == 1
        if mended:
            _rehashed(folder)
        try:
            bundle = load_bundle(folder)
        except BeaufortError as error:
            sentences.append(str(error))
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}, {path.relative_to(folder)}: {error!r}") from error
        _speaks_sense(dict(bundle.stages), rng)
        # Unmended, only the manifest, which no hash protects, may differ and be taken.
        assert mended or path.name == "manifest.json" or changed == content, f"seed {seed}: {path}"
    assert len(sentences) > 300
    assert all(text.startswith(str(tmp_path)) and "train again" in text for text in sentences)


def _state(config: RunConfig) -> SessionState:
    market = Market(config)
    stages = {}
    models = market.models()
    for name, stage in models.stages.items():
        online = stage.online(market.kernel.names)
        online.step(config.backtest.start, np.zeros(len(market.kernel.names)))
        stages[name] = online.save()
    governor = config.risk.governor().initial_state()
    return SessionState(
        {"kernel": market.kernel.initial_state(), "governor": governor, **stages},
        {"momentum": b'{"side": 0}'},
        config.backtest.start,
        "100000.00000000 USDT",
        "identity",
    )


def test_mutated_states_of_sessions(trained: RunConfig, tmp_path: Path) -> None:
    honest = _state(trained)
    path = tmp_path / "state.npz"
    honest.save(path)
    content = path.read_bytes()
    market = Market(trained)
    models = market.models()
    sentences: list[str] = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        changed = _bytes(rng, content)
        path.write_bytes(changed)
        try:
            found = SessionState.load(path)
            assert found is not None
            fitting("governor", found.parts["governor"], honest.parts["governor"])
            fitting("kernel", found.parts.get("kernel", {}), honest.parts["kernel"])
            for name, stage in models.stages.items():
                stage.online(market.kernel.names).load(found.parts.get(name, {}))
        except (BeaufortError, ValueError) as error:
            sentences.append(str(error))
    assert len(sentences) > 200
    assert all("remove" in text or text.startswith("the state of") for text in sentences)


def _spoilt(change: Callable[[dict[str, dict[str, np.ndarray]]], None], honest: SessionState) -> SessionState:
    parts = {name: dict(part) for name, part in honest.parts.items()}
    change(parts)
    return SessionState(parts, honest.policies, honest.heard, honest.balance, honest.identity)


def test_a_state_of_other_shapes_is_refused(trained: RunConfig, tmp_path: Path) -> None:
    honest = _state(trained)
    other = _spoilt(lambda parts: parts["governor"].update(extra=np.zeros(3)), honest)
    other.save(tmp_path / "state.npz")
    loaded = SessionState.load(tmp_path / "state.npz")
    assert loaded is not None
    with pytest.raises(
        BeaufortError, match=r"governor has float64 of shape \(3,\) in place of extra, nothing"
    ):
        fitting("governor", loaded.parts["governor"], honest.parts["governor"])
    names = Market(trained).kernel.names
    stage = Market(trained).models().stages["volatility"].online(names)
    with pytest.raises(ValueError, match="a filter 7 that this stage has not"):
        stage.load({"7/a": np.zeros(1)})
    with pytest.raises(ValueError, match="the state of filter 0 has arrays"):
        stage.load({"0/a": np.zeros(1)})
