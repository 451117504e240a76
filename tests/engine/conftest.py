"""One small synthetic market, and models trained on it, for every test of the engine that needs them."""

from pathlib import Path

import pytest
import small_market

from engine.config import RunConfig
from engine.research.training import train


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic catalog; see ``small_market``. Read it, never write to it."""
    return small_market.make_market(tmp_path_factory.mktemp("small") / "market")


@pytest.fixture(scope="session")
def trained(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The config of ``small_market`` with its bundle written. Leave the bundle as it is."""
    config = small_market.config(catalog, tmp_path_factory.mktemp("trained"))
    train(config)
    return config
