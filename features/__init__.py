"""The shared numeric language of the engine, and the streaming microstructure features.

Compiled loops are cached between runs. Numba looks only at the file of the function it loads: where a loop
calls another module's, a change there would go unseen and yesterday's code would run. So the cache has a
folder of its own for every state of the sources.
"""

import hashlib
import os
from pathlib import Path

import numba

_COMPILED = ("features", "regimes", "volatility", "strategies", "catalogs")  # packages with compiled loops


def _cache_folder() -> str:
    root = Path(__file__).parent.parent
    digest = hashlib.sha256(str(root).encode())
    for package in _COMPILED:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_bytes()
            # All of this room: loops hold columns of statistics.py and kinds of events.py as constants.
            if package == "features" or b"njit" in source:
                digest.update(source)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "beaufort" / digest.hexdigest()[:16])


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = _cache_folder()  # type: ignore[attr-defined]
