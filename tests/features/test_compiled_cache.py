"""Compiled loops are never older than the sources they were made from."""

import shutil
from pathlib import Path

import pytest

import features


@pytest.mark.parametrize("changed", ["statistics.py", "events.py", "book.py", "definitions/trades.py"])
def test_a_change_of_any_source_of_the_room_gets_a_cache_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    # Columns of statistics are constants in every loop: code from before a column moved reads the wrong one.
    room = tmp_path / "features"
    shutil.copytree(Path(features.__file__).parent, room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(features, "__file__", str(room / "__init__.py"))
    before = features._cache_folder()
    assert features._cache_folder() == before
    with (room / changed).open("a") as file:
        file.write("# changed\n")
    assert features._cache_folder() != before
