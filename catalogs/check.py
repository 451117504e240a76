"""Quality checks of a catalog: what is wrong with each feed, how often, since when, what to do about it."""

from pathlib import Path

from catalogs.detectors import (
    Aggressors,
    Book,
    Check,
    Duplicates,
    EmptyValues,
    EventTimes,
    LostBook,
    OffMarket,
    Order,
    Quotes,
    RegularGaps,
    TickGaps,
)
from catalogs.findings import CheckReport, FeedReport
from catalogs.layout import DataType, times
from catalogs.reader import Catalog

_TICK_TYPES: tuple[DataType, ...] = ("trades", "quotes", "deltas")
_REGULAR_TYPES: tuple[DataType, ...] = ("bars", "mark", "index", "funding", "series")


def check_catalog(path: Path, instrument: str | None = None) -> CheckReport:
    """Check every feed of the catalog at ``path``, or only those of one instrument.

    Looks for gaps, duplicates, times that go back or cannot be, crossed and locked books, trades whose
    aggressor is always the same or unknown, prints far from their neighbours, and empty values. Reads each
    file once, in bounded memory. Raises FileNotFoundError without a catalog, KeyError for an instrument it
    does not have.
    """
    catalog = Catalog(path)
    feeds = [
        _check_feed(catalog, identifier, data_type)
        for data_type in (*_TICK_TYPES, *_REGULAR_TYPES)
        for identifier in catalog.identifiers(data_type)
        if instrument is None or _belongs(identifier, data_type, instrument.replace("/", ""))
    ]
    if instrument is not None and not feeds:
        known = sorted({i for kind in _TICK_TYPES for i in catalog.identifiers(kind)})
        raise KeyError(f"{path}: no data of {instrument}; there are ticks of: {', '.join(known) or 'none'}")
    return CheckReport(Path(path), tuple(feeds))


def _belongs(identifier: str, data_type: DataType, instrument: str) -> bool:
    if data_type == "bars":
        return identifier.startswith(f"{instrument}-")
    return identifier.rpartition("/")[2] == instrument


def _check_feed(catalog: Catalog, identifier: str, data_type: DataType) -> FeedReport:
    first, last, rows = catalog.coverage(identifier, data_type)
    checks: list[Check] = [Order(), EventTimes(late=data_type in _TICK_TYPES), Duplicates()]
    checks.append(TickGaps() if data_type in _TICK_TYPES else RegularGaps())
    checks.append(EmptyValues(data_type))
    if data_type == "trades":
        checks += [Aggressors(), OffMarket()]
    elif data_type == "deltas":
        ids = {str(item.id).replace("/", ""): str(item.id) for item in catalog.instruments()}
        instrument = catalog.instrument(ids.get(identifier, identifier))  # folders are named without "/"
        checks += [Book(instrument.price_precision, instrument.size_precision), LostBook()]
    elif data_type == "quotes":
        checks.append(Quotes())
    for table in catalog.batches(identifier, data_type):
        ts = times(table["ts_init"])
        for check in checks:
            check.add(table, ts)
    findings = tuple(finding for check in checks for finding in check.findings(rows))
    return FeedReport(identifier, data_type, rows, first, last, findings)
