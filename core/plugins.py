"""A user's own parts: the packages that a config names under ``plugins``, imported so that their kinds and
features are known like those of the house."""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numba
from pydantic import AfterValidator, Field

from core.kinds import Family, kinds_of
from core.settings import Settings

_Name = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]


def import_plugins(names: tuple[str, ...]) -> tuple[str, ...]:
    """Import every module of the named packages but a ``__main__``; gives ``names`` on, as a validator does.

    Raises
    ------
    ValueError
        If one is not there or cannot be imported, or two parts have one kind: with the place and what to do.
    """
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)  # behind all others: a file in it hides nothing of the house
    for name in names:
        with _cache_of(name):
            _import_all(name, sources(name))
    for family in Family.__subclasses__() if names else ():
        kinds_of(family)
    return names


Plugins = Annotated[tuple[_Name, ...], AfterValidator(import_plugins)]
"""Packages of a user's own. Fields are read in order: this one stands before those that name their kinds."""


class PluginSettings(Settings, extra="ignore"):
    """The plugins that a file of settings names, whatever else it says."""

    plugins: Plugins = ()


def plugin_code(names: tuple[str, ...]) -> dict[str, str]:
    """A sha256 over the sources of each plugin."""
    return {name: _digest(sources(name)) for name in names}


def sources(name: str) -> list[Path]:
    """The Python files of the package that ``name`` is or lies in, found where Python looks.

    Raises
    ------
    ValueError
        If there is none.
    """
    spec = importlib.util.find_spec(name.partition(".")[0])
    if spec is None:
        raise ValueError(
            f"no package {name!r}, neither among those installed nor in the current folder, {Path.cwd()}; "
            "install it, or run from the folder that it lies in"
        )
    if spec.submodule_search_locations is None:
        return [Path(str(spec.origin))]
    return sorted(path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.py"))


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


@contextlib.contextmanager
def _cache_of(name: str) -> Iterator[None]:
    """Compiled loops of a plugin are kept apart by all of its sources, as those of the house are by theirs
    (see ``core``)."""
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    if "NUMBA_CACHE_DIR" not in os.environ:
        numba.config.CACHE_DIR = f"{before}-{_digest(sources(name))[:16]}"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


def _import_all(name: str, files: list[Path]) -> None:
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        own = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) in files]
        if isinstance(error, SyntaxError):
            place = f" ({error.filename}, line {error.lineno})"
        else:
            place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        why = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
        raise ValueError(f"{name} cannot be imported: {why}{place}; mend it, or take it out") from error
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if not found.name.endswith(".__main__"):  # a program, not a part
            _import_all(found.name, files)
