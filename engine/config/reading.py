"""TOML files read into typed settings, with every error of a file listed at once."""

import difflib
import json
import os
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
import tomli_w

from core.errors import BeaufortError
from core.kinds import members, tags
from core.settings import Settings, format_duration, shown


def load_settings[T: Settings](model: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into ``model``; see ``load_config``."""
    try:
        tree = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise BeaufortError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BeaufortError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except (ValueError, RecursionError) as error:  # also of a number of five thousand digits
        raise BeaufortError(f"{path}: not valid TOML: {error}") from None
    return settings_from(model, str(path), tree, overrides)


def settings_from[T: Settings](
    model: type[T], origin: str, tree: dict[str, Any], overrides: Sequence[str]
) -> T:
    """``tree`` with ``overrides`` applied, as ``model``; ``origin`` names the source in errors."""
    for override in overrides:
        _apply(tree, override)
    try:
        return model.model_validate(tree)
    except pydantic.ValidationError as error:
        errors = error.errors()
        # Without a plugin's parts the rest cannot be judged.
        told = [e for e in errors if e["loc"][:1] == ("plugins",)] or errors
        problems = [_describe(model, e) for e in told]
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise BeaufortError("\n".join([f"{origin}: {count}", *(f"  {p}" for p in problems)])) from None


def to_toml(settings: Settings) -> str:
    """The resolved settings, defaults included, as TOML that reads back to the same."""
    return tomli_w.dumps(json.loads(settings.model_dump_json(exclude_none=True)))


def _apply(tree: dict[str, Any], override: str) -> None:
    try:
        override = os.fsencode(override).decode()  # text of a terminal that calls itself ASCII
    except UnicodeError:
        raise BeaufortError(f"--set {override!r}: is not UTF-8 text") from None
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise BeaufortError(f"--set {override!r}: write path.to.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is a string, so that --set name=abc needs no quotes
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise BeaufortError(f"--set {override!r}: {parent!r} is a value, not a table")
    node[last] = value


def _describe(model: type[Settings], error: Any) -> str:
    loc = error["loc"]
    place, _ = _walk(model, loc)
    if error["type"] == "extra_forbidden":
        table, here = _walk(model, loc[:-1])
        known = [name for member in here for name in member.model_fields]
        others = [m for m in _walk(model, loc[:-2])[1] if loc[-1] in m.model_fields and m not in here]
        kinds = [tag for other in others for tag in tags(other)]
        if kinds and any(loc[-2] in tags(member) for member in here):
            whole = f"--set '{table}={{kind=\"{loc[-2]}\"}}'"
            belongs = " and ".join(repr(kind) for kind in kinds)
            return f"{place}: belongs to kind {belongs}, not {loc[-2]!r}; to set the whole table: {whole}"
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"{place}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{place}: missing; this key is required"
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["tag"]
        known = [name for member in _walk(model, loc)[1] for name in tags(member)]
        near = difflib.get_close_matches(tag, known, n=1)
        names = ", ".join(map(repr, dict.fromkeys([*near, *known])))
        return f"{place}.kind: {shown(tag)} is not one of {names}"
    if error["type"] in _BOUNDS:
        return f"{place}: {_bound(error, _unit(model, loc))}"
    message = _SHAPES.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    if len(message) > 400:  # a library's, with all of the value in it
        message = f"{message[:100]} … {message[-50:]}"
    if error["type"] in ("float_type", "float_parsing") and "5 %" in _unit(model, loc):
        message += "; it is a fraction: 5 % is 0.05"
    value = error["input"]
    got = (
        "" if isinstance(value, dict | list | tuple) or shown(value) in message else f" (got {shown(value)})"
    )
    return f"{place}: {message}{got}" if place else f"{message}{got}"


_SHAPES = {
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "path_type": "must be a path, as text",
    "string_type": "must be text",
}
"""What pydantic calls by Python's names."""

_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def _bound(error: Any, unit: str) -> str:
    """What is said of a number outside its bounds, in the unit that people write."""
    words, key = _BOUNDS[error["type"]]
    limit, value = error["ctx"][key], error["input"]
    if unit.startswith("a duration"):
        got = format_duration(value) if isinstance(value, int) else value
        return f"must be {words} {format_duration(limit)} (got {got})"
    text = f"must be {words} {limit if isinstance(limit, int) else f'{limit:.15g}'} (got {shown(value)})"
    if "5 %" in unit and isinstance(value, int | float) and abs(value) >= 1:
        text += f"; it is a fraction: {value:g} % is {value / 100:g}"
    return text


def _unit(model: Any, loc: tuple[Any, ...]) -> str:
    """The unit of the number at ``loc``, or ``""``."""
    *table, key = loc
    for member in _walk(model, tuple(table))[1]:
        schema = member.model_json_schema()["properties"].get(key, {}) if key in member.model_fields else {}
        for place in (schema, *schema.get("anyOf", ())):
            if "unit" in place:
                return str(place["unit"])
    return ""


def _walk(model: Any, loc: tuple[Any, ...]) -> tuple[str, list[type[Settings]]]:
    """``loc`` as it is written in the file, and the models that may stand there; pydantic also puts tags of
    unions into it."""
    written: list[str] = []
    for part in loc:
        while typing.get_origin(model) is Annotated:
            model = typing.get_args(model)[0]
        arguments = [a for a in typing.get_args(model) if a is not Ellipsis]
        choices = members(model)
        tagged = [member for member in choices if part in tags(member)]
        if typing.get_origin(model) in (dict, tuple, list):
            model = arguments[-1]
        elif tagged and len(choices) > 1:
            model = tagged[0]
            continue
        else:
            field = next((m.model_fields[part] for m in choices if part in m.model_fields), None)
            model = field.annotation if field else None
        written.append(str(part))
    return ".".join(written), members(model)
