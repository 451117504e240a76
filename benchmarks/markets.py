"""The synthetic markets that the benchmarks trade, and the run config set upon them."""

from pathlib import Path

from catalogs.synthetic.writing import SynthSettings, synthesize
from core.settings import format_time, parse_time
from engine.config import RunConfig, load_config
from engine.pipeline import Market
from engine.research.training import train

_CONFIG = Path(__file__).with_name("pipeline.toml")
_TRAINING, _TRADED = parse_time("2026-01-04"), parse_time("2026-01-05")
_MINUTE = 60 * 10**9
_WARMUP = 10 * _MINUTE


def market(folder: Path, minutes: int, rate: float = 1.0) -> Market:
    """A synthetic market, traded after its first ten minutes by models trained on another one.

    Parameters
    ----------
    folder : Path
        Where catalogs and models are written; what another call left there is used again.
    minutes : int
    rate : float
        1 is about 90 events a second.
    """
    training, models, catalog = folder / "training", folder / "models", folder / f"market-{minutes}-{rate:g}"
    synthesize(SynthSettings(seed=1, start="2026-01-04", duration="1h", funding_interval="1h"), training)
    synthesize(
        SynthSettings(seed=2, start="2026-01-05", duration=f"{minutes}m", rate=rate, funding_interval="1h"),
        catalog,
    )
    config = _config(catalog, training, models, _TRADED + minutes * _MINUTE)
    train(config)
    return Market(config)


def _config(catalog: Path, training: Path, models: Path, end: int) -> RunConfig:
    return load_config(
        _CONFIG,
        [
            f"data.catalog={catalog}",
            f"train.catalog={training}",
            f"train.bundles={models}",
            f"train.start={format_time(_TRAINING)}",
            f"train.end={format_time(_TRAINING + 60 * _MINUTE)}",
            f"backtest.start={format_time(_TRADED + _WARMUP)}",
            f"backtest.end={format_time(end)}",
        ],
    )
