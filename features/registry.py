"""The list of features: each declared once, with all that is to be said of it.

A declaration is a decorated function in one module of ``features/definitions``::

    @feature("log_return_{w}", unit="log return", needs="price", definition="ln(price_t / price_{t-w})")
    def log_return(h, o, t, w):
        return log(h[t, Stat.PRICE] / h[t - w, Stat.PRICE])

``{w}`` stands for an integer that a config writes out (``log_return_60``); ``features/names.py`` says what
else a name may be. The function is compiled when a kernel first chooses it. It gets the stream's bar
statistics ``h`` and those of the traded stream ``o`` (both ``(bars, STATS)``), the bar ``t`` and the window
``w``, and may read the bars ``t - w .. t``; ``features/window.py`` has sums and moments over them. It must
not raise: what is unknown is NaN.
"""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import FunctionType
from typing import Literal

import numba
import numpy as np
from numba import float64, int64
from numba.core.ccallback import CFunc

Need = Literal["price", "trades", "book", "depth", "ohlcv", "mark", "index", "funding", "series", "clock"]
"""What data a feature is made of: ``price`` any source, ``book`` the best levels, ``depth`` an L2 book."""

SIGNATURE = float64(float64[:, ::1], float64[:, ::1], int64, int64)
"""Of a feature's function: statistics of its stream, of the traded stream, bar, window."""


class Declared:
    """What a decorated function becomes: it is compiled when first asked for, and known by its source."""

    function: Callable[..., float]

    @functools.cached_property
    def compiled(self) -> CFunc:
        """The function as machine code, made when first asked for."""
        return machine_code(self.function)

    @functools.cached_property
    def code(self) -> str:
        """Sixteen hex digits over its source."""
        return code_of(self.function)


@dataclasses.dataclass(frozen=True)
class Feature(Declared):
    """One declared feature, or family of features where ``pattern`` holds ``{w}``."""

    pattern: str
    unit: str
    needs: tuple[Need, ...]
    definition: str
    source: str
    window: int | None  # fixed number of earlier bars it reads; None: the integer of its name
    least: int  # smallest integer allowed
    pair: bool  # also reads the traded stream: must be used with @alias
    function: Callable[..., float]


_DEFINITIONS = "features.definitions"
_FEATURES: dict[str, Feature] = {}
_loaded = False


def feature(
    pattern: str,
    *,
    unit: str,
    needs: Need | tuple[Need, ...],
    definition: str,
    source: str = "",
    window: int | None = None,
    least: int = 1,
    pair: bool = False,
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Declare a feature; see above. ``window`` fixes the lookback where it is not the name's integer."""

    def declare(function: Callable[..., float]) -> Callable[..., float]:
        if not function.__module__.startswith(_DEFINITIONS):
            features()  # ours first: who comes second is told
        if pattern in _FEATURES:
            other = _FEATURES[pattern].function.__module__
            raise ValueError(
                f"{function.__module__}: feature {pattern!r} is that of {other}; give it another name"
            )
        fixed = window if window is not None or "{w}" in pattern else 0
        _FEATURES[pattern] = Feature(
            pattern,
            unit,
            (needs,) if isinstance(needs, str) else needs,
            definition,
            source,
            fixed,
            least,
            pair,
            function,
        )
        return function

    return declare


def features() -> list[Feature]:
    """Every declared feature, by name."""
    global _loaded
    if not _loaded:
        package = importlib.import_module(_DEFINITIONS)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{_DEFINITIONS}.{module}")
        _loaded = True
    return [_FEATURES[pattern] for pattern in sorted(_FEATURES)]


def machine_code(function: Callable[..., float]) -> CFunc:
    """A feature's or transform's function, compiled (one of ours once for all processes)."""
    # The cache knows of a change in any module of ours, of another's in that of the function alone.
    ours = function.__module__.startswith("features.")
    return numba.cfunc(SIGNATURE, cache=ours, error_model="numpy")(function)


def code_of(function: Callable[..., float]) -> str:
    """Sixteen hex digits over a function's source and that of the helpers and constants it names."""
    return hashlib.sha256("\n".join(_sources(function, set())).encode()).hexdigest()[:16]


def _sources(function: Callable[..., float], seen: set[Callable[..., float]]) -> list[str]:
    """The text of ``function`` without its decorators, then the functions and constants it names: the same
    in every process, and wherever the package lies."""
    seen.add(function)
    text = inspect.getsource(function)
    found = [text[text.index("def ") :] if "def " in text else text]
    named = inspect.getclosurevars(function)
    pending = sorted([*named.globals.items(), *named.nonlocals.items()], key=lambda item: item[0])
    for name, value in pending:
        value = getattr(value, "py_func", value)  # what numba compiled
        if isinstance(value, tuple):
            pending += [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        elif isinstance(value, np.ndarray | np.generic | bool | int | float | str):
            found.append(f"{name} = {np.asarray(value).tolist()!r}")
        elif isinstance(value, FunctionType) and value not in seen:
            found += _sources(value, seen)
    return found
