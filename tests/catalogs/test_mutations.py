"""Thousands of tables, mappings and catalogs changed in one place: no traceback, and a reason for each change
that nobody notices."""

import multiprocessing
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.catalogs import mutants

IMPORTS, CATALOGS, PART = 3_080, 1_000, 110

_ANY = "any positive size is one; a size says nothing of the next"
_LATE = "a recording may begin and end anywhere"
_IRREGULAR = "a market's events come when they come: one fewer leaves no trace"
_NEAR = "a price, volume or rate of the same market a minute ago is a possible one now"
_JITTER = "a second in a minute or in hours is the jitter of clocks"
_SERIES = "a series is of any kind: nobody can say what values it may have"
_UNREAD = "no feature, match or report reads it"
_BYTE = "a digit is another digit: within the range of the market nobody can tell"

IN_IMPORTS = {
    r"(csv|parquet): bytes": _BYTE,
    r"\w+: half gone": _LATE,
    r"(trades|quotes|book_snapshots): a row gone": _IRREGULAR,
    r"(trades|quotes|bars|book_snapshots)\.(level )?size: (tenfold|thousandth|other row)": _ANY,
    r"(trades|quotes|book_snapshots)\.(level )?price: other row": _NEAR,
    r"bars\.(open|high|low|close|size): other row": _NEAR,
    r"mark\.value: other row": _NEAR,
    r"funding\.rate: (other row|negative|tenfold|thousandth|'0'|'-1e-30')": _NEAR,
    r"series\.value: .*": _SERIES,
    r"book_snapshots\.level (price|size): .*": "a level may be absent, of any size, or far from the touch",
    r"trades\.side: other row": "either side may have been the aggressor",
    r"trades\.id: .*": "any text is an id, as long as no other trade has it",
    r"trades: columns id and size swapped": "whole numbers that count up may be sizes, and fractions ids",
    r"(quotes|book_snapshots): columns (level )?size and (level )?size swapped": _ANY,
    r"mapping: (id|raw_symbol) gone": "an id is not required",
    r"mapping: oi renamed": "a series may have any name",
}
IN_CATALOGS = {
    r"(trades|quotes|deltas|book): a row gone": _IRREGULAR,
    r"trades\.(size|trade_id|aggressor_side|price): .*": "another trade could have been there",
    r"quotes\.(bid|ask)_size: .*": _ANY,
    r"quotes\.(bid|ask)_price: other row": _NEAR,
    r"(bars|mark|index)\.(open|high|low|close|value): other row": _NEAR,
    r"bars\.volume: .*": _ANY,
    r"\w+\.ts_init: a second more": _JITTER,
    r"series\.ts_event: .*": "a series may be published long after it happened",
    r"series\.value: .*": _SERIES,
    r"series: (metadata gone|precision)": _UNREAD,
    r"funding: precision": _UNREAD,
    r"funding\.next_funding_ns: a second more": _JITTER,
    r"funding\.(rate|interval): .*": _NEAR,
    r"deltas\.(order_id|sequence): .*": _UNREAD,
    r"deltas\.(size|price|flags|action|side): .*": "a level is of any size, and stays until the next update",
}


def _run(jobs):
    """Counts of (name, outcome) and faults of all jobs, in two processes of their own."""
    counts, faults = Counter(), []
    context = multiprocessing.get_context("spawn")  # a crash of one ends the test, not the tests
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for future in [pool.submit(*job) for job in jobs]:
            some, failed = future.result(timeout=400)
            counts += some
            faults += failed
    return counts, faults


def _compare(counts, reasons):
    """Every silent change has a reason, and every reason is that of a silent change."""
    silent = {name for name, outcome in counts if outcome == "silent"}
    assert [name for name in sorted(silent) if not any(re.fullmatch(r, name) for r in reasons)] == []
    assert [r for r in reasons if not any(re.fullmatch(r, name) for name in silent)] == []


@pytest.mark.slow
def test_mutated_tables_and_mappings():
    subjects = [(kind, form) for kind in mutants.tables() for form in ("csv", "parquet")]
    each = IMPORTS // len(subjects)
    jobs = [
        (mutants.judge_imports, kind, form, range(at, min(at + PART, each)))
        for kind, form in subjects
        for at in range(0, each, PART)
    ]
    counts, faults = _run(jobs)
    assert faults == []
    assert sum(counts.values()) == IMPORTS
    assert {outcome for _, outcome in counts} == {"refused", "said", "found", "same", "silent"}
    _compare(counts, IN_IMPORTS)


@pytest.mark.slow
def test_mutated_catalogs():
    jobs = [(mutants.judge_catalogs, range(at, at + PART)) for at in range(0, CATALOGS, PART)]
    jobs[-1] = (mutants.judge_catalogs, range(jobs[-1][1].start, CATALOGS))
    counts, faults = _run(jobs)
    assert faults == []
    assert sum(counts.values()) == CATALOGS
    _compare(counts, IN_CATALOGS)
