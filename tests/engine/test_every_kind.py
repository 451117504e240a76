"""Every model that a config can name, fitted and run through the three laws: none is forgotten."""

import typing

import numpy as np
import pandas as pd
import pytest

from core.causal import CausalFilter
from core.kinds import kinds_of
from core.settings import Settings
from core.table import FeatureTable
from engine.config import RunConfig
from regimes import RegimeSettings
from strategies.forecasters import ForecastSettings
from tests.conformance import check_laws
from volatility import VolatilitySettings

FAMILIES = {"regime": RegimeSettings, "volatility": VolatilitySettings, "forecast": ForecastSettings}
KINDS = [(stage, model) for stage, family in FAMILIES.items() for model in kinds_of(family)]

_QUICK = {"epochs": 1, "samples": 128, "batch": 64}
SMALLER = {
    "hmm": {"features": ("log_return_60", "realized_volatility_60")},
    "tcn": {"layers": 4, "channels": 2, "training": _QUICK},
    "lstm": {"window": 5, "hidden": 3, "training": _QUICK},
}
"""What suits the market above and makes a fit quick, by kind; the others are fitted at their defaults."""


@pytest.fixture(scope="module")
def market() -> tuple[FeatureTable, np.ndarray]:
    """A hundred hours of minutes whose weather is plain to see, and the price."""
    rng = np.random.default_rng(2)
    weather = np.repeat(rng.choice(3, 100, p=(0.3, 0.5, 0.2)), 60)
    drift = np.repeat(rng.choice([-1.0, 1.0], 100), 60) * np.array([4e-4, 0.0, 0.0])[weather]
    returns = pd.Series(drift + np.array([6e-4, 5e-4, 3e-3])[weather] * rng.standard_normal(6_000))
    angle = 2 * np.pi * np.arange(6_000) / 1_440
    columns = {
        "log_return_1": returns,
        "log_return_60": returns.rolling(60).sum(),
        "realized_volatility_60": np.sqrt((returns**2).rolling(60).mean()),
        **{
            f"log_volatility_{n}": 0.5 * np.log((returns**2).rolling(n).mean().clip(1e-16))
            for n in (15, 60, 360)
        },
        "time_of_day_sin": pd.Series(np.sin(angle)),
        "time_of_day_cos": pd.Series(np.cos(angle)),
    }
    values = np.column_stack([column.to_numpy() for column in columns.values()])
    ts = np.arange(1, 6_001) * 60 * 10**9
    return FeatureTable(ts, tuple(columns), values), 100 * np.exp(returns.cumsum().to_numpy())


@pytest.mark.parametrize(("stage", "model"), KINDS, ids=lambda v: v.__name__ if isinstance(v, type) else v)
def test_laws_hold_for_every_kind(
    market: tuple[FeatureTable, np.ndarray], stage: str, model: type[Settings]
) -> None:
    table, price = market
    settings: typing.Any = model.model_validate(SMALLER.get(model.model_fields["kind"].default, {}))
    try:
        fitted: CausalFilter = (
            settings.fit(table, price, 1) if stage == "forecast" else settings.fit(table, 1)
        )
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    rows = table.columns(fitted.inputs)[400:800]  # whole, so that the suite makes its own holes
    assert np.isfinite(fitted.run(rows)).all(axis=1).mean() > 0.5  # silence would hold every law
    check_laws(fitted, rows, examples=5)


def test_every_kind_that_a_config_can_name_is_among_them() -> None:
    schema = RunConfig.model_json_schema()["properties"]
    for stage in FAMILIES:
        field = schema[stage]
        tagged = next(one for one in (field, *field.get("anyOf", ())) if "discriminator" in one)
        tested = {model.model_fields["kind"].default for role, model in KINDS if role == stage}
        assert tested == set(tagged["discriminator"]["mapping"])
