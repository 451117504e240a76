"""Kinds of settings are found wherever they derive from, and what is wrong with one is said of its class."""

import typing
from typing import Literal

import pytest

from core.settings import Settings, union_of_kinds


def _base() -> type[Settings]:
    class Base(Settings):
        def fit(self) -> None:
            raise NotImplementedError

    return Base


def _one(base: type[Settings]) -> type[Settings]:
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

    assert typing.get_args(union_of_kinds(base, "fit")) == (Another, one)


def test_a_class_without_a_kind_that_others_derive_from_is_no_kind() -> None:
    base = _base()

    class Shared(base):  # type: ignore[valid-type,misc]
        width: int = 1

    one = _one(Shared)
    assert union_of_kinds(base, "fit") is one


def test_a_kind_that_is_any_text_is_refused() -> None:
    base = _base()

    class Loose(base):  # type: ignore[valid-type,misc]
        kind: str = "loose"

    with pytest.raises(ValueError, match=r'test_settings\..*Loose: has no kind .* kind: Literal\["name"\]'):
        union_of_kinds(base, "fit")


def test_two_classes_of_one_kind_are_refused() -> None:
    base = _base()
    one = _one(base)

    class Two(one):  # type: ignore[valid-type,misc]
        pass

    with pytest.raises(
        ValueError, match=r"Two: kind 'one' is that of .*test_settings\..*One; give it another"
    ):
        union_of_kinds(base, "fit")


def test_a_kind_without_what_it_must_do_is_refused() -> None:
    base = _base()

    class Idle(base):  # type: ignore[valid-type,misc]
        kind: Literal["idle"] = "idle"

    with pytest.raises(ValueError, match=r"Idle: has no 'fit'; write it as Base.fit says"):
        union_of_kinds(base, "fit")
