"""``python -m engine.compiling``: compile the large loops once, after an installation.

Loops are compiled when they are first called and kept between runs (``core/__init__.py``). The two
largest, of the feature kernel and of the synthetic market, take half a minute together; others a second each.
"""

import tempfile
from pathlib import Path

from catalogs.synthetic.settings import SynthSettings
from catalogs.synthetic.writing import synthesize
from core.settings import format_time
from engine.config import RunConfig
from engine.pipeline import Market


def compile_loops() -> None:
    """Run a minute of a synthetic market through the feature kernel, and leave nothing but compiled code."""
    with tempfile.TemporaryDirectory(prefix="beaufort-") as folder:
        catalog = Path(folder) / "catalog"
        made = synthesize(SynthSettings.model_validate({"duration": "1m"}), catalog)
        span = {"start": format_time(made.start), "end": format_time(made.end)}
        config = RunConfig.model_validate(
            {
                "name": "compiling",
                "data": {"catalog": catalog, "streams": {"perp": {"instrument": made.instruments[0]}}},
                "bars": {"kind": "clock", "interval": "10s"},
                "regime": {"kind": "hmm"},
                "volatility": {"kind": "egarch"},
                "strategies": {"grid": {"kind": "grid"}},
                "train": {**span, "bundles": Path(folder) / "bundles"},
                "backtest": span,
            }
        )
        Market(config).features(made.start, made.end)


if __name__ == "__main__":
    compile_loops()
