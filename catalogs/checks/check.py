"""Quality checks of a catalog: what is wrong with each feed, how often, since when, what to do about it."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from nautilus_trader.model import BarType

from catalogs.checks.detectors import (
    Aggressors,
    Book,
    Check,
    Duplicates,
    EmptyValues,
    EventTimes,
    ImpossibleBars,
    LostBook,
    Order,
    Precisions,
    Quotes,
    Rates,
    SameIds,
)
from catalogs.checks.findings import CheckReport, FeedReport, Finding
from catalogs.checks.gaps import FundingGaps, RegularGaps, TickGaps
from catalogs.checks.prices import Curve, Frozen, Levels, OffMarket, Sampler, disagreement
from catalogs.instruments import Instrument
from catalogs.layout import DataType, times
from catalogs.reader import Catalog, read_definitions

_TICK_TYPES: tuple[DataType, ...] = ("trades", "quotes", "deltas")
_REGULAR_TYPES: tuple[DataType, ...] = ("bars", "mark", "index", "funding", "series")
_OFF: dict[DataType, float] = {"trades": 0.005, "quotes": 0.1, "bars": 0.5, "mark": 0.1, "index": 0.1}
"""How far off its neighbours a price may be, at least."""


def check_catalog(path: Path, instrument: str | None = None) -> CheckReport:
    """Check every feed of the catalog at ``path``, or only those of one instrument.

    Looks for damaged files, gaps, duplicates, times that go back or cannot be, crossed and locked books,
    trades whose aggressor is always the same or unknown, prices that no market makes (far from their
    neighbours, frozen, shifted by a factor, of another scale than other feeds of the instrument), bars and
    rates that cannot be, and empty values. Reads each file once; in memory are, besides one batch, the times
    of regular feeds, samples of prices, and 8 bytes for each trade whose ids do not count on. Raises
    FileNotFoundError without a catalog, KeyError for an instrument it does not have.
    """
    catalog = Catalog(path)
    definitions: list[Instrument] = []
    damaged: list[FeedReport] = []
    try:
        definitions = [item for each in read_definitions(catalog.path).values() for item in each]
    except ValueError as error:
        damaged.append(_damaged("instruments", "instruments", error))
    checked = [
        _check_feed(catalog, identifier, data_type, definitions)
        for data_type in (*_TICK_TYPES, *_REGULAR_TYPES)
        for identifier in catalog.identifiers(data_type)
        if instrument is None or _belongs(identifier, data_type, instrument.replace("/", ""))
    ]
    if instrument is not None and not checked:
        known = sorted({i for kind in _TICK_TYPES for i in catalog.identifiers(kind)})
        raise KeyError(f"{path}: no data of {instrument}; there are ticks of: {', '.join(known) or 'none'}")
    feeds = [feed for feed, _ in checked]
    curves = [curve for _, curve in checked]  # in the order in which one would believe them
    for i, curve in enumerate(curves):
        found = None if curve is None else _disagreement(curve, curves[:i])
        if found is not None:
            feeds[i] = dataclasses.replace(feeds[i], findings=(*feeds[i].findings, found))
            curves[i] = None  # no feed is measured by it
    return CheckReport(Path(path), (*damaged, *feeds))


def _belongs(identifier: str, data_type: DataType, instrument: str) -> bool:
    if data_type == "bars":
        return identifier.startswith(f"{instrument}-")
    return identifier.rpartition("/")[2] == instrument


def _disagreement(curve: Curve, others: list[Curve | None]) -> Finding | None:
    """That with the first feed of the same instrument with which there is one."""
    for other in others:
        if other is not None and _instrument(other) == _instrument(curve):
            found = disagreement(curve, other)
            if found is not None:
                return found
    return None


def _instrument(curve: Curve) -> str:
    return curve.identifier if curve.data_type != "bars" else curve.identifier.rsplit("-", 4)[0]


def _check_feed(
    catalog: Catalog, identifier: str, data_type: DataType, definitions: list[Instrument]
) -> tuple[FeedReport, Curve | None]:
    try:
        first, last, rows = catalog.coverage(identifier, data_type)
        checks = _checks(catalog, identifier, data_type, definitions)
        for table in catalog.batches(identifier, data_type):
            ts = times(table["ts_init"])
            if len(ts):
                for check in checks:
                    check.add(table, ts)
    except (ValueError, KeyError) as error:
        return _damaged(identifier, data_type, error), None
    findings = tuple(finding for check in checks for finding in check.findings(rows))
    return FeedReport(identifier, data_type, rows, first, last, findings), _curve(checks, identifier)


def _damaged(identifier: str, data_type: DataType | Literal["instruments"], error: Exception) -> FeedReport:
    return FeedReport(identifier, data_type, 0, 0, 0, (Finding("damaged file", 1, 0, str(error.args[0])),))


def _checks(
    catalog: Catalog, identifier: str, data_type: DataType, definitions: list[Instrument]
) -> list[Check]:
    checks: list[Check] = [Order(), EventTimes(late=data_type != "series")]
    checks.append(SameIds() if data_type == "trades" else Duplicates())
    step = None
    if data_type == "bars":
        step = int(BarType.from_str(identifier).spec.timedelta.total_seconds() * 10**9)
    if data_type in _TICK_TYPES:
        checks.append(TickGaps())
    else:
        checks.append(FundingGaps() if data_type == "funding" else RegularGaps(step))
    name = identifier.rsplit("-", 4)[0] if data_type == "bars" else identifier
    known = [item for item in definitions if str(item.id).replace("/", "") == name.replace("/", "")]
    checks += [EmptyValues(data_type), Precisions(data_type, known)]
    if data_type in _OFF:
        checks += [OffMarket(data_type, _OFF[data_type]), Levels(data_type), Sampler(data_type)]
    if data_type in ("bars", "quotes", "mark", "index"):
        checks.append(Frozen(data_type, step))
    if data_type == "trades":
        checks.append(Aggressors())
    elif data_type == "bars":
        checks.append(ImpossibleBars())
    elif data_type == "funding":
        checks.append(Rates())
    elif data_type == "quotes":
        checks.append(Quotes())
    elif data_type == "deltas":
        known = known or catalog.definitions(identifier)  # which says what there is
        places = max(i.price_precision for i in known), max(i.size_precision for i in known)
        checks += [Book(*places), LostBook()]
    return checks


def _curve(checks: list[Check], identifier: str) -> Curve | None:
    for check in checks:
        if isinstance(check, Sampler):
            return check.curve(identifier)
        if isinstance(check, Book):
            middles = np.array(check.middles, dtype=[("ts", "i8"), ("price", "f8")])
            return Curve(identifier, "deltas", middles["ts"], middles["price"])
    return None
