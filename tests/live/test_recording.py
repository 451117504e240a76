"""The recorder writes what it was given: compared with the catalog it was read from, table by table."""

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback import recorded, small_market
from nautilus_trader.model import AggressorSide, FundingRateUpdate, TradeId, TradeTick

import catalogs.writer
from catalogs.consolidation import consolidate
from catalogs.layout import SCHEMAS, files
from catalogs.reader import Catalog
from catalogs.recording import CatalogRecorder

SECOND = 10**9


@pytest.mark.parametrize("flush_every", [None, 40])
def test_a_recording_equals_its_source(tmp_path, monkeypatch, flush_every):
    parts = []

    def join(folder):
        parts.append(len(list(folder.iterdir())))
        return consolidate(folder)

    monkeypatch.setattr(catalogs.writer, "consolidate", join)
    instrument = small_market(tmp_path / "source", 20)
    recorder = CatalogRecorder(tmp_path / "copy", [instrument])
    for n, item in enumerate(recorded(tmp_path / "source")):
        recorder(item)
        if flush_every and n % flush_every == 0:
            recorder.flush(item.ts_init)
    recorder.close()
    assert Catalog(tmp_path / "copy").instruments() == Catalog(tmp_path / "source").instruments()
    for kind in ("trades", "deltas", "mark", "funding"):
        source, copy = (_read(tmp_path / name, kind, str(instrument.id)) for name in ("source", "copy"))
        assert copy.equals(source), kind
    assert len(files(tmp_path / "copy", "trades", str(instrument.id))) == 1
    assert (max(parts) > 1) == bool(flush_every)


def test_events_of_one_moment_are_never_parted(tmp_path):
    instrument = small_market(tmp_path / "source", 1)
    recorder = CatalogRecorder(tmp_path / "copy", [instrument])
    times = [1, 2, 2, 2, 3, 3, 4]
    for number, second in enumerate(times):
        recorder(_trade(instrument, second * SECOND, number))
        recorder.flush((second + 5) * SECOND)
    recorder.close()
    assert Catalog(tmp_path / "copy").trades(str(instrument.id))["ts_init"].tolist() == [
        t * SECOND for t in times
    ]


def test_a_late_arrival_finds_its_place(tmp_path):
    instrument = small_market(tmp_path / "source", 1)
    recorder = CatalogRecorder(tmp_path / "copy", [instrument])
    for number, second in enumerate((10, 12, 11)):
        recorder(_trade(instrument, second * SECOND, number))
        recorder.flush(second * SECOND)
    recorder.close()
    trades = _read(tmp_path / "copy", "trades", str(instrument.id))
    assert trades["trade_id"].to_pylist() == ["0", "2", "1"]


def test_what_comes_too_late_to_be_written_is_counted_and_said_at_the_end(tmp_path):
    instrument = small_market(tmp_path / "source", 1)
    recorder = CatalogRecorder(tmp_path / "copy", [instrument])
    recorder(_trade(instrument, 10 * SECOND, 0))
    recorder(_trade(instrument, 20 * SECOND, 1))
    recorder.flush(60 * SECOND)
    recorder(_trade(instrument, 15 * SECOND, 2))
    recorder.flush(60 * SECOND)
    recorder(_trade(instrument, 70 * SECOND, 3))
    recorder(_trade(instrument, 12 * SECOND, 4))
    recorder.flush(80 * SECOND)  # the session goes on
    says = f"2 rows of trades {instrument.id} came more than 5 s late and are left out"
    with pytest.raises(ValueError, match=says):
        recorder.close()
    trades = _read(tmp_path / "copy", "trades", str(instrument.id))
    assert trades["trade_id"].to_pylist() == ["0", "1", "3"]


def test_a_funding_time_already_past_is_written_as_unknown(tmp_path):
    instrument = small_market(tmp_path / "source", 1)
    recorder = CatalogRecorder(tmp_path / "copy", [instrument])
    for at, following, interval in ((9, 10, 480), (11, 10, 480), (12, 20, 60), (13, None, None)):
        following = None if following is None else following * SECOND
        recorder(
            FundingRateUpdate(instrument.id, Decimal("0.0001"), at * SECOND, at * SECOND, interval, following)
        )
    recorder.close()
    funding = Catalog(tmp_path / "copy").funding(str(instrument.id))
    assert funding["next_funding_ns"].tolist() == [10 * SECOND, 0, 20 * SECOND, 0]
    assert (funding["interval"] // (60 * SECOND)).tolist() == [480, 480, 60, 0]


def _trade(instrument, ts, number):
    price, size = instrument.make_price(100.0), instrument.make_qty(1.0)
    return TradeTick(instrument.id, price, size, AggressorSide.BUY, TradeId(str(number)), ts, ts)


def _read(path, kind, identifier):
    """The rows of one feed, without what only describes the file."""
    tables = [pq.read_table(file) for file in files(path, kind, identifier)]
    return pa.concat_tables(tables).unify_dictionaries().replace_schema_metadata().cast(SCHEMAS[kind])
