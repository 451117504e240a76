"""A user's own parts: known by the name of their package alone, trained and traded with in a fresh process,
hashed like ours, and refused in a sentence."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import small_market
import tomli_w

from catalogs.reader import Catalog

HOUSE = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parents[1] / "plugin_example"


def _python(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A fresh process whose current folder is ``folder``."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(HOUSE)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def _beaufort(folder: Path, *arguments: str | Path) -> str:
    done = _python(folder, "-m", "engine.cli", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def user(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example lies in as a user's package would, with a config that names it."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(EXAMPLE, folder / "plugin_example", ignore=shutil.ignore_patterns("__pycache__"))
    tree: dict[str, Any] = small_market.tree(catalog, folder) | {
        "plugins": ["plugin_example"],
        "features": ["rise_share_10"],
        "regime": {"kind": "rises"},
        "strategies": {
            "mine": {
                "kind": "follow",
                "regimes": ["trend", "chop"],
                "sizing": {"rules": [{"kind": "at_most", "most": 0.05}]},
            }
        },
    }
    (folder / "config.toml").write_text(tomli_w.dumps(tree))
    return folder


def test_parts_from_outside_are_trained_and_traded_with(user: Path) -> None:
    assert "fitting" in _beaufort(user, "train", "config.toml")
    prints = {}
    for mode in ("faithful", "replay"):
        told = _beaufort(user, "backtest", "config.toml", "--mode", mode, "--no-report", "--json")
        prints[mode] = json.loads(told[: told.rindex("}") + 1])["fingerprint"]
    assert prints["faithful"] == prints["replay"]
    run, *_ = sorted((user / "runs").iterdir())
    assert len(pq.read_table(run / "fills.parquet")) > 10
    decisions = pq.read_table(run / "decisions.parquet").to_pydict()
    entered = {i for i, reason in enumerate(decisions["reason"]) if reason == "follows the rises"}
    assert {(decisions["bound"][i], decisions["size"][i]) for i in entered} == {("at_most", 0.05)}
    files = sorted((user / "plugin_example").rglob("*.py"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["plugins"] == {"plugin_example": digest.hexdigest()}


def test_a_change_in_any_module_that_a_part_imports_is_fitted_again(user: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(user, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    train = ("train", "config.toml", "--set", f"train.bundles={folder}/bundles")
    _beaufort(folder, *train)
    with (folder / "plugin_example/strategy.py").open("a") as file:
        file.write("# takes no part in a fit")
    assert "up to date" in _beaufort(folder, *train)
    with (folder / "plugin_example/loops.py").open("a") as file:
        file.write("# changed")
    assert "fitting" in _beaufort(folder, *train)


_MAPPING = """
plugins = ["plugin_example"]

[[instrument]]
kind = "perpetual"
id = "BTCUSDT-PERP.TEST"
base = "BTC"
quote = "USDT"
price_increment = "0.1"
size_increment = "0.001"

[[table]]
kind = "signed_trades"
instrument = "BTCUSDT-PERP.TEST"
files = ["trades.csv"]
time = {event = "ts", unit = "ms"}
"""
_TRADES = """ts,price,size
1700000000000,100.1,0.5
1700000001000,100.2,-0.25
1700000002000,0,1
1700000003000,99.9,-2
"""


def test_a_kind_of_table_from_outside_is_imported(user: Path, tmp_path: Path) -> None:
    (tmp_path / "trades.csv").write_text(_TRADES)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(_MAPPING)
    done = _beaufort(
        user, "data", "import", mapping, "--out", tmp_path / "catalog", "--root", tmp_path, "--json"
    )
    (tally,) = json.loads(done)["tables"]
    assert (tally["read"], tally["added"]) == (4, 3)
    trades = Catalog(tmp_path / "catalog").trades("BTCUSDT-PERP.TEST")
    assert trades["price"].tolist() == [100.1, 100.2, 99.9]
    assert trades["size"].tolist() == [0.5, 0.25, 2.0]
    assert trades["side"].tolist() == [1, -1, -1]
    assert "  signed_trades  " in _beaufort(user, "kinds", mapping)


def test_they_are_listed_with_ours(user: Path) -> None:
    kinds = _beaufort(user, "kinds", "config.toml")
    assert "  rises  " in kinds
    assert "Buys where most bars rose" in kinds
    schema = json.loads(_beaufort(user, "config", "schema", "config.toml"))
    assert "rises" in schema["properties"]["regime"]["discriminator"]["mapping"]
    assert "edge" in schema["$defs"]["RisesSettings"]["properties"]
    assert "rise_share_{w}" in _beaufort(user, "features", "config.toml", "--list")


_LAWS = """
import numpy as np
from plugin_example.detector import RisesSettings
from core.table import FeatureTable
from tests.conformance import check_laws

share = np.random.default_rng(1).integers(0, 11, (400, 1)) / 10
fitted = RisesSettings().fit(FeatureTable(np.arange(400), ("rise_share_10",), share), 0)
assert set(fitted.run(share)[:, 3]) == {0.0, 1.0}
check_laws(fitted, share)
"""


def test_the_detector_keeps_the_three_laws(user: Path) -> None:
    done = _python(user, "-c", _LAWS)
    assert done.returncode == 0, done.stderr


_KIND = """
from typing import Literal
from regimes.base import RegimeSettings

class Mine(RegimeSettings):
    kind: Literal["hmm"] = "hmm"
    @property
    def columns(self):
        return ("log_return_1",)
    def fit(self, table, seed):
        pass
"""
_FEATURE = """
from features.registry import feature

@feature("log_return_{w}", unit="x", needs="price", definition="x")
def mine(h, o, t, w):
    return 0.0
"""


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "no package 'own', neither among those installed nor in the current folder, "),
        ("import nothing_of_that_name", "own.part cannot be imported: ModuleNotFoundError: No module named"),
        ("x = 1\ny = 1 / 0", "own.part cannot be imported: ZeroDivisionError: division by zero ("),
        ("def (", "own.part cannot be imported: SyntaxError: invalid syntax ("),
        ("raise SystemExit(0)", "own.part cannot be imported: SystemExit: 0 ("),
        (_KIND, "own.part.Mine: kind 'hmm' is that of regimes.hmm.HmmSettings; give it another"),
        (
            _FEATURE,
            "own.part cannot be imported: ValueError: own.part: feature 'log_return_{w}' is that",
        ),
    ],
)
def test_what_cannot_be_a_plugin_is_refused_in_a_sentence(
    user: Path, tmp_path: Path, source: str | None, told: str
) -> None:
    if source is not None:
        (tmp_path / "own").mkdir()
        (tmp_path / "own/__init__.py").touch()
        (tmp_path / "own/part.py").write_text(source)
    done = _python(
        tmp_path, "-m", "engine.cli", "config", "show", user / "config.toml", "--set", 'plugins=["own"]'
    )
    assert done.returncode == 2
    assert f": 1 problem\n  plugins: {told}" in done.stderr
    assert "Traceback" not in done.stderr
    if source is not None and "cannot be imported" in told:
        line = source.rstrip().count("\n") + 1 if source != _FEATURE else 4
        assert f"part.py, line {line}); mend it, or take it out" in done.stderr
