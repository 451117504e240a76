"""Compiled loops are never older than the sources they were made from."""

import shutil
from pathlib import Path

import pytest

import core


@pytest.mark.parametrize(
    "changed",
    ["features/statistics.py", "core/events.py", "features/book.py", "features/definitions/trades.py"],
)
def test_a_change_of_any_source_of_the_lowest_rooms_gets_a_cache_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    # Columns of statistics are constants in every loop: code from before a column moved reads the wrong one.
    house = Path(core.__file__).parents[1]
    for room in ("core", "features"):
        shutil.copytree(house / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(core, "__file__", str(tmp_path / "core" / "__init__.py"))
    before = core._cache_folder()
    assert core._cache_folder() == before
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    assert core._cache_folder() != before
