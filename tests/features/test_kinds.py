"""Kinds of settings are found wherever they derive from, and what is wrong with one is said of its class."""

from typing import ClassVar, Literal

import pytest

from core.kinds import Family, kinds_of
from core.settings import Settings


def _base() -> type[Family]:
    class Base(Family):
        verbs: ClassVar[tuple[str, ...]] = ("fit",)

        def fit(self) -> None:
            raise NotImplementedError

    return Base


def _one(base: type[Family]) -> type[Family]:
    class One(base):  # type: ignore[valid-type,misc]
        kind: Literal["one"] = "one"

        def fit(self) -> None:
            pass

    return One


def test_a_kind_derived_from_another_is_found() -> None:
    base = _base()
    one = _one(base)

    class Another(one):  # type: ignore[valid-type,misc]
        kind: Literal["another"] = "another"

    assert kinds_of(base) == (Another, one)


def test_a_class_without_a_kind_that_others_derive_from_is_no_kind() -> None:
    base = _base()

    class Shared(base):  # type: ignore[valid-type,misc]
        width: int = 1

    one = _one(Shared)
    assert kinds_of(base) == (one,)


def test_a_kind_that_is_any_text_is_refused() -> None:
    base = _base()

    class Loose(base):  # type: ignore[valid-type,misc]
        kind: str = "loose"

    with pytest.raises(ValueError, match=r'test_kinds\..*Loose: has no kind .* kind: Literal\["name"\]'):
        kinds_of(base)


def test_two_classes_of_one_kind_are_refused() -> None:
    base = _base()
    one = _one(base)

    class Two(one):  # type: ignore[valid-type,misc]
        pass

    with pytest.raises(ValueError, match=r"Two: kind 'one' is that of .*test_kinds\..*One; give it another"):
        kinds_of(base)


def test_a_kind_without_what_it_must_do_is_refused() -> None:
    base = _base()

    class Idle(base):  # type: ignore[valid-type,misc]
        kind: Literal["idle"] = "idle"

    with pytest.raises(ValueError, match=r"Idle: has no 'fit'; write it as Base.fit says"):
        kinds_of(base)


def test_a_kind_that_comes_after_the_config_is_found_in_it() -> None:
    base = _base()
    one = _one(base)  # kept: a base knows its kinds only as long as somebody else does

    class Config(Settings):
        part: base  # type: ignore[valid-type]
        named: dict[str, base]  # type: ignore[valid-type]

    assert "late" not in str(Config.model_json_schema())

    class Late(base):  # type: ignore[valid-type,misc]
        kind: Literal["late"] = "late"
        width: int = 2
        inner: base | None = None  # type: ignore[valid-type]

        def fit(self) -> None:
            pass

    tree = {"part": {"kind": "late", "inner": {"kind": "one"}}, "named": {"a": {"kind": "late", "width": 3}}}
    read = Config.model_validate(tree)
    assert isinstance(read.part, Late)
    assert isinstance(read.part.inner, one)
    assert (read.part.width, read.part.inner.kind, read.named["a"].width) == (2, "one", 3)
    assert Config.model_validate(read.model_dump(mode="json")) == read
    wrong = {"part": {"kind": "late", "inner": {"kind": "la"}}, "named": {"a": {"kind": "late", "width": ""}}}
    with pytest.raises(ValueError, match=r"part.late.inner\n.*'la'.* 'late', 'one'(.|\n)*named.a.late.width"):
        Config.model_validate(wrong)
