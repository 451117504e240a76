"""``beaufort init``: a first config that suits its catalog, and that trains and trades as it stands."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import small_market

from catalogs.synthetic.settings import SynthSettings
from catalogs.writer import CatalogWriter
from engine.cli import main
from engine.config import RunConfig, settings_from
from engine.config.starter import starter


def _config(catalog: Path, trade: str | None = None) -> RunConfig:
    return settings_from(RunConfig, "", tomllib.loads(starter(catalog, trade)), [])


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_market.make_minutes(tmp_path_factory.mktemp("starter") / "minutes")


@pytest.mark.parametrize("kind", ["ticks", "minutes"])
def test_what_init_writes_trains_and_trades(
    kind: str, catalog: Path, minutes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "first.toml"
    assert main(["init", str(catalog if kind == "ticks" else minutes), "--out", str(out)]) == 0
    text = out.read_text()
    assert text.startswith("#:schema ")
    assert main(["train", str(out)]) == 0
    assert main(["backtest", str(out), "--mode", "replay", "--no-report"]) == 0
    assert main(["init", str(catalog), "--out", str(out)]) == 2
    assert out.read_text() == text


def test_it_takes_what_the_catalog_has(catalog: Path, minutes: Path, tmp_path: Path) -> None:
    ticks = _config(catalog)
    traded = ticks.data.streams[ticks.data.trade]
    assert (traded.instrument, traded.book, traded.mark, traded.funding) == (
        small_market.PERP,
        "deltas",
        True,
        True,
    )
    assert (ticks.bars.kind, ticks.venue.starting_balance) == ("clock", "100000 USDT")
    assert small_market.START <= ticks.train.start < ticks.train.end == ticks.backtest.start
    assert ticks.backtest.start < ticks.backtest.end <= small_market.END
    assert _config(catalog, "BTCUSDT.SIM").data.streams["perp"].instrument == "BTCUSDT.SIM"

    bars = _config(minutes)
    assert bars.data.streams["perp"].bars == small_market.MINUTES
    assert (bars.bars.kind, bars.bars.interval) == ("external", small_market.MINUTE)
    third = (bars.backtest.end - bars.train.start) / 3
    assert abs(bars.backtest.end - bars.backtest.start - third) <= small_market.MINUTE

    quotes = small_market.with_quotes(catalog, tmp_path / "quotes")
    shutil.rmtree(quotes / "data" / "order_book_deltas")
    assert _config(quotes).data.streams["perp"].book == "quotes"


def test_a_forecast_is_asked_for_only_where_moves_pay(tmp_path: Path) -> None:
    """Two markets of the same noise, of which one is ten times as wild: bars of 1 bp, and of 10 bps."""
    perpetual = SynthSettings().instrument.build()
    rng = np.random.default_rng(2)
    ts = small_market.START + np.arange(1, 1501) * small_market.MINUTE
    noise = rng.standard_normal(1500)
    for name, scale in (("calm", 1e-5), ("wild", 1e-3)):
        price = np.round(60_000 * np.exp(scale * np.cumsum(noise)), 1)
        writer = CatalogWriter(tmp_path / name)
        writer.instrument(perpetual)
        writer.bars(perpetual, small_market.MINUTES, ts, ts, price, price, price, price, np.ones(1500))
    assert _config(tmp_path / "wild").forecast is not None
    assert set(_config(tmp_path / "wild").strategies) == {"momentum", "grid"}
    assert _config(tmp_path / "calm").forecast is None
    assert set(_config(tmp_path / "calm").strategies) == {"grid"}


def test_a_catalog_with_nothing_to_trade_is_refused(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = CatalogWriter(tmp_path / "bare")
    writer.instrument(SynthSettings().instrument.build())
    for arguments, told in (
        (
            [str(tmp_path / "bare")],
            "no instrument with prices to trade by; its instruments: BTCUSDT-PERP.SIM",
        ),
        ([str(tmp_path / "nowhere")], "no catalog here"),
        (
            [str(catalog), "--trade", "FOO.SIM"],
            "no prices of FOO.SIM to trade by; its instruments: BTCUSDT-PERP",
        ),
    ):
        assert main(["init", *arguments]) == 2
        assert told in capsys.readouterr().err
