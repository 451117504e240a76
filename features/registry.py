"""The list of features: each declared once, with its definition, and chosen by name in a config.

A declaration is a decorated function in one module of ``features/definitions``::

    @feature("log_return_{w}", unit="log return", needs="price", definition="ln(price_t / price_{t-w})")
    def log_return(h, o, t, w):
        return log(h[t, Stat.PRICE] / h[t - w, Stat.PRICE])

``{w}`` stands for an integer that a config writes out (``log_return_60``); ``@alias`` behind a name reads
another stream or external series (``log_return_10@spot``). The function is compiled when a kernel first
chooses it. It gets the stream's bar statistics ``h`` and those of the traded stream ``o`` (both ``(bars,
STATS)``), the bar ``t`` and the window ``w``, and may read the bars ``t - w .. t``. It must not raise: what
is unknown is NaN.
"""

import dataclasses
import difflib
import functools
import hashlib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal

import numba
import numpy as np
from numba import float64, int64

from core.settings import shown

Need = Literal["price", "trades", "book", "depth", "ohlcv", "mark", "index", "funding", "series", "clock"]
"""What data a feature is made of: ``price`` any source, ``book`` the best levels, ``depth`` an L2 book."""

_MOST = 100_000  # bars of statistics are kept in memory for the longest window

SIGNATURE = float64(float64[:, ::1], float64[:, ::1], int64, int64)
"""Of a feature's function: statistics of its stream, of the traded stream, bar, window."""


@dataclasses.dataclass(frozen=True)
class Feature:
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

    @functools.cached_property
    def compiled(self) -> Any:
        """The function as machine code, made when first asked for (one of ours once for all processes)."""
        # The cache knows of a change in any module of ours, of another's in that of the function alone.
        ours = self.function.__module__.startswith(_DEFINITIONS)
        return numba.cfunc(SIGNATURE, cache=ours, error_model="numpy")(self.function)

    @functools.cached_property
    def code(self) -> str:
        """Sixteen hex digits over the function's source and that of the helpers and constants it names."""
        return hashlib.sha256("\n".join(_sources(self.function, set())).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A feature as a config names it."""

    name: str
    feature: Feature
    number: int  # the integer of its name, 0 without one
    alias: str | None

    @property
    def lookback(self) -> int:
        """Earlier bars it reads."""
        return self.number if self.feature.window is None else self.feature.window

    def describe(self) -> dict[str, Any]:
        """Everything a model that was trained on the feature relies on."""
        f = self.feature
        return {
            "name": self.name,
            "unit": f.unit,
            "window": self.lookback,
            "definition": f.definition,
            "code": f.code,
            "source": f.source,
            "needs": list(f.needs),
        }


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


def choose(name: str) -> Chosen:
    """The feature that ``name`` means.

    Raises
    ------
    ValueError
        If there is none, with the nearest three; or its integer is too small or too large.
    """
    base, _, alias = name.partition("@")
    for declared in features():
        match = re.fullmatch(re.escape(declared.pattern).replace(r"\{w\}", r"(\d+)"), base)
        if match is None:
            continue
        number = int(match[1][:20]) if match.groups() else 0
        if match.groups() and not declared.least <= number <= _MOST:
            raise ValueError(
                f"feature {shown(name)}: its number must be at least {declared.least} and at most {_MOST:,}"
            )
        if declared.pair and not alias:
            raise ValueError(f"feature {name!r} compares two streams: write {base}@<the other stream>")
        return Chosen(name, declared, number, alias or None)
    known = [f.pattern for f in features()]
    plain = {re.sub(r"\{w\}", "", pattern): pattern for pattern in known}
    near = difflib.get_close_matches(re.sub(r"\d+$", "", base), plain, n=3, cutoff=0.0)
    hint = ", ".join(plain[match] for match in near)
    note = " ({w} is a number)" if "{w}" in hint else ""
    raise ValueError(
        f"no feature {shown(name)}; nearest: {hint}{note}; `beaufort features --list` shows them all"
    )


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


def schema_hash(chosen: list[Chosen], bars: dict[str, Any]) -> str:
    """sha256 over names, definitions, code and bars: equal where models may be exchanged."""
    text = repr([sorted(c.describe().items()) for c in chosen]) + repr(sorted(bars.items()))
    return hashlib.sha256(text.encode()).hexdigest()
