"""What an import leaves out or refuses: prices that are none, aggressors unknown, files that overlap."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from catalogs.checks.overlaps import SeenIds
from catalogs.imports import feeds
from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.reader import Catalog
from catalogs.summary import Tally
from tests.catalogs.small_tables import ID, T0, mapping, parquet

NO_PRICE = "without a positive price: left out"


def _table(kind, text, files="*.parquet"):
    head = f'[[table]]\nkind = "{kind}"\nfiles = ["{files}"]\ninstrument = "{ID}"\n'
    if not text.startswith("time ="):
        head += 'time = { event = "t", unit = "ms" }\n'
    return mapping(head + text)


TRADES = 'price = "p"\nsize = "q"\nid = "id"\naggressor = { kind = "buyer_maker", column = "m" }'


NO_PRICES = [100.0, 0.0, -1.0, np.inf, np.nan, 0.04, 0.1]  # 0.04 rounds to no tick
ONE = np.ones(len(NO_PRICES))
TIMES = T0 + np.arange(len(NO_PRICES)) * 60_000


def test_trades_without_a_positive_price_are_left_out(root, tmp_path):
    parquet(root / "a.parquet", t=TIMES, p=NO_PRICES, q=ONE, id=np.arange(len(ONE)), m=ONE > 0)
    summary = run_import(_table("trades", TRADES), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").trades(ID)["price"].tolist() == [100.0, 0.1]
    assert summary.tally("trades", ID).notes[NO_PRICE] == 5


def test_quotes_without_a_positive_price_are_left_out(root, tmp_path):
    parquet(root / "a.parquet", t=TIMES, b=NO_PRICES, a=np.full(len(ONE), 100.1), q=ONE)
    text = 'bid_price = "b"\nask_price = "a"\nbid_size = "q"\nask_size = "q"'
    summary = run_import(_table("quotes", text), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").coverage(ID, "quotes")[2] == 2
    notes = summary.tally("quotes", ID).notes
    assert (notes[NO_PRICE], notes["with a side missing: left out"]) == (3, 2)


def test_bars_without_a_positive_price_are_left_out(root, tmp_path):
    parquet(root / "a.parquet", t=TIMES, o=ONE, h=ONE, l=np.minimum(NO_PRICES, 1.0), c=ONE, v=ONE)
    text = (
        'time = { event = "t", unit = "ms", stamp = "close", period = "1m" }\n'
        'open = "o"\nhigh = "h"\nlow = "l"\nclose = "c"\nvolume = "v"'
    )
    summary = run_import(_table("bars", text), root, tmp_path / "c")
    bar_type = f"{ID}-1-MINUTE-LAST-EXTERNAL"
    assert Catalog(tmp_path / "c").bars(bar_type).column("low").tolist() == [1.0, 1.0, 0.1]
    assert summary.tally("bars", bar_type).notes[NO_PRICE] == 3


@pytest.mark.parametrize(
    "column", [[True, False], [1, 0], [1.0, 0.0], ["true", "false"], ["True", "FALSE"], ["TRUE", "False"]]
)
def test_the_flag_of_a_resting_buyer_in_every_form(root, tmp_path, column):
    for kind in (None, pa.dictionary(pa.int8(), pa.string())):
        if kind is None or isinstance(column[0], str):
            cells = pa.array(column, kind)
            parquet(root / "a.parquet", t=TIMES[:2], p=ONE[:2], q=ONE[:2], id=[1, 2], m=cells)
            run_import(_table("trades", TRADES), root, tmp_path / str(kind))
            assert Catalog(tmp_path / str(kind)).trades(ID)["side"].tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["true", "t"], r"column 'm', row 1: t is neither"),
        ([True, None], r"column 'm', row 1: None is neither"),
        ([0, 2], r"column 'm', row 1: 2 is neither"),
        ([None, None], "column 'm' is null, which cannot equal"),
    ],
)
def test_an_unknown_flag_is_no_buyer(root, tmp_path, column, says):
    parquet(root / "a.parquet", t=TIMES[:2], p=ONE[:2], q=ONE[:2], id=[1, 2], m=column)
    with pytest.raises(MappingError, match=says):
        run_import(_table("trades", TRADES), root, tmp_path / "c")


def test_trades_that_two_files_hold_are_counted_once(root, tmp_path):
    for name, ids in (("a", [1, 2, 3, 4]), ("b", [3, 4, 5, 6]), ("c", [5, 6, 7])):
        times = T0 + np.array(ids) * 1_000
        parquet(root / f"{name}.parquet", t=times, p=np.array(ids) * 1.0, q=ids, id=ids, m=[True] * len(ids))
    summary = run_import(_table("trades", TRADES), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").trades(ID)["size"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert summary.tally("trades", ID).notes["with the id of a row before: left out"] == 4


def test_one_id_is_one_trade_in_one_file_out_of_order_and_much_later(root, tmp_path):
    first, second = [5, 3, 4, 3, 9], [8, 5, 1, 10]
    for name, ids, start in (("a", first, 0), ("b", second, 3_600)):
        times = T0 + (start + np.arange(len(ids))) * 1_000
        parquet(
            root / f"{name}.parquet",
            t=times,
            p=ONE[: len(ids)],
            q=np.array(ids) / 10,
            id=ids,
            m=[True] * len(ids),
        )
    summary = run_import(_table("trades", TRADES), root, tmp_path / "c")
    assert Catalog(tmp_path / "c").trades(ID)["size"].tolist() == [0.5, 0.3, 0.4, 0.9, 0.8, 0.1, 1.0]
    tally = summary.tally("trades", ID)
    assert tally.notes["with the id of a row before: left out"] == 2
    assert (tally.read, tally.added, tally.left_out) == (9, 7, 2)


def test_a_column_that_is_no_trades_id_is_refused(root, tmp_path):
    parquet(root / "a.parquet", t=TIMES[:3], p=ONE[:3], q=[1.0, 2.0, 3.0], id=["x", "y", "x"], m=[True] * 3)
    with pytest.raises(
        MappingError, match=r"a\.parquet: rows 0 and 2 both have x in column 'id', but size 1 and 3"
    ):
        run_import(_table("trades", TRADES), root, tmp_path / "c")


def test_two_equal_trades_of_one_time_are_two_unless_asked_otherwise(root, tmp_path):
    text = TRADES.replace('id = "id"\n', "")
    parquet(root / "a.parquet", t=[T0, T0, T0 + 1], p=ONE[:3], q=[1.0, 1.0, 2.0], m=[True] * 3)
    kept = run_import(_table("trades", text), root, tmp_path / "kept").tally("trades", ID)
    assert Catalog(tmp_path / "kept").trades(ID)["size"].tolist() == [1, 1, 2]
    assert (kept.notes["equal to the row above: kept"], kept.left_out) == (1, 0)
    dropped = run_import(_table("trades", "drop_repeats = true\n" + text), root, tmp_path / "dropped")
    assert Catalog(tmp_path / "dropped").trades(ID)["size"].tolist() == [1, 2]
    assert dropped.tally("trades", ID).left_out == 1


@pytest.mark.parametrize("kind", ["counted", "scattered", "text", "mixed"])
def test_seen_ids_are_those_of_a_plain_set(kind):
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 3_000, 8_000) if kind == "counted" else rng.integers(0, 10**12, 4_000)
    numbers = np.concatenate((numbers, numbers[rng.integers(0, len(numbers), 1_000)]))
    numbers = np.sort(numbers) if kind == "counted" else rng.permutation(numbers)
    seen, known = SeenIds(), set()
    for n, part in enumerate(np.array_split(numbers, 17)):
        ids = pa.chunked_array([part])
        if kind == "text" or (kind == "mixed" and n % 2):
            ids = pa.chunked_array([[f"x{i}" if kind == "text" or i % 3 else str(i) for i in part.tolist()]])
        expected = []
        for item in ids.to_pylist():
            expected.append(str(item) in known)
            known.add(str(item))
        assert seen.repeated(ids).tolist() == expected


def test_ids_that_count_on_take_no_room():
    seen = SeenIds()
    for n in range(100):
        ids = pa.chunked_array([np.arange(n * 1_000, (n + 1) * 1_000)])
        assert not seen.repeated(ids).any()
    assert len(seen._runs) == 1
    assert not seen._hashes


DIFFS = """
first_id = "U"
last_id = "u"
previous_id = "pu"
rule = "RULE"
[table.snapshots]
files = ["snapshot.parquet"]
last_id = "id"
time = { event = "t", unit = "ms" }
"""


def _diffs(path, ids, start=T0):
    rows = np.repeat(ids, 2)  # two rows an update, of which each sets one level
    side, price = ["bid", "ask"] * len(ids), [100.0, 101.0] * len(ids)
    parquet(path, t=start + rows * 100, U=rows, u=rows, pu=rows - 1, side=side, price=price, size=rows * 1.0)


def _snapshot(path):
    parquet(path, t=[T0] * 2, id=[99] * 2, side=["bid", "ask"], price=[100.0, 101.0], size=[1.0, 1.0])


@pytest.mark.parametrize("rule", ["previous", "contiguous"])
def test_overlapping_files_of_updates_do_not_break_the_book(root, tmp_path, rule):
    _snapshot(root / "snapshot.parquet")
    _diffs(root / "diffs-1.parquet", np.arange(99, 113))
    _diffs(root / "diffs-2.parquet", np.arange(110, 121))
    mapping = _table("book_diffs", DIFFS.replace("RULE", rule), "diffs*.parquet")
    summary = run_import(mapping, root, tmp_path / "c")
    notes = summary.tally("deltas", ID).notes
    assert notes["updates repeated from an earlier file: left out"] == 3
    assert notes["breaks in the sequence: book cleared"] == 0
    tables = Catalog(tmp_path / "c").batches(ID, "deltas")
    (sequence,) = [table["sequence"].to_pylist() for table in tables]
    assert sequence == [99] * 3 + [i for i in range(100 - (rule == "previous"), 121) for _ in "ba"]


def test_a_file_of_updates_inside_an_earlier_one_does_not_break_the_book(root, tmp_path):
    _snapshot(root / "snapshot.parquet")
    for n, ids in enumerate((range(99, 113), range(103, 110), range(106, 121))):
        _diffs(root / f"diffs-{n}.parquet", np.array(ids))
    time = 'time = { event = "t", unit = "ms", max_late = "5s" }'
    mapping = _table("book_diffs", time + DIFFS.replace("RULE", "previous"), "diffs*.parquet")
    summary = run_import(mapping, root, tmp_path / "c")
    notes = summary.tally("deltas", ID).notes
    assert notes["updates repeated from an earlier file: left out"] == 7 + 7
    assert notes["breaks in the sequence: book cleared"] == 0
    (table,) = Catalog(tmp_path / "c").batches(ID, "deltas")
    assert table["sequence"].to_pylist() == [99] * 3 + [i for i in range(99, 121) for _ in "ba"]


def test_a_venue_that_numbers_anew_breaks_the_book(root, tmp_path):
    _snapshot(root / "snapshot.parquet")
    _diffs(root / "diffs-1.parquet", np.arange(99, 113))
    _diffs(root / "diffs-2.parquet", np.arange(3, 6), T0 + 30_000)
    summary = run_import(
        _table("book_diffs", DIFFS.replace("RULE", "previous"), "diffs*.parquet"), root, tmp_path / "c"
    )
    assert summary.tally("deltas", ID).notes["breaks in the sequence: book cleared"] == 1
    assert any("update 3 does not follow 112" in line for line in summary.warnings)


@pytest.mark.parametrize("distinct", [1, 4, 40])
def test_rows_of_one_time_are_never_written_apart(monkeypatch, distinct):
    monkeypatch.setattr(feeds, "_CHUNK", 10)
    rng = np.random.default_rng(distinct)
    ts = np.sort(rng.integers(0, distinct, 100))
    value = rng.random(100)
    written = []

    def write(ts_event, ts_init, value):
        written.append((ts_event, ts_init, value))
        return len(ts_init) - 1  # as if one row of each had been there

    tally = Tally("series", "X")
    sink = feeds.Sink(write, tally)
    for part in np.array_split(np.arange(100), [3, 3, 9, 31, 33, 90]):
        sink.add(ts[part] - 5, ts[part], {"value": value[part]})
    sink.finish()
    for n, column in enumerate((ts - 5, ts, value)):
        np.testing.assert_array_equal(np.concatenate([chunk[n] for chunk in written]), column)
    assert all(before[1][-1] < after[1][0] for before, after in pairwise(written))
    assert len(written) > 1 or distinct == 1
    assert (tally.added, tally.present) == (100 - len(written), len(written))
