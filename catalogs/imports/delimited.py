"""How a CSV file is written, found out from its beginning: encoding, separator, header, lines to skip."""

import codecs
import csv
import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from catalogs.imports.base import CsvSettings, MappingError

_HEAD = 1 << 18  # bytes looked at
_SEPARATORS = (",", ";", "\t", "|")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),  # Arrow passes over it by itself
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclasses.dataclass(frozen=True)
class Form:
    """How one file is written: its columns in order, the lines before the first row, separator, encoding."""

    names: list[str]
    skip: int
    separator: str
    encoding: str


def form_of(path: Path, wanted: Sequence[str], settings: CsvSettings) -> Form:
    """The form of the file at ``path``, in which the columns ``wanted`` are looked for.

    Lines before the header that are empty, or begin with ``#`` and are not the header, are passed over.
    Raises MappingError where the columns are not to be found, saying what there is.
    """
    text, encoding = _head(path, settings)
    lines = re.split(r"\r\n|\n|\r", text)
    at = settings.skip
    while at < len(lines) and (not lines[at].strip() or _is_comment(lines[at], wanted, settings)):
        at += 1
    if at >= len(lines):
        raise MappingError(f"{path}: cannot be read: it has no rows; mend it or fetch it again")
    separator = settings.separator or _separator(lines[at], wanted, settings)
    cells = _cells(path, lines[at], separator)
    names, header = _names(path, cells, wanted, settings)
    names = [name if name in wanted else f"{name} ({i})" for i, name in enumerate(names)]  # all different
    return Form(names, at + header, separator, encoding)


def check_columns(path: Path, wanted: Sequence[str], present: Sequence[str]) -> None:
    """Raise MappingError where a column is absent or there twice, with what there is and what is nearest."""
    missing = [name for name in dict.fromkeys(wanted) if name not in present]
    if missing:
        shown = ", ".join(present[:30]) + (" …" if len(present) > 30 else "")
        near = {name: difflib.get_close_matches(name, present, n=1) for name in missing}
        hint = "".join(f"; did you mean {found[0]!r} for {name!r}?" for name, found in near.items() if found)
        raise MappingError(f"{path}: no column {', '.join(map(repr, missing))}; it has {shown}{hint}")
    for name in wanted:
        places = [str(i + 1) for i, other in enumerate(present) if other == name]
        if len(places) > 1:
            raise MappingError(
                f"{path}: columns {' and '.join(places)} are both named {name!r}; give every column of a CSV "
                "a name of its own with csv.columns, or mend the file"
            )


def _head(path: Path, settings: CsvSettings) -> tuple[str, str]:
    with pa.input_stream(str(path)) as stream:
        head = stream.read(_HEAD)
    encoding = settings.encoding
    for mark, name in _BOMS:
        if head.startswith(mark):
            head, encoding = (head[len(mark) :], name) if name == "utf-8" else (head, name)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        raise MappingError(
            f"{path}: byte {error.start} is not {encoding}; name the encoding with csv.encoding, such as "
            "'cp1252' or 'utf-16'"
        ) from None
    if len(head) == _HEAD:
        text = text.rpartition("\n")[0] or text  # whole lines
    return text, encoding


def _is_comment(line: str, wanted: Sequence[str], settings: CsvSettings) -> bool:
    if not line.lstrip().startswith("#"):
        return False
    separator = settings.separator or _separator(line, wanted, settings)
    return not set(_split(line, separator)) & set(wanted)


def _separator(line: str, wanted: Sequence[str], settings: CsvSettings) -> str:
    def fits(separator: str) -> tuple[int, bool, int]:
        cells = _split(line, separator)
        return len(set(cells) & set(wanted)), len(cells) == len(settings.columns), len(cells)

    return max(_SEPARATORS, key=fits)  # the first of equals


def _split(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    except (csv.Error, StopIteration):
        return [line]


def _cells(path: Path, line: str, separator: str) -> list[str]:
    cells = _split(line, separator)
    if any("\0" in cell for cell in cells):
        raise MappingError(
            f"{path}: cannot be read: it is not text, or in another encoding; name it with csv.encoding"
        )
    return cells


def _names(
    path: Path, cells: list[str], wanted: Sequence[str], settings: CsvSettings
) -> tuple[list[str], bool]:
    """The names of the columns, and whether the line of ``cells`` is a header."""
    unique = all(cells.count(name) == 1 for name in wanted)
    if unique:
        return cells, True
    named, columns = bool(set(cells) & set(wanted)), settings.columns
    if columns:
        if not named or len(cells) == len(columns):
            if len(cells) != len(columns):
                raise MappingError(
                    f"{path}: has {len(cells)} columns, but csv.columns names {len(columns)}; its first line "
                    f"is {_shown(cells)}"
                )
            check_columns(path, wanted, columns)
            return columns, named or not any(map(_is_number, cells))
    elif not named and any(map(_is_number, cells)):
        raise MappingError(
            f"{path}: has no header: its first line is {_shown(cells)}; name its columns in order with "
            "csv = { columns = [...] }"
        )
    check_columns(path, wanted, cells)
    return cells, True


def _shown(cells: list[str]) -> str:
    return ", ".join(cell[:40] for cell in cells[:12]) + (" …" if len(cells) > 12 else "")


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-+]?[\d.,' ]*\d[\d.,' ]*(e[-+]?\d+)?", cell, re.IGNORECASE) is not None
