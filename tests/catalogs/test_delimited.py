"""CSV files in the forms that vendors and spreadsheets write: read right, or refused in a sentence."""

import pytest

from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.reader import Catalog
from tests.catalogs.small_tables import ID, MS, T0, mapping

TABLE = f"""
[[table]]
kind = "trades"
files = ["*.csv"]
instrument = "{ID}"
time = {{ event = "t", unit = "UNIT" }}
price = "p"
size = "q"
aggressor = {{ kind = "side", column = "s", buy = ["buy"], sell = ["sell"] }}
"""
HEADER, FIRST, SECOND = "t,p,q,s", f"{T0},7165.5,1.5,buy", f"{T0 + 1000},7166,2,sell"
ROWS = f"{FIRST}\n{SECOND}\n"


def _import(root, content, extra="", unit="ms"):
    content = content if isinstance(content, bytes) else content.encode()
    (root / "a.csv").write_bytes(content)
    run_import(mapping(TABLE.replace("UNIT", unit) + extra), root, root / "catalog")
    return Catalog(root / "catalog").trades(ID)[["ts_init", "price", "size", "side"]].tolist()


EXPECTED = [(T0 * MS, 7165.5, 1.5, 1), ((T0 + 1000) * MS, 7166.0, 2.0, -1)]


@pytest.mark.parametrize(
    ("content", "extra"),
    [
        (f"{HEADER}\n{ROWS}".replace(",", ";"), ""),
        (f"{HEADER}\n{ROWS}".replace(",", "\t"), ""),
        (f"{HEADER}\n{ROWS}".replace(",", "|"), ""),
        (f"{HEADER}\n{ROWS}".replace(",", "!"), 'csv = { separator = "!" }'),
        (f"{HEADER}\n{ROWS}".replace(",", ";").replace(".", ","), 'csv = { decimal = "," }'),
        (f't,p,q,s\n{T0},"7,165.5",1.5,buy\n{T0 + 1000},"7,166",2,sell', "csv = { thousands = ',' }"),
        (
            f"t;p;q;s\n{T0};7.165,5;1,5;buy\n{T0 + 1000};7.166;2;sell",
            "csv = { thousands = '.', decimal = ',' }",
        ),
        (f"t;p;q;s\n{T0};7 165.5;1.5;buy\n{T0 + 1000};7 166;2;sell", "csv = { thousands = ' ' }"),
        (f"\ufeff{HEADER}\r\n{ROWS}".replace("\n", "\r\n"), ""),
        (f"{HEADER}\n{ROWS}".encode("utf-16"), ""),
        (f"{HEADER},naïve\n{FIRST},é\n{SECOND},é\n".encode("cp1252"), "csv = { encoding = 'cp1252' }"),
        (f"\n# recorded by us\n\n{HEADER}\n{FIRST}\n\n# reconnected\n{SECOND}\n", ""),
        (f"https://vendor.example\n{HEADER}\n{ROWS}", "csv = { skip = 1 }"),
        (f'"t","p","q","s"\n{FIRST}\n{SECOND}', ""),
        (f"t, p, q, s\n{ROWS}".replace(",7", ", 7").replace(",1.5", ", 1.5"), ""),
        (f"s,x,q,p,x,t\nbuy,,1.5,7165.5,,{T0}\nsell,,2,7166,,{T0 + 1000}\n", ""),  # two columns nobody reads
        (ROWS, 'csv = { columns = ["t", "p", "q", "s"] }'),
        (f"{HEADER}\n{ROWS}", 'csv = { columns = ["t", "p", "q", "s"] }'),
        (f"Time,Price,Size,Side\n{ROWS}", 'csv = { columns = ["t", "p", "q", "s"] }'),
        (
            f"t,p,q,p,s\n{T0},7165.5,1.5,9,buy\n{T0 + 1000},7166,2,9,sell",
            'csv = { columns = ["t", "p", "q", "p2", "s"] }',
        ),
    ],
)
def test_every_form_of_the_same_table(root, content, extra):
    assert _import(root, content, extra) == EXPECTED


def test_files_with_and_without_a_header_in_one_table(root):
    (root / "0.csv").write_text(FIRST.replace(str(T0), str(T0 - 1)) + "\n")
    assert _import(root, f"{HEADER}\n{ROWS}", 'csv = { columns = ["t", "p", "q", "s"] }')[1:] == EXPECTED


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        ("2023-11-14D22:13:20.000000000", "timestamp"),
        ("2023-11-14_22:13:20", "timestamp"),
        ("2023/11/14 22:13:20", "timestamp"),
        ("2023.11.14 22:13:20,000", "timestamp"),
        ("2023-11-14 22:13:20 UTC", "timestamp"),
        ("2023-11-14 22:13:20.000000000000Z", "timestamp"),
        ("2023-11-14T23:13:20+01:00", "timestamp"),
        ("2023-11-14T23:13:20+0100", "timestamp"),
        ("1700000000.000", "s"),
        ("1700000000000000000", "ns"),
        ("1.7e9", "s"),
    ],
)
def test_odd_times(root, time, unit):
    time = f'"{time}"'
    assert _import(root, f"{HEADER}\n{FIRST}\n".replace(str(T0), time), unit=unit) == EXPECTED[:1]


def test_times_keep_every_digit(root):
    text = "2020-03-12D10:44:00.123456789"
    ((ts, *_),) = _import(root, f"{HEADER}\n{text},7000.5,1,buy", unit="timestamp")
    assert ts == 1584009840123456789


@pytest.mark.parametrize(
    ("content", "extra", "says"),
    [
        (
            ROWS,
            "",
            rf"a\.csv: has no header: its first line is {T0}, 7165\.5, 1\.5, buy; name its columns .*csv = ",
        ),
        (ROWS, 'csv = { columns = ["t", "p", "q"] }', r"a\.csv: has 4 columns, but csv\.columns names 3"),
        (ROWS, 'csv = { columns = ["t", "p", "q", "x"] }', r"no column 's'; it has t, p, q, x"),
        (f"t,p,q,p,s\n{FIRST},sell", "", r"a\.csv: columns 2 and 4 are both named 'p'; .*csv\.columns"),
        ("t,price,q,s\n", "", r"a\.csv: no column 'p'; it has t, price, q, s"),
        ("t,p,qq,s\n", "", r"did you mean 'qq' for 'q'\?"),
        (
            f'{HEADER}\n{T0},"7,165.5",1,buy',
            "",
            r"column 'p', row 0: '7,165\.5' is not a number; set csv = \{ thousands = ',' \}",
        ),
        (f'{HEADER}\n{T0},"7165,5",1,buy', "", r"'7165,5' is not a number; set csv = \{ decimal = ',' \}"),
        (f'{HEADER}\n{T0},"1,5",1,buy', "csv = { thousands = ',' }", r"row 0: '1,5' is not a number"),
        (f"{HEADER}\n{T0},7.5,1,buy", "csv = { decimal = ',' }", r"row 0: 7\.5 is not a number"),
        (f"{HEADER}\n{FIRST}é\n".encode("cp1252"), "", r"a\.csv: byte \d+ is not utf-8; name the encoding"),
        (
            f"{HEADER}\n{FIRST}\n{T0 * 1000},1,1,buy",
            "",
            rf"row 1: {T0 * 1000} is not a time in 'ms'; it would be a time in 'us'",
        ),
        (b"\x00\x01\x02" * 50, "", r"cannot be read: it is not text"),
        ("\n\n", "", r"a\.csv: cannot be read: it has no rows"),
        (f"{HEADER}\n{FIRST}\n{T0},7", "", r"a\.csv: cannot be read: .*Expected 4 columns, got 2"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(root, content, extra, says):
    with pytest.raises(MappingError, match=says):
        _import(root, content, extra)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('separator = ";;"', "at most 1 character"),
        ('columns = ["t", "p", "t"]', "'t' named twice"),
        ('decimal = ","\nthousands = ","', "both ','"),
        ('encoding = "klingon"', "'klingon' is no encoding"),
        ('encoding = "rot13"', "'rot13' is no encoding"),
        ("skip = -1", "greater than or equal to 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, says):
    with pytest.raises(ValueError, match=says):
        mapping(TABLE.replace("UNIT", "ms") + f"[table.csv]\n{setting}\n")


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([3, 2, 2, 2, 1], [4, 3, 2, 1, 0]),  # newest first: turned round
        ([1, 2, 2, 2, 3], [0, 1, 2, 3, 4]),
        ([2, 2, 1, 2, 3], [2, 0, 1, 3, 4]),  # a straggler in a file that is oldest first
        ([3, 1, 2, 2, 1], [4, 1, 3, 2, 0]),
    ],
)
def test_sorted_rows_of_one_time_stay_in_the_order_they_happened(root, stamps, expected):
    rows = "".join(f"{T0 + stamp},{100 + i},1,buy\n" for i, stamp in enumerate(stamps))
    (root / "a.csv").write_text(f"{HEADER}\n{rows}")
    table = mapping(TABLE.replace('unit = "UNIT"', 'unit = "ms", sort = true'))
    run_import(table, root, root / "catalog")
    assert (Catalog(root / "catalog").trades(ID)["price"] - 100).tolist() == expected


def test_ids_that_begin_as_numbers(root):
    """More of them than a reader guesses types from."""
    body = "".join(f"{T0 + i},100,1,buy,{i}\n" for i in range(800_000))
    (root / "a.csv").write_text(f"{HEADER},id\n{body}{T0 + 900_000},100,1,buy,a1\n")
    run_import(mapping(TABLE.replace("UNIT", "ms") + 'id = "id"'), root, root / "catalog")
    assert len(Catalog(root / "catalog").trades(ID)) == 800_001


def test_a_column_that_changes_its_type_is_named(root):
    body = "".join(f"{T0 + i},100,1,0\n" for i in range(1_500_000))
    (root / "a.csv").write_text(f"{HEADER}\n{body}{T0 + 2_000_000},100,1,sell\n")
    table = TABLE.replace("UNIT", "ms").replace('"buy"', "0").replace('"sell"', "1")
    with pytest.raises(
        MappingError, match=r"column 's', row 1500000: 'sell' is not int64, as the column begins"
    ):
        run_import(mapping(table), root, root / "catalog")


def test_the_schema_of_mappings_lists_the_settings():
    schema = ImportMapping.model_json_schema()
    assert set(schema["$defs"]["CsvSettings"]["properties"]) == {
        "separator",
        "columns",
        "decimal",
        "thousands",
        "encoding",
        "skip",
    }


def test_a_table_of_numbers_alone_passes_over_the_columns_it_does_not_read(tmp_path):
    (tmp_path / "a.csv").write_text(f"t,other,p\n{T0},1,7165.5\n{T0 + 1000},2,7166\n")
    series = f"""
[[table]]
kind = "series"
files = ["a.csv"]
instrument = "{ID}"
time = {{ event = "t", unit = "ms" }}
values = {{ level = "p" }}
"""
    run_import(mapping(series), tmp_path, tmp_path / "catalog")
    assert Catalog(tmp_path / "catalog").series("level", ID)["value"].tolist() == [7165.5, 7166.0]
