"""The walls of the house: what a room loads, and that every list of rooms is the one list."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core import ROOMS

ROOT = Path(__file__).parents[1]
PURE = [room for room in ROOMS if room not in ("catalogs", "actors", "engine")]
ONLY_FITS = {"torch", "onnx", "sklearn", "hmmlearn", "arch"}

_IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_loads_neither_nautilus_nor_what_only_fits_need(room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, room], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert room in loaded
    assert not loaded & {"nautilus_trader", *ONLY_FITS, "catalogs", "actors", "engine"}


def test_every_list_of_rooms_is_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert set(ROOMS) == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert project["mypy"]["packages"] == list(ROOMS)
    assert project["importlinter"]["root_packages"] == list(ROOMS)
    assert project["setuptools"]["packages"]["find"]["include"] == [f"{room}*" for room in ROOMS]
    layers = project["importlinter"]["contracts"][0]["layers"]
    assert sorted(" | ".join(layers).split(" | ")) == sorted(ROOMS)
    pure = project["importlinter"]["contracts"][1]["source_modules"]
    assert pure == PURE


def test_the_runtime_of_networks_reports_to_nobody(tmp_path: Path) -> None:
    # Where it does, it keeps what it is to send below the home folder.
    script = "import learners.onnx_window, onnxruntime; onnxruntime.get_available_providers()"
    env = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=env)
    assert not [
        path for path in tmp_path.rglob("*") if "onnxruntime" in path.name or path.name == "Microsoft"
    ]
