"""What tests of imports share."""

import pytest


@pytest.fixture
def root(tmp_path):
    """The folder where a mapping's files are."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
