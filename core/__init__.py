"""The shared language of the engine: events, causal filters, tables, messages, settings, errors.

Compiled loops are cached between runs. Numba looks only at the file of the function it loads: where a loop
calls another module's, a change there would go unseen and yesterday's code would run. So the cache has a
folder of its own for every state of the sources.
"""

import hashlib
import os
from pathlib import Path

import numba

ROOMS = (
    "core",
    "features",
    "learners",
    "regimes",
    "volatility",
    "catalogs",
    "strategies",
    "actors",
    "engine",
)
"""Every package of the house, the lowest first."""


def _cache_folder() -> str:
    root = Path(__file__).parent.parent
    digest = hashlib.sha256(str(root).encode())
    for package in ROOMS:
        for path in sorted((root / package).rglob("*.py")):
            source = path.read_bytes()
            # All of the lowest: loops hold columns of statistics.py and kinds of events.py as constants.
            if package in ("core", "features") or b"njit" in source:
                digest.update(source)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "beaufort" / digest.hexdigest()[:16])


if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = _cache_folder()  # type: ignore[attr-defined]
