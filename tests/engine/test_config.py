"""Run configs: every mistake of a file is told at once, where it stands and what was near to it."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import small_market

from core.errors import BeaufortError
from core.settings import parse_time
from engine.config import RunConfig, load_config, settings_from, to_toml

ROOT = Path(__file__).parents[2]
EXTERNAL = "BTCUSDT-PERP.SIM-1-MINUTE-LAST-EXTERNAL"


def _tree() -> dict[str, Any]:
    return small_market.tree(Path("nowhere"), Path("work"))


def _problems(*overrides: str) -> list[str]:
    with pytest.raises(BeaufortError) as caught:
        settings_from(RunConfig, "file.toml", _tree(), overrides)
    first, *problems = str(caught.value).splitlines()
    assert first == f"file.toml: {len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return [problem.strip() for problem in problems]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("nmae=x", "nmae: unknown key; did you mean 'name'?"),
        ("data.streams.perp.bok=quotes", "data.streams.perp.bok: unknown key; did you mean 'book'?"),
        ("regime.hysteresis.entr=0.5", "regime.hysteresis.entr: unknown key; did you mean 'enter'?"),
        ("strategies.grid.lvels=3", "strategies.grid.lvels: unknown key; did you mean 'levels'?"),
        (
            "strategies.grid.sizing.keli_fraction=3",
            "strategies.grid.sizing.keli_fraction: unknown key; did you mean 'kelly_fraction'?",
        ),
        ("forecast.horizn=3", "forecast.horizn: unknown key; did you mean 'horizon'?"),
        ("train.schedule.windw=1h", "train.schedule.windw: unknown key; did you mean 'window'?"),
        ("venue.wobble=1", "venue.wobble: unknown key; known keys: bar_fills, default_leverage"),
        ("regime.kind=hmmm", "regime.kind: 'hmmm' is not one of 'hmm', 'rules'"),
        ("strategies.grid.kind=gird", "strategies.grid.kind: 'gird' is not one of 'grid', 'momentum'"),
        ("regime.kind=rule", "regime.kind: 'rule' is not one of 'rules', 'hmm'"),
        ("bars.kind=tick", "bars.kind: 'tick' is not one of 'clock', 'volume', 'dollar', 'external'"),
        ("forecast.kind=foo", "forecast.kind: 'foo' is not one of 'logistic', 'lstm', 'tcn'"),
        ("bars.interval=1x", "bars.interval: '1x' is not a duration; write a number and a unit of ns"),
        ("bars.interval=2h", "bars.interval: 2h is not between 100ms and 1h"),
        ("backtest.warmup=-5m", "backtest.warmup: '-5m' is not a duration"),
        ("backtest.start=yesterday", "backtest.start: 'yesterday' is not a time; write an ISO date"),
        ("train.end=2026-13-01", "train.end: '2026-13-01' is not a time"),
        ("train.schedule.step=1h", "train.schedule.window: missing; this key is required"),
        ("name=../evil", "name: String should match pattern"),
        ("seed=lots", "seed: Input should be a valid integer"),
        ("seed=-1", "seed: must be at least 0 (got -1)"),
        (f"seed={10**20}", "seed: must be below 9223372036854775808"),
        ("venue.default_leverage=0", "venue.default_leverage: must be above 0 (got 0)"),
        (
            "venue.latency=50",
            "venue.latency: 50 has no unit; write a length of time with one, such as '50ms'",
        ),
        ("venue.latency=-5", "venue.latency: -5 has no unit"),
        ("venue.latency=true", "venue.latency: True is not a duration"),
        ("venue.latency='50'", "venue.latency: '50' is not a duration; write a number and a unit of ns"),
        (f"venue.latency={10**22}d", "venue.latency: '10000000000000000000000d' is longer than 36500d"),
        ("venue.latency=0.1ns", "venue.latency: '0.1ns' is finer than a nanosecond"),
        ("venue.latency=2h", "venue.latency: must be at most 1m (got 2h)"),
        ("bars.grace=-1", "bars.grace: -1 has no unit"),
        ("bars.grace=-1s", "bars.grace: '-1s' is not a duration"),
        ("train.schedule={window='0s', step='1h'}", "train.schedule.window: must be above 0s"),
        ("train.start=1970", "train.start: 1970 is not a time; write an ISO date or time such as"),
        ("backtest.end=9999-01-01", "backtest.end: datetime.date(9999, 1, 1) is not between 1970 and 2262"),
        ("backtest.start=-5", "backtest.start: -5 is not a time"),
        ("risk.reduce_at=5", "risk.reduce_at: must be below 1 (got 5); it is a fraction: 5 % is 0.05"),
        (
            "strategies.grid.sizing.risk_fraction=1",
            "strategies.grid.sizing.risk_fraction: must be below 1 (got 1); it",
        ),
        (
            "regime.hysteresis.enter=60",
            "regime.hysteresis.enter: must be at most 1 (got 60); it is a fraction",
        ),
        (
            "gate={on_annualised=60, off_annualised=80}",
            "gate.off_annualised: 80 is 8000 % a year; it is a fraction: 80 % is 0.8",
        ),
        ("strategies.grid.levels=true", "strategies.grid.levels: Input should be a valid integer (got True)"),
        ("strategies.grid.levels='4'", "strategies.grid.levels: Input should be a valid integer (got '4')"),
        ("risk.exposure_cap=true", "risk.exposure_cap: Input should be a valid number (got True)"),
        ("venue.default_leverage=1e300", "venue.default_leverage: must be at most 1000000 (got 1e+300)"),
        (f"volatility.horizon={10**9}", "volatility.horizon: must be at most 10000 (got 1000000000)"),
        ("regime.slow=100000000", "regime.slow: must be at most 1000000"),
        ("forecast.max_rows=10000000000", "forecast.max_rows: must be at most 10000000"),
        (
            "venue.taker_fee=5",
            "venue.taker_fee: 5 is not between -0.01 and 0.01; a fee is a fraction of notional (5 bps",
        ),
        (
            "venue.taker_fee=1e-300",
            "venue.taker_fee: Decimal input should have no more than",
        ),
        ("venue.default_leverage=1e-300", "venue.default_leverage: Decimal input should have no more than"),
        ("venue.taker_fee=0.05", "venue.taker_fee: 0.05 is not between"),
        ("risk.exposure_cap=nan", "risk.exposure_cap: Input should be a finite number (got nan)"),
        ("risk.exposure_cap=inf", "risk.exposure_cap: Input should be a finite number (got inf)"),
        ("strategies.grid.levels=inf", "strategies.grid.levels: "),
        ("data.trade=spot", "data.streams: trade = 'spot' is not one of the streams: perp"),
        ("data.series.perp=a/b", "data.series: perp: names a stream and a series; rename one"),
        (
            "data.streams.perp.instrument=nonsense",
            "data.streams.perp.instrument: invalid `InstrumentId` value 'nonsense': missing '.'",
        ),
        ("data.series.oi=nothing", "data.series: oi = 'nothing' is not <series>/<id>"),
        (
            "data.streams.b.instrument=BTCUSDT-PERP.SIM",
            "data.streams: BTCUSDT-PERP.SIM: instrument of two streams",
        ),
        ("data.streams.perp.bars=FOO", "data.streams.perp.bars: Error parsing `BarType` from 'FOO'"),
        (
            f"data.streams.perp.bars={EXTERNAL.replace('BTC', 'ETH')}",
            "data.streams.perp.bars: 'ETHUSDT-PERP",
        ),
        ("venue.starting_balance=lots", "venue.starting_balance: Error invalid input format 'lots'"),
        ("venue.starting_balance=0 USDT", "venue.starting_balance: '0 USDT' is nothing to start with"),
        (
            "strategies.momentum.regimes=['chop']",
            "strategies: regime 'chop' belongs to both 'momentum' and 'grid'",
        ),
        ("bars={kind='external',interval='1m'}", "bars: kind = 'external' needs data.streams.perp.bars"),
        (
            'features=["log_retrun_10", "spread", "sprd"]',
            "features: no feature 'log_retrun_10'; nearest: log_return_{w}, ",
        ),
        ("forecast.features=['basis']", "forecast: feature 'basis' compares two streams"),
        ("volatility.returns=log_retrun_1", "volatility: no feature 'log_retrun_1'; nearest: log_return_{w}"),
        (
            "backtest.end=2026-01-05",
            "backtest: end 2026-01-05T00:00:00Z is not after start 2026-01-05T00:20:00Z; change one",
        ),
        ("train.end=2026-01-05", "train: end 2026-01-05T00:00:00Z is not after start"),
    ],
)
def test_a_mistake_is_named_with_its_place(override: str, told: str) -> None:
    assert any(problem.startswith(told) for problem in _problems(override)), _problems(override)


def test_all_mistakes_are_told_at_once() -> None:
    problems = _problems("regime.fsat=3", "bars.interval=soon", "strategies.grid.levels=0", "train.end=never")
    assert [problem.partition(":")[0] for problem in problems] == [
        "bars.interval",
        "regime.fsat",
        "strategies.grid.levels",
        "train.end",
    ]


def test_keys_of_another_kind_are_said_to_be_that() -> None:
    hmm = "regime={kind='hmm', starts=3, clip=4.0}"
    assert _problems(hmm, "regime.kind=rules") == [
        f"regime.{key}: belongs to kind 'hmm', not 'rules'; to set the whole table: "
        "--set 'regime={kind=\"rules\"}'"
        for key in ("starts", "clip")
    ]
    whole = [hmm, 'regime={kind="rules"}']
    assert settings_from(RunConfig, "", _tree(), whole).regime.kind == "rules"
    # What no kind knows, or another kind under another table, is as unknown as ever.
    assert "unknown key" in _problems("regime.strats=3")[0]
    assert "unknown key" in _problems("regime.hysteresis.starts=3")[0]
    (problem,) = _problems("strategies.grid.entry_probability=0.5")
    assert problem.startswith("strategies.grid.entry_probability: belongs to kind 'momentum', not 'grid'")


def test_rules_between_tables_are_told_with_the_mistakes_of_others() -> None:
    problems = _problems(
        "seed=lots",
        "features=['sprd']",
        "data.series.perp=a/b",
        "strategies.momentum.regimes=['chop']",
        "train.end=2026-01-05",
        "backtest.end=2026-01-05",
        "venue.wobble=1",
    )
    assert [problem.partition(":")[0] for problem in problems] == [
        "seed",
        "data.series",
        "features",
        "strategies",
        "venue.wobble",
        "train",
        "backtest",
    ]


def test_external_bars_must_fit_their_stream() -> None:
    external = ["bars={kind='external',interval='1m'}", f"data.streams.perp.bars={EXTERNAL}"]
    assert "needs data.streams.perp.trades = false" in _problems(*external)[0]
    external += ["data.streams.perp.trades=false"]
    assert "bars: interval is not the length" in _problems(*external, "bars.interval=5m")[0]
    assert settings_from(RunConfig, "", _tree(), external).bars.describe() == "1m external bars"


def test_a_traded_book_needs_trades() -> None:
    (problem,) = _problems("data.streams.perp.trades=false")
    assert "data.streams: perp is traded but has trades = false" in problem


def test_overrides() -> None:
    config = settings_from(
        RunConfig,
        "",
        _tree(),
        [
            "name=other",
            'venue.starting_balance="5000 USDT"',
            "regime.hysteresis.enter=0.9",
            "strategies.momentum.sizing.kelly_fraction=0.1",
            'features=["spread", "log_return_5"]',
            "data.streams.spot={instrument='BTCUSDT.SIM', book='none'}",
            "backtest.end=2026-01-05T00:25:00Z",
            "bars.interval=500ms",
            "data.streams.perp.mark=false",
        ],
    )
    assert config.name == "other"
    assert config.venue.starting_balance == "5000 USDT"
    assert config.regime.hysteresis.enter == 0.9
    assert config.strategies["momentum"].sizing.kelly_fraction == 0.1
    assert config.features == ("spread", "log_return_5")
    assert config.data.streams["spot"].book == "none"
    assert config.backtest.end == parse_time("2026-01-05T00:25:00Z")
    assert config.bars.interval == 500_000_000
    assert config.data.streams["perp"].mark is False


@pytest.mark.parametrize("override", ["seed", "=1", "name.x=1", " = "])
def test_overrides_that_cannot_be_applied(override: str) -> None:
    with pytest.raises(BeaufortError, match="--set"):
        settings_from(RunConfig, "", _tree(), [override])


def test_shown_config_reads_back_to_the_same(tmp_path: Path) -> None:
    config = settings_from(
        RunConfig,
        "",
        _tree(),
        [
            "train.schedule={window='20m', step='5m'}",
            "live.adapter=okx",
            "bars.interval=100ms",
            "risk.max_quantity=1e-3",
        ],
    )
    (tmp_path / "shown.toml").write_text(to_toml(config))
    again = load_config(tmp_path / "shown.toml")
    assert again == config
    assert to_toml(again) == to_toml(config)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("configs/*.toml")) + sorted(ROOT.glob("configs/live/*.toml")), ids=str
)
def test_configs_of_the_repository(path: Path) -> None:
    if "data" not in tomllib.loads(path.read_text()):
        pytest.skip(f"{path.name} is no run config")
    config = load_config(path)
    assert settings_from(RunConfig, "", tomllib.loads(to_toml(config)), []) == config


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name = ", "not valid TOML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "required"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(BeaufortError, match=told) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BeaufortError, match="no such file"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(BeaufortError, match="cannot be read"):
        load_config(tmp_path)


def test_schema_describes_what_is_accepted() -> None:
    schema = json.loads(json.dumps(RunConfig.model_json_schema()))
    definitions = schema["$defs"]

    def check(value: Any, place: dict[str, Any]) -> None:
        """What of JSON schema configs use: every key written is declared, every reference resolves."""
        if "$ref" in place:
            place = definitions[place["$ref"].removeprefix("#/$defs/")]
        if "discriminator" in place:
            target = place["discriminator"]["mapping"][value["kind"]]
            place = definitions[target.removeprefix("#/$defs/")]
        if "anyOf" in place:
            place = next(p for p in place["anyOf"] if p.get("type") != "null")
            return check(value, place)
        if isinstance(value, dict):
            assert place["type"] == "object"
            for key, inner in value.items():
                declared = place.get("properties", {}).get(key) or place.get("additionalProperties")
                if declared is None:  # a map with constrained names
                    (declared,) = [
                        p for pattern, p in place["patternProperties"].items() if re.search(pattern, key)
                    ]
                check(inner, declared)
            assert set(place.get("required", ())) <= set(value)
        elif isinstance(value, list):
            assert place["type"] == "array"
        elif isinstance(value, str):
            assert place.get("type", "string") in ("string", "number")
        return None

    check(tomllib.loads(to_toml(settings_from(RunConfig, "", _tree(), []))), schema)
    assert set(schema["required"]) == {
        "name",
        "data",
        "bars",
        "regime",
        "volatility",
        "strategies",
        "train",
        "backtest",
    }


def test_a_value_of_any_length_is_shown_short(catalog: Path, tmp_path: Path) -> None:
    long = "x" * 5_000
    for override in (f"strategies.grid.kind={long}", f"data.trade={long}", f"data.streams.perp.bars={long}"):
        with pytest.raises(BeaufortError) as refused:
            small_market.config(catalog, tmp_path, override)
        assert len(str(refused.value)) < 500, override
