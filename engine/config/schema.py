"""What configs may say, for people and for their editors: a JSON schema with a text, a unit and a default for
every key, and the list of kinds."""

from collections.abc import Iterator
from typing import Any

from core.kinds import members, tags
from core.settings import Settings
from features.registry import features
from features.transforms import TRANSFORMS


def schema(model: type[Settings]) -> dict[str, Any]:
    """The JSON schema of ``model``, for editors that read ``#:schema`` (taplo, Even Better TOML).

    A key's unit stands under ``unit`` and at the end of its description; a ``kind`` is described by the first
    sentence of its settings.
    """
    tree = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    for table in tables(tree):
        for name, key in table.get("properties", {}).items():
            if "description" in key:
                key["description"] = " ".join(key["description"].replace("``", "`").split())
            elif name == "kind":
                key["description"] = first_sentence(table["description"])
            places = [key, *key.get("anyOf", ()), key.get("items", {}), key.get("additionalProperties", {})]
            units = [place["unit"] for place in places if isinstance(place, dict) and "unit" in place]
            if units:
                key["unit"] = units[0]
                key["description"] = f"{key['description']} ({units[0]})"
    return tree


def tables(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of all tables in a schema."""
    return [tree, *tree.get("$defs", {}).values()]


def first_sentence(text: str) -> str:
    """``text`` up to its first full stop at the end of a word, on one line."""
    head, stop, _ = " ".join(text.replace("``", "`").split()).partition(". ")
    return head + "." if stop else head


def kinds() -> Iterator[tuple[str, str, str]]:
    """Every kind that a config or a mapping may name: where it is written, its name, what it is."""
    from catalogs.imports.mapping import ImportMapping
    from engine.config import RunConfig
    from strategies.sizing import SizingSettings

    for model, key, place in (
        (RunConfig, "bars", "bars"),
        (RunConfig, "regime", "regime"),
        (RunConfig, "volatility", "volatility"),
        (RunConfig, "forecast", "forecast"),
        (RunConfig, "strategies", "strategies.NAME"),
        (SizingSettings, "rules", "strategies.NAME.sizing.rules"),
        (ImportMapping, "table", "[[table]] of a mapping"),
    ):
        for member in members(model.model_fields[key].annotation):
            for name in tags(member):
                yield place, name, first_sentence(member.__doc__ or "")


def list_kinds() -> str:
    """``kinds`` as the terminal shows them."""
    listed = list(kinds())
    width = max(len(name) for _, name, _ in listed)
    lines: list[str] = []
    last = ""
    for place, name, text in listed:
        lines += [place] if place != last else []
        lines.append(f"  {name:{width}}  {text}")
        last = place
    return "\n".join(lines)


def list_features() -> str:
    """Every feature as the terminal shows it: what it is, its unit, window and needs."""
    lines = [
        "{w} in a name stands for a number. NAME@ALIAS reads another stream or series.",
        "The transforms at the end are of any FEATURE, also of one that is transformed already.",
        "",
    ]
    for feature in features():
        lines += [
            f"{feature.pattern}{'@ALIAS' if feature.pair or 'series' in feature.needs else ''}",
            f"  {feature.definition}" + (f" ({feature.source})" if feature.source else ""),
            f"  unit: {feature.unit}; window: {'{w}' if feature.window is None else feature.window} bars; "
            f"needs: {', '.join(feature.needs)}",
        ]
    for name, transform in sorted(TRANSFORMS.items()):
        lines += [
            f"{name}(FEATURE, {{w}})",
            f"  {transform.definition}" + (f" ({transform.source})" if transform.source else ""),
            f"  unit: {transform.unit or 'that of x'}; needs: what x needs",
        ]
    return "\n".join(lines)
