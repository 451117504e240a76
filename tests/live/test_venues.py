"""The venues: nodes are built from their configs without a network; what is amiss is said plainly."""

import gc
import time
from pathlib import Path

import pytest
from loopback import LoopbackVenue, small_market
from nautilus_trader.config import DataClientConfig
from nautilus_trader.model import Money
from toy import toy_config

from catalogs.instruments import PerpetualSettings
from catalogs.writer import CatalogWriter
from core.errors import BeaufortError
from engine.cli import main
from engine.config import load_config
from engine.sessions.live import build_node, run_live
from engine.venues import DataSource, find_instruments, venue_source

CONFIGS = Path(__file__).parents[2] / "configs" / "live"
VENUES = ("binance", "bybit", "okx", "hyperliquid")


@pytest.fixture(autouse=True)
def _one_node_at_a_time():
    yield
    gc.collect()


def _config(venue, tmp_path, *changes):
    overrides = [f"backtest.runs={tmp_path / 'runs'}", f"live.state={tmp_path / 'state'}", *changes]
    return load_config(CONFIGS / f"{venue}-sandbox.toml", overrides)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("environment", ["live", "testnet"])
def test_a_node_is_built_without_network(venue, environment, tmp_path):
    config = _config(venue, tmp_path, f"live.environment={environment}")
    source = venue_source(config.live)
    assert config.data.streams["perp"].instrument.endswith(f".{source.venue}")
    node = build_node(config, config.live, [], source, tmp_path, Money.from_str("1000 USDT"))
    assert str(node.trader_id) == "BEAUFORT-001"
    node.dispose()


@pytest.mark.parametrize("product", ["linear", "inverse", "spot"])
@pytest.mark.parametrize("venue", VENUES)
def test_every_product_has_its_adapter_settings(venue, product, tmp_path):
    assert venue_source(_config(venue, tmp_path, f"live.product={product}").live).config is not None


def test_the_definition_of_today_is_taken_from_a_catalog_of_instruments(tmp_path):
    base = {"id": "BTCUSDT-PERP.LOOP", "base": "BTC", "quote": "USDT", "size_increment": "1"}
    since = {"0.5": None, "0.1": "2024-01-01T00:00:00Z", "0.01": "2200-01-01T00:00:00Z"}
    with CatalogWriter(tmp_path / "c") as writer:
        for tick, valid_from in since.items():
            settings = base | {"price_increment": tick, "multiplier": "0.01", "valid_from": valid_from}
            writer.instrument(PerpetualSettings.model_validate(settings).build())
    live = _config("okx", tmp_path, f"live.instruments={tmp_path / 'c'}").live
    source = DataSource("LOOP", None, None)
    found = find_instruments(live, source, ["BTCUSDT-PERP.LOOP"], tmp_path)["BTCUSDT-PERP.LOOP"]
    assert (str(found.price_increment), str(found.multiplier)) == ("0.1", "0.01")


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_that_cannot_be_reached_is_an_error_in_time(venue, tmp_path, capfd):
    config = tmp_path / "here.toml"
    config.write_text((CONFIGS / f"{venue}-sandbox.toml").read_text())
    nowhere = ["--set", "live.base_url_http=http://127.0.0.1:9", "--set", "live.base_url_ws=ws://127.0.0.1:9"]
    folders = ["--set", f"backtest.runs={tmp_path / 'runs'}", "--set", "live.connect_timeout=2s"]
    began = time.monotonic()
    assert main(["live", str(config), *nowhere, *folders]) == 2
    assert time.monotonic() - began < 20
    error = capfd.readouterr().err
    assert "check the network" in error
    assert venue.upper() in error
    assert "Traceback" not in error
    assert not list((tmp_path / "runs").glob("*"))  # nothing has run


@pytest.fixture
def loop(tmp_path):
    small_market(tmp_path / "played", 1)
    return DataSource("LOOP", LoopbackVenue(tmp_path / "played"), DataClientConfig())


def test_the_venue_tells_its_instruments(loop, tmp_path):
    live = toy_config(tmp_path).live
    found = find_instruments(live, loop, ["BTCUSDT-PERP.LOOP"], tmp_path)
    assert str(found["BTCUSDT-PERP.LOOP"].price_increment) == "0.1"
    gc.collect()
    with pytest.raises(BeaufortError, match=r"did you mean BTCUSDT-PERP\.LOOP\?"):
        find_instruments(live, loop, ["BTCUSD-PERP.LOOP"], tmp_path)


def test_instruments_may_come_from_a_catalog(loop, tmp_path):
    live = toy_config(tmp_path).live.model_copy(update={"instruments": tmp_path / "played"})
    unreachable = venue_source(live)
    with pytest.raises(BeaufortError, match="not an instrument of BINANCE"):
        find_instruments(live, unreachable, ["BTCUSDT-PERP.LOOP"], tmp_path)
    assert list(find_instruments(live, loop, ["BTCUSDT-PERP.LOOP"], tmp_path)) == ["BTCUSDT-PERP.LOOP"]
    absent = live.model_copy(update={"instruments": tmp_path / "absent"})
    with pytest.raises(BeaufortError, match="absent"):
        find_instruments(absent, loop, ["BTCUSDT-PERP.LOOP"], tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"live": None}, r"no \[live\] section"),
        ({"data": {"series": {"oi": "open_interest/X"}}}, "nothing publishes the series oi"),
        ({}, "bundles"),  # nothing was trained
    ],
    ids=["no live section", "external series", "no bundles"],
)
def test_what_a_session_cannot_do_without(loop, tmp_path, changes, complaint):
    config = toy_config(tmp_path)
    if "live" in changes:
        config = config.model_copy(update=changes)
    if "data" in changes:
        config = config.model_copy(update={"data": config.data.model_copy(update=changes["data"])})
    with pytest.raises(BeaufortError, match=complaint):
        run_live(config, 5, loop)
    assert not list((tmp_path / "runs").glob("*"))
