"""What configs may say: every key has a text, numbers a unit, and what a config leaves out suits its data."""

import json
from pathlib import Path
from typing import Any

import pytest
import small_market

from catalogs.imports.mapping import ImportMapping
from catalogs.synthetic.settings import SynthSettings
from core.errors import BeaufortError
from core.settings import Settings
from engine.cli import main
from engine.config import RunConfig, load_config, settings_from
from engine.config.schema import kinds, schema, tables
from features.registry import features
from features.transforms import TRANSFORMS

ROOT = Path(__file__).parents[2]
FREE = {"where", "bid", "ask", "buy", "sell"}
"""Keys of mappings that hold cells of a table, whatever they are."""


@pytest.mark.parametrize("model", [RunConfig, ImportMapping, SynthSettings])
def test_every_key_has_a_text_a_unit_and_a_default(model: type[Settings]) -> None:
    for table in tables(schema(model)):
        for name, key in table.get("properties", {}).items():
            place = f"{table['title']}.{name}"
            assert len(key.get("description", "").split()) > 1, f"{place}: no description"
            text = json.dumps(key)
            if name not in FREE and ('"type": "number"' in text or '"type": "integer"' in text):
                assert key.get("unit"), f"{place}: no unit"
                assert key["unit"] in key["description"]
            if name not in table.get("required", ()) and "default" not in key:
                assert "Absent:" in key["description"], f"{place}: no default"


def test_defaults_of_durations_are_written_with_their_unit() -> None:
    definitions = schema(RunConfig)["$defs"]
    assert definitions["VenueSettings"]["properties"]["latency"]["default"] == "5ms"
    assert definitions["GridSettings"]["properties"]["pause"]["default"] == "15m"


def test_every_number_is_refused_as_true_or_as_text() -> None:
    """Through the schema: whatever takes a number alone takes no truth value and no text."""
    seen = 0
    for model in (RunConfig, SynthSettings):
        for title, table in {"": schema(model), **schema(model)["$defs"]}.items():
            owner = next((c for c in _settings(Settings) if c.__name__ == title), model)
            for name, key in table["properties"].items():
                if key.get("type") not in ("number", "integer"):
                    continue
                for value in (True, "1"):
                    with pytest.raises(ValueError, match=f"(?s){name}.*valid (number|integer)"):
                        owner.model_validate({"kind": "x", name: value})
                    seen += 1
    assert seen > 100


def _settings(cls: type[Settings]) -> list[type[Settings]]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _settings(sub))]


def test_kinds_and_features_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kinds"]) == 0
    told = capsys.readouterr().out
    for place, name, text in kinds():
        assert place in told
        assert f"  {name} " in told
        assert text in told
        assert len(text.split()) > 2
    assert {"hmm", "egarch", "lstm", "grid", "book_diffs", "dollar"} <= {name for _, name, _ in kinds()}
    assert main(["features", "--list"]) == 0
    told = capsys.readouterr().out
    for feature in features():
        assert f"\n{feature.pattern}" in told
        assert feature.definition in told
    for name, transform in TRANSFORMS.items():
        assert f"\n{name}(FEATURE, {{w}})" in told
        assert transform.definition in told
    assert main(["features"]) == 2


def _with(**changes: Any) -> RunConfig:
    tree = small_market.tree(Path("nowhere"), Path("work"))
    return settings_from(RunConfig, "", tree | {"features": []} | changes, [])


STREAM = {"instrument": "BTCUSDT-PERP.SIM"}
BARS = {**STREAM, "book": "none", "trades": False, "bars": "BTCUSDT-PERP.SIM-1-MINUTE-LAST-EXTERNAL"}
DIRECTION = ["log_return_1", "log_return_6", "drift_ratio_12", "realized_volatility_12"]
BOOK = ["book_imbalance_1", "book_imbalance_5", "microprice_deviation", "order_flow_imbalance_1"]
FLOW = ["cvd_change_6", "trade_imbalance_6", "trade_intensity_1"]


@pytest.mark.parametrize(
    ("stream", "bars", "regime", "forecast"),
    [
        (
            STREAM,
            {"kind": "clock"},
            ["log_return_3", "intrabar_volatility_1", "trade_intensity_1"],
            [*DIRECTION, *BOOK, *FLOW],
        ),
        (
            {**STREAM, "book": "quotes", "trades": False},
            {"kind": "clock"},
            ["log_return_3", "intrabar_volatility_1"],
            [*DIRECTION, "book_imbalance_1", "microprice_deviation", "order_flow_imbalance_1"],
        ),
        (
            {**STREAM, "book": "none"},
            {"kind": "clock"},
            ["log_return_45", "parkinson_volatility_15", "log_volume_15"],
            [*DIRECTION, *FLOW],
        ),
        (
            BARS,
            {"kind": "external", "interval": "1m"},
            ["log_return_45", "parkinson_volatility_15", "log_volume_15"],
            [*DIRECTION, "high_low_6", "volume_zscore_12"],
        ),
    ],
)
def test_models_without_features_read_those_that_the_data_has(
    stream: dict[str, Any], bars: dict[str, Any], regime: list[str], forecast: list[str]
) -> None:
    config = _with(
        data={"catalog": "x", "streams": {"perp": stream}},
        bars=bars,
        regime={"kind": "hmm"},
        forecast={"kind": "logistic", "horizon": 6},
    )
    assert config.data.trade == "perp"
    assert list(config.regime.features) == regime
    assert (config.regime.direction, config.regime.dispersion) == (regime[0], regime[1])
    assert config.regime.mirror == (regime[0],)
    assert list(config.forecast.features) == forecast


def test_a_role_without_features_and_momentum_without_a_forecast_are_refused() -> None:
    with pytest.raises(BeaufortError, match="name the features too"):
        _with(regime={"kind": "hmm", "direction": "log_return_3"})
    with pytest.raises(BeaufortError, match=r"momentum .* trades on a forecast, and there is none"):
        _with(forecast=None)


def test_the_demo_is_short_and_says_what_it_said() -> None:
    path = ROOT / "configs/demo.toml"
    assert len(path.read_text().splitlines()) <= 25
    config = load_config(path)
    assert config.regime.features == ("log_return_3", "intrabar_volatility_1", "trade_intensity_1")
    assert (config.regime.n_states, config.risk.exposure_cap) == (4, 1.0)
    assert len(config.forecast.features) == 12
    assert config.forecast.features[-1] == "series_log_change_6@open_interest"
