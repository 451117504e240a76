"""Configs with one value mutated: a walk along the JSON schema and a config that spells every key out."""

import copy
import random
from collections.abc import Iterator
from datetime import date
from typing import Any, NamedTuple

from engine.config import RunConfig
from engine.config.schema import schema

Path = tuple[str, ...]


class Mutant(NamedTuple):
    """One mutation: what was done, at which key, and the whole config."""

    what: str
    at: Path
    tree: dict[str, Any]


_HUGE_TEXT = "x" * 5_000
_ANY: dict[str, Any] = {
    "true": True,
    "zero": 0,
    "minus one": -1,
    "one": 1,
    "fraction": 0.5,
    "ten to the 22": 10**22,
    "1e300": 1e300,
    "1e-300": 1e-300,
    "nan": float("nan"),
    "inf": float("inf"),
    "empty text": "",
    "text": "x",
    "unicode": "ünï☃ 雪",
    "long text": _HUGE_TEXT,
    "percent": "5%",
    "empty list": [],
    "list of lists": [[]],
    "list of wrong things": [None.__class__.__name__, 3, {"a": True}],
    "empty table": {},
    "table": {"a": 1},
    "date": date(2026, 1, 5),
}
_DURATIONS = ["50", "-5m", "0s", "1ns", "1ms", "7s", "36500d", "10000000000000000000000d", "1e3s", "\uff11s"]
_TIMES = [
    1970,
    -1,
    "9999-01-01",
    "1970-01-01",
    "1969-12-31",
    "2262-01-01",
    "2026-13-01",
    "2026-01-05T00:00:00+25:00",
]
_TEXTS = [
    "nowhere",
    "../..",
    "/dev/null",
    "/proc/self/mem",
    "A.B",
    "a/b",
    "log_return_1",
    "1 USDT",
    "-1 USDT",
    "1e300 BTC",
]
_FEATURES = [
    ["log_retrun_1"],
    ["log_return_0"],
    ["log_return_100001"],
    ["log_return_99999999999999999999999"],
    ["log_return_1", "log_return_1"],
    ["log_return_1@nobody"],
    ["basis"],
    ["log_return_1", "realized_volatility_2000"],
    ["series_value"],
    ["time_of_day_sin", "time_of_day_cos"],
]


def mutants(base: dict[str, Any], files: list[str]) -> Iterator[Mutant]:
    """Every mutation of ``base``, which spells every key out; ``files`` are put where text stands."""
    tree = schema(RunConfig)
    yield from _walk(base, (), tree, tree["$defs"], base, files)


def sample(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """``count`` of them, the same for the same seed, of every key about as many."""
    rng = random.Random(seed)
    by_key: dict[Path, list[Mutant]] = {}
    for mutant in found:
        by_key.setdefault(mutant.at, []).append(mutant)
    for group in by_key.values():
        rng.shuffle(group)
    chosen: list[Mutant] = []
    while len(chosen) < count and any(by_key.values()):
        for group in by_key.values():
            if group:
                chosen.append(group.pop())
    return chosen[:count]


def _walk(
    base: dict[str, Any], at: Path, place: dict[str, Any], defs: dict[str, Any], node: Any, files: list[str]
) -> Iterator[Mutant]:
    place = _resolved(place, defs, node)
    if not isinstance(node, dict):
        return
    yield Mutant("unknown key", at, _changed(base, (*at, "wobble"), 1))
    for key, value in node.items():
        inner = place.get("properties", {}).get(key) or place.get("additionalProperties")
        if not isinstance(inner, dict):
            (inner,) = place.get("patternProperties", {"": {}}).values()
        here = (*at, key)
        yield Mutant("deleted", here, _changed(base, here, ...))
        for what, other in _values(_resolved(inner, defs, value), inner, value, files):
            yield Mutant(what, here, _changed(base, here, other))
        if "properties" not in place:  # a table with names of its own
            for name in ("9x", "ünï", "a b", "", "x" * 300):
                renamed = {name if k == key else k: v for k, v in node.items()}
                yield Mutant(f"renamed {name[:9]!r}", here, _changed(base, at, renamed))
            yield Mutant("twice", here, _changed(base, at, {**node, f"{key}2": copy.deepcopy(value)}))
        yield from _walk(base, here, inner, defs, value, files)
    if {"start", "end"} <= set(node):
        swapped = {**node, "start": node["end"], "end": node["start"]}
        yield Mutant("swapped", at, _changed(base, at, swapped) if at else base)


def _values(
    place: dict[str, Any], declared: dict[str, Any], value: Any, files: list[str]
) -> Iterator[tuple[str, Any]]:
    yield from _ANY.items()
    options = [place, *place.get("anyOf", ()), *declared.get("anyOf", ())]
    for option in options:
        for bound in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
            if bound in option:
                limit = option[bound]
                for factor in (0.5, 1, 2):
                    changed = limit * factor
                    yield (
                        f"{factor} of {bound}",
                        int(changed) if option["type"] == "integer" else float(changed),
                    )
        for word in option.get("enum", ()):
            yield f"enum {word}", word
            yield f"misspelt {word}", f"{word}x"
        unit = option.get("unit", "")
        if unit.startswith("a duration"):
            yield from ((f"duration {text}", text) for text in _DURATIONS)
        if unit.startswith("an ISO"):
            yield from ((f"time {text}", text) for text in _TIMES)
    if isinstance(value, str):
        yield from ((f"text {text}", text) for text in [*_TEXTS, *files])
    if isinstance(value, bool):
        yield "the other", not value
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield "as text", str(value)
        yield from ((f"{factor} times", type(value)(value * factor)) for factor in (0.1, 0.5, 2, 10, 1_000))
    if isinstance(value, list):
        yield from ((f"features {names}", names) for names in _FEATURES)
        if value:
            yield "twice each", [*value, *value]
            yield "one less", value[1:]
    if isinstance(value, dict) and "kind" in value:
        for kind in (
            "hmm",
            "rules",
            "egarch",
            "garch",
            "ewma",
            "har",
            "tcn",
            "linear",
            "logistic",
            "lstm",
            "grid",
            "momentum",
        ):
            yield f"kind {kind}", {"kind": kind}
        yield "kind without sense", {"kind": "hmmm"}
        for kind in ("volume", "dollar"):
            yield f"{kind} bars", {"kind": kind, "size": 3.0}


def _resolved(place: dict[str, Any], defs: dict[str, Any], value: Any) -> dict[str, Any]:
    """``place`` without references and unions, as ``value`` stands in it."""
    for option in place.get("anyOf", ()):
        if option.get("type") != "null":
            return _resolved({**place, **option, "anyOf": ()}, defs, value)
    if "discriminator" in place and isinstance(value, dict):
        place = {"$ref": place["discriminator"]["mapping"].get(value.get("kind"), "")}
    if place.get("$ref"):
        return defs[place["$ref"].removeprefix("#/$defs/")]
    return place


def _changed(base: dict[str, Any], at: Path, value: Any) -> dict[str, Any]:
    """``base`` with another value at a key, or without the key where it is ``...``."""
    tree = copy.deepcopy(base)
    node = tree
    for key in at[:-1]:
        node = node[key]
    if not at:
        return value
    if value is ...:
        del node[at[-1]]
    else:
        node[at[-1]] = copy.deepcopy(value)
    return tree
