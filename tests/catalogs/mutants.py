"""Small tables, mappings and catalogs, each changed in one place by a seed; and what becomes of the change.

A mutant is ``refused`` (an error of ours), ``said`` (accepted, and the summary of the import says what was
done about it), ``found`` (accepted, and `data check` finds it), ``same`` (nothing that is stored has changed)
or ``silent``. Anything else (another exception) is a fault, returned with its traceback.
"""

import io
import shutil
import tempfile
import tomllib
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from catalogs.checks.check import check_catalog
from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.layout import SCHEMAS
from catalogs.reader import Catalog, SeriesRef, Stream
from core.errors import BeaufortError
from engine.config import settings_from
from tests.catalogs.small_tables import ID, INSTRUMENT, T0

ROWS = 60
NONSENSE = ["", "x", "-1", "0", "nan", "inf", "1e300", "-1e-300", "9" * 30, "1,5", "NULL", "é", " "]


def _market():
    rng = np.random.default_rng(11)
    t = T0 + np.arange(ROWS) * 1_000
    price = (50_000 + np.cumsum(rng.normal(0, 3, ROWS))).round(1)
    size = rng.lognormal(0, 1, ROWS).round(3) + 0.001
    return rng, t, price, size


def tables():
    """Each kind's columns, with the text of its mapping."""
    rng, t, price, size = _market()
    minutes = T0 + np.arange(ROWS) * 60_000
    opens = np.r_[price[0], price[:-1]]
    head = f'[[table]]\nfiles = ["a.FORM"]\ninstrument = "{ID}"\n'
    stamp = 'time = { event = "t", unit = "ms" }\n'
    interval = 'time = { event = "t", unit = "ms", stamp = "open", period = "1m" }\n'
    wide = {"t": t}
    for level in range(3):
        wide |= {
            f"bp{level}": (price - 0.1 - level * 0.1).round(1),
            f"bs{level}": (size + level).round(3),
            f"ap{level}": (price + 0.1 + level * 0.1).round(1),
            f"as{level}": (size + 2 * level).round(3),
        }
    names = {
        f"{side}_{what}": f"{side[0]}{what[0]}{{level}}"
        for side in ("bid", "ask")
        for what in ("price", "size")
    }
    side = rng.choice(["buy", "sell"], ROWS)
    return {
        "trades": (
            {"t": t, "p": price, "q": size, "s": side, "id": np.arange(ROWS) + 100},
            f'{head}kind = "trades"\n{stamp}price = "p"\nsize = "q"\nid = "id"\n'
            'aggressor = { kind = "side", column = "s", buy = ["buy"], sell = ["sell"] }\n',
        ),
        "quotes": (
            {"t": t, "b": price - 0.1, "a": price + 0.1, "bs": size, "as": size[::-1]},
            f'{head}kind = "quotes"\n{stamp}bid_price = "b"\nask_price = "a"\nbid_size = "bs"\n'
            'ask_size = "as"\n',
        ),
        "bars": (
            {
                "t": minutes,
                "open": opens,
                "high": np.maximum(opens, price) + 1,
                "low": np.minimum(opens, price) - 1,
                "close": price,
                "volume": size,
            },
            f'{head}kind = "bars"\n{interval}',
        ),
        "book_snapshots": (
            wide,
            f'{head}kind = "book_snapshots"\n{stamp}[table.levels]\nkind = "wide"\nlevels = 3\n'
            + "".join(f'{name} = "{column}"\n' for name, column in names.items()),
        ),
        "mark": ({"t": minutes, "v": price}, f'{head}kind = "mark"\n{interval}value = "v"\n'),
        "funding": (
            {"t": T0 + np.arange(ROWS) * 8 * 3_600_000, "r": rng.normal(1e-4, 5e-5, ROWS).round(8)},
            f'{head}kind = "funding"\n{stamp}rate = "r"\ninterval = "8h"\n',
        ),
        "series": ({"t": minutes, "v": size}, f'{head}kind = "series"\n{interval}values = {{ oi = "v" }}\n'),
    }


def stored(catalog):
    """Everything a catalog holds, as bytes to compare."""
    found = {}
    for path in sorted(catalog.rglob("*.parquet")):
        table = pq.read_table(path)
        found[str(path.relative_to(catalog).parent)] = [
            *found.get(str(path.relative_to(catalog).parent), []),
            str(sorted((table.schema.metadata or {}).items())),
            *map(str, table.to_pylist()),
        ]
    return found


class Import:
    """One kind's table as CSV or Parquet with its mapping, and what an import of it gives unchanged."""

    def __init__(self, kind, form):
        self.kind, self.form = kind, form
        columns, text = tables()[kind]
        self.frame = pd.DataFrame(columns)
        self.tree = tomllib.loads(INSTRUMENT + text.replace("FORM", form))
        self.content = self.encode(self.frame)
        with tempfile.TemporaryDirectory() as folder:
            outcome, self.clean, self.notes = self.run(Path(folder), self.content, self.tree)
        assert outcome == "silent", f"{kind}: the table is not sound as it is: {outcome}"

    def encode(self, frame):
        if self.form == "csv":
            return frame.to_csv(index=False).encode()
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
        return sink.getvalue()

    def run(self, folder, content, tree):
        """Outcome, what is stored, what the summary says."""
        (folder / f"a.{self.form}").write_bytes(content)
        try:
            mapping = settings_from(ImportMapping, "map.toml", tree, ())
            summary = run_import(mapping, folder, folder / "c")
        except (MappingError, BeaufortError):
            return "refused", None, None
        held = stored(folder / "c")
        notes = [(vars(tally) | {"notes": dict(+tally.notes)}) for tally in summary.tallies]
        told = ([(n["notes"], n["left_out"]) for n in notes], summary.warnings, summary.empty)
        if check_catalog(folder / "c").findings:
            return "found", held, told
        return "silent", held, told

    def judge(self, rng):
        name, content, tree = self.change(rng)
        with tempfile.TemporaryDirectory() as folder:
            outcome, held, told = self.run(Path(folder), content, tree)
        if outcome == "silent" and held == self.clean:
            outcome = "same"
        elif outcome == "silent" and told != self.notes:
            outcome = "said"
        return name, outcome

    def change(self, rng):
        """A name for the kind of change; content and mapping after it."""
        ways = [self.of_bytes, self.of_cell, self.of_cell, self.of_rows, self.of_columns, self.of_mapping]
        return ways[rng.integers(len(ways))](rng)

    def of_bytes(self, rng):
        return f"{self.form}: bytes", mutated_bytes(rng, self.content), self.tree

    def of_cell(self, rng):
        frame = self.frame.astype(object)
        row, column = int(rng.integers(len(frame))), int(rng.integers(frame.shape[1]))
        value, name = frame.iloc[row, column], frame.columns[column]
        ways = ["nonsense", "other row"] + (["tenfold", "thousandth", "negative"] if name != "s" else [])
        way = ways[rng.integers(len(ways))]
        numeric = not isinstance(value, str)
        if way == "nonsense":
            cell = NONSENSE[rng.integers(len(NONSENSE))]
            way = f"{cell[:6]!r}"
        elif way == "other row":
            cell = frame.iloc[int(rng.integers(len(frame))), column]
        elif numeric:
            cell = {"tenfold": value * 10, "thousandth": value / 1_000, "negative": -value}[way]
        frame.iloc[row, column] = cell
        if self.form == "parquet":
            frame = (
                frame.assign(**{name: frame[name].astype(str)})
                if isinstance(cell, str)
                else frame.infer_objects()
            )
        return f"{self.kind}.{role(self.kind, name)}: {way}", self.encode(frame), self.tree

    def of_rows(self, rng):
        n = len(self.frame)
        way = [
            "a row twice",
            "a row again later",
            "a row gone",
            "two rows swapped",
            "newest first",
            "half gone",
        ][rng.integers(6)]
        rows, i, j = list(range(n)), *sorted(map(int, rng.integers(0, n, 2)))
        if way == "a row twice":
            rows.insert(i, i)
        elif way == "a row again later":
            rows.insert(j, i)
        elif way == "a row gone":
            rows.pop(i)
        elif way == "two rows swapped":
            rows[i], rows[j] = rows[j], rows[i]
        elif way == "newest first":
            rows.reverse()
        else:
            rows = rows[:i]
        return f"{self.kind}: {way}", self.encode(self.frame.iloc[rows]), self.tree

    def of_columns(self, rng):
        names = list(self.frame.columns)
        i, j = map(int, rng.choice(len(names), 2, replace=False))
        way = ["swapped", "renamed", "twice"][rng.integers(3)]
        if way == "swapped":
            names[i], names[j] = names[j], names[i]
            pair = sorted((role(self.kind, names[i]), role(self.kind, names[j])))
            way = f"{pair[0]} and {pair[1]} swapped"
        elif way == "renamed":
            names[i] += "x"
        else:
            names[i] = names[j]
        frame = self.frame.set_axis(names, axis=1)
        if self.form == "parquet" and len(set(names)) < len(names):
            frame = frame.loc[:, ~frame.columns.duplicated()]
        return f"{self.kind}: columns {way}", self.encode(frame), self.tree

    def of_mapping(self, rng):
        tree = tomllib.loads(tomli_w.dumps(self.tree))
        places = [
            (node, key)
            for part in (tree["instrument"][0], tree["table"][0])
            for node in (part, *(v for v in part.values() if isinstance(v, dict)))
            for key in node
        ]
        node, key = places[rng.integers(len(places))]
        way = ["gone", "renamed", "nonsense"][rng.integers(3)]
        value = node.pop(key)
        if way == "renamed":
            node[key + "x"] = value
        elif way == "nonsense":
            choice = [-1, 0, 1e300, 10**30, "x", "", [], {}, True, "1ns", "é/..", "0.1", "100d"]
            node[key] = choice[rng.integers(len(choice))]
        return f"mapping: {key} {way}", self.content, tree


def mutated_bytes(rng, content):
    """One of: bytes flipped, put in, taken out, set to nothing; the end cut off."""
    content, at = bytearray(content), int(rng.integers(len(content)))
    way = rng.integers(5)
    if way == 0:
        for place in rng.integers(0, len(content), int(rng.integers(1, 4))):
            content[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        content[at:at] = rng.bytes(int(rng.integers(1, 6)))
    elif way == 2:
        del content[at : at + int(rng.integers(1, 6))]
    elif way == 3:
        content[at : at + 16] = bytes(len(content[at : at + 16]))
    else:
        del content[at:]
    return bytes(content)


def role(kind, column):
    """What a column is, whatever it is called."""
    if column == "t":
        return "time"
    if kind == "book_snapshots":
        return "level price" if column[1] == "p" else "level size"
    roles = {
        "p": "price",
        "b": "price",
        "a": "price",
        "v": "value",
        "r": "rate",
        "q": "size",
        "bs": "size",
        "as": "size",
    }
    return {"s": "side", "id": "id", "volume": "size"}.get(column, roles.get(column, column))


class Files:
    """A catalog of every kind of data, one file of which is changed."""

    def __init__(self, folder):
        self.template = Path(folder) / "template"
        sources = Path(folder) / "sources"
        sources.mkdir(parents=True)
        tree = tomllib.loads(INSTRUMENT)
        tree["table"] = []
        for kind, (columns, text) in tables().items():
            table = tomllib.loads(text)["table"][0] | {"files": [f"{kind}.csv"]}
            pd.DataFrame(columns).to_csv(sources / f"{kind}.csv", index=False)
            tree["table"].append(table)
        run_import(ImportMapping.model_validate(tree), sources, self.template)
        assert check_catalog(self.template).findings == []
        self.clean = stored(self.template)
        self.files = sorted(
            path.relative_to(self.template)
            for path in self.template.rglob("*.parquet")
            if "crypto_perpetual" not in str(path)
        )
        self.work = Path(folder) / "work"

    def judge(self, rng):
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work)
        relative = self.files[rng.integers(len(self.files))]
        kind = next(k for k, part in KINDS.items() if str(relative).startswith(part))
        name = self.change(rng, kind, self.work / relative)
        found = bool(check_catalog(self.work).findings)
        failed = _reads_like_a_run(self.work)
        if failed and not found and (self.work / relative).exists():
            raise AssertionError(f"{name}: a run is refused ({failed}), but the check finds nothing")
        if found or failed:
            return name, "found"
        return name, "same" if _stored(self.work) == self.clean else "silent"

    def change(self, rng, kind, path):
        way = rng.integers(6)
        if way == 0:
            path.write_bytes(mutated_bytes(rng, path.read_bytes()))
            return "bytes"
        if way == 1 and rng.random() < 0.2:
            path.unlink()
            return f"{kind}: file gone"
        table = pq.read_table(path)
        if way == 1:
            return self._schema(rng, kind, path, table)
        if way == 2:
            return self._rows(rng, kind, path, table)
        return self._value(rng, kind, path, table)

    def _schema(self, rng, kind, path, table):
        column = table.column_names[rng.integers(table.num_columns)]
        way = ["gone", "renamed", "text", "metadata gone", "precision"][rng.integers(5)]
        if way == "gone":
            table = table.drop_columns([column])
        elif way == "renamed":
            table = table.rename_columns([name + "x" * (name == column) for name in table.column_names])
        elif way == "text":
            text = pa.array([str(cell) for cell in table[column].to_pylist()])
            table = table.set_column(table.column_names.index(column), column, text)
        elif way == "metadata gone":
            table = table.replace_schema_metadata(None)
        else:
            metadata = table.schema.metadata | {b"price_precision": str(rng.integers(0, 40)).encode()}
            table = table.replace_schema_metadata(metadata)
        pq.write_table(table, path)
        return f"{kind}: {'column ' * (way in ('gone', 'renamed', 'text'))}{way}"

    def _rows(self, rng, kind, path, table):
        n = len(table)
        way = ["a row twice", "a row gone", "two rows swapped"][rng.integers(3)]
        rows, i, j = list(range(n)), *sorted(map(int, rng.integers(1, n - 1, 2)))
        if way == "a row twice":
            rows.insert(i, i)
        elif way == "a row gone":
            rows.pop(i)
        else:
            rows[i], rows[j] = rows[j], rows[i]
        pq.write_table(table.take(rows), path)
        return f"{kind}: {way}"

    def _value(self, rng, kind, path, table):
        column = table.column_names[rng.integers(table.num_columns)]
        row, kind_of = int(rng.integers(1, len(table) - 1)), table.schema.field(column).type
        cells = (
            table[column].to_pylist()
            if not pa.types.is_timestamp(kind_of)
            else table[column].cast("int64").to_pylist()
        )
        value = cells[row]
        if pa.types.is_decimal(kind_of):
            way = ["tenfold", "tenth", "zero", "negative", "other row"][rng.integers(5)]
            base = value if value is not None else 0
            cells[row] = {"tenfold": base * 10, "tenth": base / 10, "zero": base * 0, "negative": -base}.get(
                way, cells[int(rng.integers(len(cells)))]
            )
        elif pa.types.is_timestamp(kind_of):
            way, by = [
                ("a second more", 10**9),
                ("two days less", -2 * 86_400 * 10**9),
                ("a year more", 365 * 86_400 * 10**9),
            ][rng.integers(3)]
            cells[row] = None if value is None else value + by
        elif pa.types.is_dictionary(kind_of):
            way = ["other row", "unknown name"][rng.integers(2)]
            cells[row] = "WHAT" if way == "unknown name" else cells[int(rng.integers(len(cells)))]
        elif pa.types.is_string(kind_of):
            way = ["other row", "nonsense"][rng.integers(2)]
            cells[row] = "x y" if way == "nonsense" else cells[int(rng.integers(len(cells)))]
        elif pa.types.is_floating(kind_of):
            way = ["nan", "tenfold", "negative"][rng.integers(3)]
            cells[row] = {"nan": float("nan"), "tenfold": value * 10, "negative": -value}[way]
        else:
            way = ["zero", "largest", "other row"][rng.integers(3)]
            largest = 2**kind_of.bit_width - 1
            cells[row] = {"zero": 0, "largest": largest}.get(way, cells[int(rng.integers(len(cells)))])
        field = SCHEMAS[kind].field(column)
        changed = (
            pa.array(cells, pa.int64()).cast(field.type)
            if pa.types.is_timestamp(kind_of)
            else pa.array(cells, kind_of if pa.types.is_integer(kind_of) else None).cast(field.type)
        )
        table = table.set_column(table.column_names.index(column), field.with_nullable(True), changed)
        pq.write_table(table, path)
        return f"{kind}.{column}: {way}"


KINDS = {
    "trades": "data/trades",
    "quotes": "data/quotes",
    "deltas": "data/order_book_deltas",
    "bars": "data/bars",
    "mark": "data/mark",
    "funding": "data/funding",
    "series": "series",
}


def _stored(catalog):
    try:
        return stored(catalog)
    except Exception:
        return None


def _reads_like_a_run(path):
    """The sentence in which a run would be refused; empty where it would not."""
    try:
        catalog = Catalog(path)
        catalog.instruments()
        stream = Stream(ID, "deltas", trades=True, mark=True, funding=True)
        both = stream, Stream(ID, "quotes", trades=False)
        for _ in catalog.events(both, 0, 2**62, 2**61, [SeriesRef("oi", ID)]):
            pass
        catalog.bars(f"{ID}-1-MINUTE-LAST-EXTERNAL")
        for kind in KINDS:
            for identifier in catalog.identifiers(kind):
                catalog.verify(kind, identifier, 0, 2**62)
    except (ValueError, KeyError) as error:
        text = str(error)
        assert str(path) in text, text
        return text
    return ""


def judge_imports(kind, form, seeds):
    """Counts of (name, outcome) and the faults, with their tracebacks."""
    subject = Import(kind, form)
    return _judge(subject, seeds)


def judge_catalogs(seeds):
    with tempfile.TemporaryDirectory() as folder:
        return _judge(Files(folder), seeds)


def _judge(subject, seeds):
    counts, faults = Counter(), []
    for seed in seeds:
        try:
            counts[subject.judge(np.random.default_rng(seed))] += 1
        except BaseException:
            if len(faults) < 50:
                faults.append(f"seed {seed}\n{traceback.format_exc()}")
    return counts, faults
