"""Families of settings told apart by ``kind``: how kinds are found, and how a config's table becomes one.

A field of a family's type takes every kind that is known when a config is read, those of plugins too.
"""

import functools
import importlib
import pkgutil
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from core.settings import Settings


def tags(model: type[Settings]) -> tuple[str, ...]:
    """The values of ``kind`` that mean ``model``, whether or not it has a default."""
    field = model.model_fields.get("kind")
    annotation = field.annotation if field is not None else None
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


class Family(Settings):
    """The base of a family's base: ``class RegimeSettings(Family)`` begins one.

    A kind is a subclass with ``kind: Literal["name"] = "name"``. What has none is a base, and read as that
    kind of its subclasses which ``kind`` names.
    """

    verbs: ClassVar[tuple[str, ...]] = ()
    """What every kind must write itself."""

    kind: str
    """Which of the family it is."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Asked at validation, not when the model that has the field is made: plugins come later than that.
        return handler(source) if tags(cls) else core_schema.no_info_plain_validator_function(cls._choose)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema if tags(cls) else _adapter(kinds_of(cls)).core_schema)

    @classmethod
    def _choose(cls, value: Any) -> Self:
        chosen: Self = _adapter(kinds_of(cls)).validate_python(value)
        return chosen


@functools.cache
def _adapter(kinds: tuple[type[Family], ...]) -> TypeAdapter[Any]:
    union: Any = Union[kinds]  # noqa: UP007
    if len(kinds) > 1:
        union = Annotated[union, Field(discriminator="kind")]
    return TypeAdapter(union)


def kinds_of[F: Family](family: type[F]) -> tuple[type[F], ...]:
    """Every kind of ``family`` that is known, by the names of their classes.

    Raises
    ------
    ValueError
        If a class has no ``kind``, or another's, or lacks one of the family's verbs; it is named with its
        module.
    """
    owners: dict[str, str] = {}
    found = []
    for cls in sorted(dict.fromkeys(_derived(family)), key=lambda c: c.__name__):
        where = f"{cls.__module__}.{cls.__qualname__}"
        names = tags(cls)
        if not names:
            if cls.__subclasses__():
                continue
            raise ValueError(
                f'{where}: has no kind of its own; give it one, as kind: Literal["name"] = "name"'
            )
        for name in names:
            if name in owners:
                raise ValueError(f"{where}: kind {name!r} is that of {owners[name]}; give it another")
            owners[name] = where
        for verb in cls.verbs:
            if getattr(cls, verb) is getattr(family, verb):
                raise ValueError(f"{where}: has no {verb!r}; write it as {family.__name__}.{verb} says")
        found.append(cls)
    return tuple(found)


def by_kind[F: Family](family: type[F]) -> dict[str, type[F]]:
    """The kinds of ``family`` by the names that a config has for them."""
    return {name: cls for cls in kinds_of(family) for name in tags(cls)}


def members(annotation: Any) -> list[type[Settings]]:
    """The settings that may stand where a field's ``annotation`` does."""
    if isinstance(annotation, type):
        if issubclass(annotation, Family) and not tags(annotation):
            return [*kinds_of(annotation)]
        return [annotation] if issubclass(annotation, Settings) else []
    if isinstance(annotation, typing.TypeAliasType):
        return members(annotation.__value__)
    return [member for argument in typing.get_args(annotation) for member in members(argument)]


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that the kinds in it are known."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def _derived[F: Family](family: type[F]) -> Iterator[type[F]]:
    for cls in family.__subclasses__():
        yield cls
        yield from _derived(cls)
