"""The report of a quality check: findings by feed, for people and for machines."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from catalogs.layout import DataType

Severity = Literal["error", "warning"]
"""An error makes numbers wrong; a warning is a property of market or recording that one has to know of."""

_DEFECTS: dict[str, tuple[Severity, str]] = {
    "damaged file": ("error", "remove the file and import its data again"),
    "gap": ("warning", "see whether the recorder or the venue stood still; judge no position across it"),
    "other length": ("error", "correct time.period, or import what is missing; features count rows as bars"),
    "duplicate": ("error", "import again from the source; the importer leaves repeated rows out"),
    "same id": ("error", "import again from the source with `id`: one id is one trade"),
    "other precision": ("error", "import the data again: ticks and lots of the definition are not theirs"),
    "out of order": ("error", "sort the source by time of receipt and import again; the engine refuses it"),
    "event after receipt": (
        "error",
        "see that time.event and time.init name the right columns; or a clock ran ahead",
    ),
    "stale event": ("error", "see that time.event names the right column, in the right unit"),
    "crossed book": ("error", "look for lost updates before it; a crossed book fills orders no market would"),
    "lost book": (
        "error",
        "updates are missing: record snapshots more often; a run has no price there",
    ),
    "locked book": (
        "warning",
        "the spread is zero there: do not trust passive fills, nor features of the spread",
    ),
    "one-sided trades": (
        "error",
        "the recorder mistook the aggressor: import with aggressor = none, have it inferred",
    ),
    "unknown aggressor": ("warning", "signed volume is inferred from prices, not measured"),
    "off-market print": (
        "error",
        "leave such rows out with `where` if the source marks them (insurance fund), or mend the source",
    ),
    "empty value": ("error", "leave rows without a price or size out of the import"),
    "impossible bar": ("error", "see that open, high, low and close name the right columns"),
    "funding rate": ("error", "rates are fractions of the notional a settlement, not percents: scale them"),
    "wild prices": ("error", "see that price and size (or close and volume) name the right columns"),
    "level shift": (
        "error",
        "a renamed or redenominated contract, or a scale that changed: import each part as an instrument of "
        "its own, or with its own price_scale",
    ),
    "frozen price": (
        "warning",
        "a venue's outage filled up, or a feed that hung: leave the stretch out of training and backtest",
    ),
    "prices disagree": ("error", "see that both have the right price_scale, columns and instrument"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One kind of defect of one feed. ``first`` is the ``ts_init`` (ns) of its first occurrence."""

    defect: str
    count: int
    first: int
    detail: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _DEFECTS[self.defect][1]

    @property
    def severity(self) -> Severity:
        """Whether it makes numbers wrong or is to be known."""
        return _DEFECTS[self.defect][0]


@dataclasses.dataclass(frozen=True)
class FeedReport:
    """The state of one kind of data of one instrument."""

    identifier: str
    data_type: DataType | Literal["instruments"]
    rows: int
    first: int
    last: int
    findings: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The result of ``check_catalog``."""

    path: Path
    feeds: tuple[FeedReport, ...]

    @property
    def findings(self) -> list[tuple[FeedReport, Finding]]:
        """Every finding with its feed."""
        return [(feed, finding) for feed in self.feeds for finding in feed.findings]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; times are nanoseconds."""
        feeds = []
        for feed in self.feeds:
            found = [
                dataclasses.asdict(item) | {"severity": item.severity, "advice": item.advice}
                for item in feed.findings
            ]
            feeds.append(dataclasses.asdict(feed) | {"findings": found})
        return {"catalog": str(self.path), "findings": len(self.findings), "feeds": feeds}

    def __rich__(self) -> Group:
        table = RichTable(show_edge=False, pad_edge=False)
        table.add_column("instrument", no_wrap=True)
        table.add_column("data", no_wrap=True)
        table.add_column("rows", justify="right", no_wrap=True)
        for name in ("from", "to"):
            table.add_column(name)
        table.add_column("defects")
        for feed in self.feeds:
            defects = ", ".join(item.defect for item in feed.findings) or "none found"
            table.add_row(
                feed.identifier,
                feed.data_type,
                f"{feed.rows:,}",
                time_text(feed.first),
                time_text(feed.last),
                defects,
            )
        return Group(table, *(_line(feed, item) for feed, item in self.findings))


def _line(feed: FeedReport, item: Finding) -> Text:
    advice = item.advice[0].upper() + item.advice[1:]
    return Text.assemble(
        (f"{feed.data_type} of {feed.identifier}: ", "bold"),
        (f"{item.severity}: {item.defect}: ", "red" if item.severity == "error" else "yellow"),
        f"{item.detail}; first at {time_text(item.first)}. {advice}.",
    )


def time_text(ns: int) -> str:
    """A time for people, to the millisecond."""
    return str(np.datetime64(ns, "ns").astype("datetime64[ms]")).replace("T", " ")


def length_text(ns: int) -> str:
    """A length of time for people."""
    for name, unit in (("d", 86_400e9), ("h", 3_600e9), ("min", 60e9), ("s", 1e9)):
        if ns >= unit:
            return f"{ns / unit:.3g} {name}"
    return f"{ns / 1e6:.3g} ms"
