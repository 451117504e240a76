"""The ``table`` importer: files described by a mapping, streamed into a catalog in bounded memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np

from catalogs.imports.base import MappingError, TableSettings
from catalogs.imports.definitions import merge_definitions, segments
from catalogs.imports.feeds import Feed, Target, stamps
from catalogs.imports.mapping import ImportMapping
from catalogs.imports.tables import Batch, by_instrument, check_file, find, read, rows_in, select
from catalogs.instruments import Instrument
from catalogs.layout import DataType, folder
from catalogs.reader import History
from catalogs.summary import ImportSummary, Tally
from catalogs.writer import CatalogWriter
from core.settings import format_time

Progress = Callable[[str, int, int], None]
"""Called with a table's label, rows done and rows in all."""


def run_import(
    mapping: ImportMapping, root: Path, catalog: Path, progress: Progress | None = None
) -> ImportSummary:
    """Import everything ``mapping`` describes under ``root`` into the catalog at ``catalog``.

    A second run adds nothing. Raises MappingError where files and mapping do not fit: then, as where the
    process is killed, the catalog is as it was.
    """
    plan = [(table, find(root, table.files)) for table in mapping.table]
    for table, paths in plan:  # fail before anything is written
        for path in paths:
            check_file(path, table.columns(), table.csv)
    summary = ImportSummary()
    with CatalogWriter(catalog, whole=True) as writer:
        instruments, new = merge_definitions(catalog, [item.build() for item in mapping.instrument])
        for table, paths in plan:
            _import_table(table, paths, instruments, root, writer, summary, progress)
        for instrument in new:  # when nothing can fail any more
            writer.instrument(instrument)
    summary.warnings += [_not_replaced(catalog, item) for item in summary.tallies if item.present]
    return summary


def _not_replaced(catalog: Path, tally: Tally) -> str:
    kind, _, name = tally.kind.partition(" ")  # "series open_interest"
    identifier = tally.identifier.replace("/", "")
    place = folder(catalog, cast(DataType, kind), f"{name}/{identifier}" if name else identifier)
    return (
        f"{tally.kind} of {tally.identifier}: {tally.present:,} rows were left out, because rows in "
        f"stretches already covered are never replaced; remove the folder {place} to import a corrected file"
    )


def _import_table(
    table: TableSettings,
    paths: list[Path],
    instruments: History,
    root: Path,
    writer: CatalogWriter,
    summary: ImportSummary,
    progress: Progress | None,
) -> None:
    label = f"{table.kind} {table.instrument or '/'.join(table.symbol.columns)}"  # type: ignore[union-attr]
    total, done = sum(map(rows_in, paths)), 0
    feeds: dict[tuple[str, int], Feed] = {}
    left_out, held = 0, summary.held
    for path in paths:
        before = done
        for batch in read(path, table.columns(), table.plain(), table.time, table.csv):
            done += len(batch)
            kept = select(table, batch)
            left_out += len(batch) - len(kept)
            for target, part in by_instrument(table, kept):
                if target is None:
                    left_out += len(part)
                    continue
                if len(part) == 0:
                    continue
                for number, definition, rows in _by_definition(table, target, instruments, part):
                    if (target, number) not in feeds:
                        made = table.feed(Target(target, definition, root, writer, summary))
                        feeds[target, number] = made
                        if number:
                            made.begin_anew()
                    feeds[target, number].add(rows)
            if progress is not None:
                progress(label, done, total)
        if done == before:
            summary.warnings.append(f"{label}: no rows in {path}")
    for feed in feeds.values():
        feed.finish()
    summary.rows += done
    summary.not_wanted += left_out
    if summary.held == held:
        summary.empty.append(f"{label}: none of the {done:,} rows of its {len(paths):,} files")
    if left_out:
        summary.warnings.append(
            f"{label}: {left_out:,} rows were left out by `where` and `symbol`, as mapped"
        )


def _by_definition(
    table: TableSettings, target: str, instruments: History, batch: Batch
) -> Iterator[tuple[int, Instrument | None, Batch]]:
    """The rows of each definition that was in force when they could be known, with its number among those at
    which data begin anew (a series needs no definition)."""
    known = segments(instruments.get(target, []))
    if not table.of_instrument or (len(known) == 1 and not known[0].ts_init):
        yield 0, known[0] if known else None, batch
        return
    _, init = stamps(table.time, batch)
    number = np.searchsorted([item.ts_init for item in known], init, side="right") - 1
    if (number < 0).any():
        row = int(np.argmin(number))
        raise MappingError(
            f"{batch.path}: row {batch.rows[row]} is of {format_time(int(init[row]))}, but {target} is "
            f"defined from {format_time(known[0].ts_init)} on only; give the definition that held then"
        )
    for which in np.unique(number).tolist():
        yield which, known[which], batch.take(number == which)
