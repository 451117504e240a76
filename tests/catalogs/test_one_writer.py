"""One writer has a catalog at a time, and finds it whole."""

import contextlib
import resource
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalogs.imports import feeds
from catalogs.imports.base import MappingError
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping
from catalogs.instruments import PerpetualSettings
from catalogs.reader import Catalog
from catalogs.recording import CatalogRecorder
from catalogs.synthetic.settings import SynthSettings
from catalogs.synthetic.writing import synthesize
from catalogs.writer import CatalogWriter

ID = "XRPUSDT-PERP.BINANCE"
T0 = 1_700_000_000_000_000_000
SECOND = 10**9
BUSY = "another process is writing this catalog; wait for it, or end it"


@pytest.fixture(scope="module")
def perp():
    return PerpetualSettings(
        id=ID, base="XRP", quote="USDT", price_increment="0.1", size_increment="0.001"
    ).build()


def _trades(writer, perp, start, rows):
    ts = T0 + (start + np.arange(rows)) * SECOND
    writer.trades(perp, ts, ts, np.full(rows, 100.0), np.ones(rows), np.ones(rows))


def _series(root, value):
    (root / "m.csv").write_text(f"t,v\n{T0},{value}\n")
    table = {
        "kind": "series",
        "files": ["m.csv"],
        "instrument": ID,
        "time": {"event": "t", "unit": "ns"},
        "values": {"oi": "v"},
    }
    return ImportMapping(instrument=[], table=[table])


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path, perp):
    first = CatalogWriter(tmp_path)
    with pytest.raises(ValueError, match=BUSY):
        CatalogWriter(tmp_path)
    first.close()
    with CatalogWriter(tmp_path) as second:
        _trades(second, perp, 0, 1)
    with pytest.raises(ValueError, match="goes back"), CatalogWriter(tmp_path) as third:
        third.mark_prices(perp, np.array([2, 1]), np.array([2, 1]), np.ones(2))
    fourth = CatalogWriter(tmp_path)
    del fourth  # as at the end of a process
    CatalogWriter(tmp_path).close()


KILLED = """
import os, signal, sys, tomllib
from pathlib import Path
from catalogs.imports import feeds
from catalogs.imports.importing import run_import
from catalogs.imports.mapping import ImportMapping

feeds._CHUNK = 100
replace, left = os.replace, [int(sys.argv[2])]


def killing(*paths):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)


os.replace = killing
root = Path(sys.argv[1])
run_import(ImportMapping.model_validate(tomllib.loads((root / "map.toml").read_text())), root, root / "c")
"""


@pytest.mark.parametrize(("after", "put_in_place"), [(3, 0), (12, 0), (15, 3)])
def test_an_import_that_is_killed_and_begun_again_is_as_if_it_never_was(
    tmp_path, monkeypatch, after, put_in_place
):
    """It writes eleven files and a definition, and then puts the files in place one by one."""
    for part in np.array_split(np.arange(1_000), 10):
        rows = "".join(f"{T0 + i * SECOND * 60},{100 + i % 7},1,{i}\n" for i in part)
        (tmp_path / f"{part[0]:03}.csv").write_text(f"t,p,q,id\n{rows}")
    (tmp_path / "map.toml").write_text(f"""
[[instrument]]
kind = "perpetual"
id = "{ID}"
base = "XRP"
quote = "USDT"
price_increment = "0.1"
size_increment = "0.001"
[[table]]
kind = "trades"
files = ["*.csv"]
instrument = "{ID}"
time = {{ event = "t", unit = "ns" }}
price = "p"
size = "q"
id = "id"
aggressor = {{ kind = "none" }}
""")
    work = [sys.executable, "-c", KILLED, str(tmp_path), str(after)]
    killed = subprocess.run(work, cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    written = list((tmp_path / "c/data/trades").rglob("*.parquet"))
    assert len(written) == put_in_place  # nothing before all could be read, and then whole files
    monkeypatch.setattr(feeds, "_CHUNK", 100)
    mapping = ImportMapping.model_validate(tomllib.loads((tmp_path / "map.toml").read_text()))
    run_import(mapping, tmp_path, tmp_path / "c")
    run_import(mapping, tmp_path, tmp_path / "whole")
    again, whole = Catalog(tmp_path / "c"), Catalog(tmp_path / "whole")
    np.testing.assert_array_equal(again.trades(ID), whole.trades(ID))
    assert not list((tmp_path / "c").rglob("*.partial"))


def test_imports_recordings_and_synthetic_markets_take_their_turn(tmp_path, perp):
    mapping = _series(tmp_path, 1.0)
    settings = SynthSettings(duration="1m")
    with CatalogWriter(tmp_path / "c"), CatalogWriter(tmp_path / ".s.partial"):
        for work in (
            lambda: run_import(mapping, tmp_path, tmp_path / "c"),
            lambda: CatalogRecorder(tmp_path / "c", []),
            lambda: synthesize(settings, tmp_path / "s"),
        ):
            with pytest.raises(ValueError, match=BUSY):
                work()
    run_import(mapping, tmp_path, tmp_path / "c")
    CatalogRecorder(tmp_path / "c", []).close()
    synthesize(settings, tmp_path / "s")
    with CatalogWriter(tmp_path / "s"):
        pass


def test_an_import_that_fails_lets_the_catalog_go(tmp_path):
    mapping = _series(tmp_path, "x")
    with pytest.raises(MappingError) as error:
        run_import(mapping, tmp_path, tmp_path / "c")
    assert error.tb is not None  # what still refers to the writer
    CatalogWriter(tmp_path / "c").close()


def test_a_synthetic_market_begins_in_an_empty_folder(tmp_path, perp):
    with CatalogWriter(tmp_path / ".s.partial") as killed:
        _trades(killed, perp, 0, 5)
    synthesize(SynthSettings(duration="1m"), tmp_path / "s")
    assert ID not in Catalog(tmp_path / "s").identifiers("trades")


def test_a_file_is_no_catalog(tmp_path):
    (tmp_path / "file").write_text("")
    settings = SynthSettings(duration="1m")
    mapping = _series(tmp_path, 1.0)
    for work in (
        lambda: run_import(mapping, tmp_path, tmp_path / "file"),
        lambda: synthesize(settings, tmp_path / "file"),
    ):
        with pytest.raises(NotADirectoryError, match="file: is a file; --out names the folder of a catalog"):
            work()


def test_a_definition_half_written_by_a_killed_process_is_written_anew(tmp_path, perp):
    (tmp_path / ".instrument.partial" / "data").mkdir(parents=True)
    with CatalogWriter(tmp_path) as writer:
        writer.instrument(perp)
    assert [str(item.id) for item in Catalog(tmp_path).instruments()] == [ID]


@contextlib.contextmanager
def _full_disk():
    """No file can grow beyond 20 kB: fails in the same place as a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_is_reported_with_the_file(tmp_path):
    rng = np.random.default_rng(1)
    ts = T0 + np.arange(20_000)
    with CatalogWriter(tmp_path / "c") as writer:
        with _full_disk(), pytest.raises(OSError, match=rf"large: '{tmp_path}/c/series/oi/X/2023.*parquet'"):
            writer.series("oi", "X", ts, ts, rng.normal(size=20_000))
        for part in np.array_split(np.arange(20_000), 20):
            writer.series("oi", "X", ts[part], ts[part], rng.normal(size=len(part)))
        with _full_disk(), pytest.raises(OSError, match=rf"large: '{tmp_path}/c/series/oi/X/2023.*parquet'"):
            writer.close()
    assert not list(tmp_path.rglob("*.partial"))
    assert len(Catalog(tmp_path / "c").series("oi", "X")) == 20_000


def test_a_write_that_fails_midway_leaves_nothing_behind(tmp_path, monkeypatch):
    ts = T0 + np.arange(10)
    honest = pq.write_table

    def fails(table, where, **options):
        honest(table.slice(0, 5), where, **options)
        raise OSError("the cable was pulled")

    with CatalogWriter(tmp_path) as writer:
        monkeypatch.setattr(pq, "write_table", fails)
        with pytest.raises(OSError, match="the cable was pulled"):
            writer.series("oi", "X", ts, ts, np.ones(10))
        monkeypatch.undo()
        assert not [path for path in tmp_path.rglob("*") if "parquet" in path.name]
        assert writer.series("oi", "X", ts, ts, np.ones(10)) == 10
    assert len(Catalog(tmp_path).series("oi", "X")) == 10


def test_a_synthetic_market_on_a_full_disk_names_the_file(tmp_path):
    synthesize(SynthSettings(duration="1m"), tmp_path / "compiled")
    with _full_disk(), pytest.raises(OSError, match=rf"large: '{tmp_path}/\.s\.partial/.*parquet'"):
        synthesize(SynthSettings(duration="10m"), tmp_path / "s")
