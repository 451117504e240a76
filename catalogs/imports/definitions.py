"""Instruments that change: the definitions that a catalog holds of each, and which rows are of which."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from catalogs.imports.base import MappingError
from catalogs.instruments import CONTRACT, Instrument, changes
from catalogs.layout import SCHEMAS, file_range, files, folder, identifiers
from catalogs.reader import History, read_definitions
from core.settings import format_time


def merge_definitions(catalog: Path, new: Iterable[Instrument]) -> tuple[History, list[Instrument]]:
    """The catalog's definitions and the new ones, and those of them that have to be written.

    Raises MappingError where a new one contradicts another that holds since the same moment, or rows that
    are in the catalog already: which came first does not decide what is true.
    """
    history, added = read_definitions(catalog), []
    for item in new:
        known = history.setdefault(str(item.id), [])
        same = [other for other in known if other.ts_init == item.ts_init]
        if not same:
            known.append(item)
            known.sort(key=lambda other: other.ts_init)
            added.append(item)
        elif different := changes(same[0], item) or _remarks(same[0], item):
            raise MappingError(
                f"{item.id}: {catalog} defines it {_since(item)} with {_told(different, 0)}, the mapping "
                f"with {_told(different, 1)}; if it changed, give the later definition its valid_from; if "
                "not, make the mappings agree, or import into a new catalog"
            )
    for item in added:
        _refuse_contradiction(catalog, history[str(item.id)], item)
    return history, added


def segments(known: list[Instrument]) -> list[Instrument]:
    """Those of an instrument's definitions at which its data begin anew: its precision, and with it how
    prices and sizes are rounded, or its contract is another."""
    return known[:1] + [item for before, item in pairwise(known) if _another(before, item)]


def _another(before: Instrument, item: Instrument) -> bool:
    return bool(changes(before, item, CONTRACT)) or _precision(before) != _precision(item)


def _precision(item: Instrument) -> tuple[int, int]:
    return item.price_precision, item.size_precision


def _refuse_contradiction(catalog: Path, known: list[Instrument], item: Instrument) -> None:
    """Raise MappingError where rows of the time of ``item`` were written by another definition."""
    at = [other.ts_init for other in known].index(item.ts_init)  # instruments are equal where their ids are
    end = known[at + 1].ts_init if at + 1 < len(known) else 2**63 - 1
    another = at > 0 and _another(known[at - 1], item)
    for data_type in SCHEMAS:
        for name in identifiers(catalog, data_type) if data_type != "series" else ():
            if not _is_of(name, str(item.id).replace("/", "")):
                continue
            for path in files(catalog, data_type, name):
                first, last = file_range(path)
                metadata = pq.read_schema(path).metadata or {}
                written = (metadata.get(b"price_precision"), metadata.get(b"size_precision"))
                agrees = all(
                    places is None or int(places) == now
                    for places, now in zip(written, _precision(item), strict=True)
                )
                crosses = another and first < item.ts_init
                if last >= item.ts_init and first < end and (not agrees or crosses):
                    raise MappingError(
                        f"{item.id}: {folder(catalog, data_type, name)} holds rows that were imported before "
                        f"it was known that another definition holds {_since(item)}: import all into a new "
                        "catalog, with every definition in the mapping that comes first"
                    )


def _is_of(name: str, identifier: str) -> bool:
    return name == identifier or name.startswith(f"{identifier}-")


def _remarks(before: Instrument, item: Instrument) -> dict[str, tuple[object, object]]:
    """What the engine does not count with, and a mapping says all the same."""
    pairs = {
        "raw_symbol": (str(before.raw_symbol), str(item.raw_symbol)),
        "fees": (_fees(before), _fees(item)),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _fees(item: Instrument) -> str:
    info = item.info or {}
    return f"{info.get('maker_fee')} and {info.get('taker_fee')}"


def _told(different: dict[str, tuple[object, object]], which: int) -> str:
    return ", ".join(f"{name} {pair[which]}" for name, pair in different.items())


def _since(item: Instrument) -> str:
    return f"from {format_time(item.ts_init)} on" if item.ts_init else "from the beginning"
