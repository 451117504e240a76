"""Fits on real one-minute bars: zero returns, flat runs and freak prints included."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.table import FeatureTable
from volatility.base import VolatilitySettings
from volatility.egarch import EgarchSettings
from volatility.ewma import EwmaSettings
from volatility.garch import GarchSettings
from volatility.har import HarSettings
from volatility.scores import qlike, realized_variance

ROOT = Path(os.environ.get("BEAUFORT_REAL_DATA", Path(__file__).parents[2] / "../shared/data"))
BARS = ROOT / "bars/bitmex_xbtusd_perp_1m/xbtusd_1m_2017-01_2019-06.parquet"
MINUTE = 60 * 10**9
TRAIN_END, TEST_END = (
    np.datetime64("2018-07-01", "ns").astype(np.int64),
    np.datetime64("2018-08-01", "ns").astype(np.int64),
)


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    if not BARS.exists():
        pytest.skip(f"no real data at {ROOT}; set BEAUFORT_REAL_DATA")
    bars = pq.read_table(BARS, columns=["ts_open", "close"])
    ts = (
        bars["ts_open"].cast(pa.timestamp("ns", tz="UTC")).cast("int64").to_numpy() + MINUTE
    )  # stamped at the open
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)
    angle = 2 * np.pi * (ts % (1_440 * MINUTE)) / (1_440 * MINUTE)
    names = ("log_return_1", "time_of_day_sin", "time_of_day_cos")
    return FeatureTable(ts, names, np.column_stack((returns, np.sin(angle), np.cos(angle))))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [EgarchSettings(), GarchSettings(), EwmaSettings(), HarSettings()], ids=lambda s: s.kind
)
def test_forecasts_beat_a_constant_out_of_sample(table: FeatureTable, settings: VolatilitySettings) -> None:
    train, test = table.between(0, int(TRAIN_END)), table.between(int(TRAIN_END), int(TEST_END))
    fitted = settings.fit(train, 0)
    forecast = fitted.run(test.columns(fitted.inputs))[:, 0] ** 2
    realized = realized_variance(test.column("log_return_1"), settings.horizon)
    constant = np.nanmean(
        realized_variance(train.column("log_return_1")[-settings.max_rows :], settings.horizon)
    )
    assert np.all(np.isfinite(forecast[settings.horizon :]))
    assert qlike(forecast, realized) < qlike(np.full(len(forecast), constant), realized)
    assert 0.2 < np.nanmean(realized / forecast) < 5
