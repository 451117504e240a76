"""What an import did: rows read, added, repaired and left out, and what one should know about them."""

import dataclasses
from collections import Counter

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text


@dataclasses.dataclass
class Tally:
    """One kind of data of one instrument.

    ``notes`` counts each repair and each reason for leaving rows out; ``left_out`` are the rows that those
    reasons took away, so that where a row of a file is one of the catalog, ``read`` is ``added`` and
    ``present`` and ``left_out``.
    """

    kind: str
    identifier: str
    read: int = 0
    added: int = 0
    present: int = 0
    left_out: int = 0
    notes: Counter[str] = dataclasses.field(default_factory=Counter)

    def leave_out(self, reason: str, rows: int) -> None:
        """Count rows that are left out for a reason."""
        self.left_out += rows
        self.notes[f"{reason}: left out"] += rows


@dataclasses.dataclass
class ImportSummary:
    """The result of an import.

    ``rows`` are those of the files, ``not_wanted`` those of them that ``where`` and ``symbol`` leave out;
    ``read`` are the others, ``added`` and ``present`` rows of the catalog written now and written by an
    earlier import (a snapshot is one row of a file and many of the catalog). ``empty`` says of which tables
    nothing came into the catalog.
    """

    tallies: list[Tally] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    rows: int = 0
    not_wanted: int = 0
    empty: list[str] = dataclasses.field(default_factory=list)

    def tally(self, kind: str, identifier: str) -> Tally:
        """The tally of this kind and instrument, made if new."""
        for item in self.tallies:
            if (item.kind, item.identifier) == (kind, identifier):
                return item
        self.tallies.append(Tally(kind, identifier))
        return self.tallies[-1]

    @property
    def added(self) -> int:
        """Rows added to the catalog."""
        return sum(item.added for item in self.tallies)

    @property
    def held(self) -> int:
        """Rows that are in the catalog now, written by this import or before."""
        return sum(item.added + item.present for item in self.tallies)

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "rows": self.rows,
            "not_wanted": self.not_wanted,
            "added": self.added,
            "tables": [vars(item) | {"notes": dict(+item.notes)} for item in self.tallies],
            "warnings": self.warnings,
            "empty": self.empty,
        }

    def __rich__(self) -> Group:
        table = RichTable(title=None, show_edge=False, pad_edge=False)
        table.add_column("data")
        table.add_column("instrument", no_wrap=True)
        for name in ("read", "added", "already there", "left out"):
            table.add_column(name, justify="right")
        table.add_column("what was done", overflow="fold")
        for item in self.tallies:
            notes = "\n".join(f"{count:,} {what}" for what, count in item.notes.items() if count)
            counts = (f"{count:,}" for count in (item.read, item.added, item.present, item.left_out))
            table.add_row(item.kind, item.identifier, *counts, notes)
        present, left_out = sum(i.present for i in self.tallies), sum(i.left_out for i in self.tallies)
        closing = (
            f"{self.rows:,} rows in the files, {self.not_wanted:,} of them not asked for; {self.added:,} "
            f"rows of the catalog added, {present:,} were there, {left_out:,} left out"
        )
        return Group(
            table,
            *(Text(f"note: {line}", style="yellow") for line in self.warnings),
            *(Text(f"nothing came of {line}", style="red") for line in self.empty),
            Text(closing),
        )
