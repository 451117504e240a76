"""What a config means by the name of a feature: a declared one, another stream's, a transform of one.

    name   = NAME [ "@" ALIAS ] | TRANSFORM "(" name ", " BARS ")"

There is one way to write each, so that one name is one column: ``zscore(log_return_10@spot, 1440)``.
"""

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.settings import shown
from features.registry import Feature, features
from features.transforms import TRANSFORMS, Transform

_MOST = 100_000  # bars of statistics are kept in memory for the longest window
_DEEPEST = 5
_CALL = re.compile(r"([A-Za-z_]\w*)\((.+), (\d+)\)")
_NEARLY = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.+),\s*([^,()]*?)\s*\)\s*")
_LIST = "`beaufort features --list` shows them all"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A feature as a config names it."""

    name: str
    feature: Feature  # the declared one, also under a transform
    number: int  # the integer of its name, 0 without one; of a transform its bars
    alias: str | None
    transform: Transform | None = None
    of: "Chosen | None" = None  # what a transform is of

    @property
    def lookback(self) -> int:
        """Earlier bars it reads."""
        if self.transform is not None and self.of is not None:
            return self.of.lookback + self.transform.earlier(self.number)
        return self.number if self.feature.window is None else self.feature.window

    def describe(self) -> dict[str, Any]:
        """Everything a model that was trained on the feature relies on."""
        if self.transform is not None and self.of is not None:
            t, of = self.transform, self.of.describe()
            return of | {
                "name": self.name,
                "unit": t.unit or of["unit"],
                "window": self.lookback,
                "definition": f"{t.definition}; x: {of['definition']}",
                "code": hashlib.sha256(f"{t.code} {of['code']}".encode()).hexdigest()[:16],
                "source": "; ".join(filter(None, (t.source, of["source"]))),
            }
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


def choose(name: str) -> Chosen:
    """The feature that ``name`` means.

    Raises
    ------
    ValueError
        If there is none, with the nearest; or its integer is too small or too large.
    """
    if "(" in name or ")" in name:
        return _transformed(name)
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
    raise ValueError(f"no feature {shown(name)}; nearest: {hint}{note}; {_LIST}")


def _transformed(name: str) -> Chosen:
    match = _CALL.fullmatch(name)
    if match is None:
        raise ValueError(f"feature {shown(name)}: {_how_to_write(name)}")
    if name.count("(") > _DEEPEST:
        raise ValueError(f"feature {shown(name)}: transforms may be nested {_DEEPEST} deep")
    called, number = match[1], int(match[3][:20])
    declared = TRANSFORMS.get(called)
    if declared is None:
        (near,) = difflib.get_close_matches(called, TRANSFORMS, n=1, cutoff=0.0)
        raise ValueError(f"feature {shown(name)}: no transform {called!r}; nearest: {near}; {_LIST}")
    of = choose(match[2])
    fixed = declared.earlier(0)
    most = (_MOST - of.lookback - fixed) // (declared.earlier(1) - fixed)
    if not declared.least <= number <= most:
        raise ValueError(
            f"feature {shown(name)}: its number must be at least {declared.least} and at most {most:,}"
        )
    return Chosen(name, of.feature, number, of.alias, declared, of)


def _how_to_write(name: str) -> str:
    nearly = _NEARLY.fullmatch(name)
    if nearly is not None and nearly[3].isdecimal():
        return f"write {nearly[1]}({nearly[2].strip()}, {int(nearly[3][:20])})"
    if nearly is not None:
        return f"{nearly[3]!r} is no number of bars"
    return "a transform is written NAME(FEATURE, BARS), such as zscore(spread@spot, 1440)"


def computed(chosen: Sequence[Chosen]) -> list[Chosen]:
    """What has to be computed for ``chosen``, each once: before a transform what it is of."""
    found: dict[str, Chosen] = {}
    for one in chosen:
        chain = [one]
        while (of := chain[-1].of) is not None:
            chain.append(of)
        for part in reversed(chain):
            found.setdefault(part.name, part)
    return list(found.values())


def schema_hash(chosen: Sequence[Chosen], bars: Mapping[str, object]) -> str:
    """sha256 over names, definitions, code and bars: equal where models may be exchanged."""
    text = repr([sorted(c.describe().items()) for c in chosen]) + repr(sorted(bars.items()))
    return hashlib.sha256(text.encode()).hexdigest()
