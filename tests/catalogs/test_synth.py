"""The synthetic market as a catalog: valid book, honest trades, slow values, truth, always the same bits."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nautilus_trader.model import BookType, InstrumentId, OrderBook
from nautilus_trader.persistence import ParquetDataCatalog
from pydantic import ValidationError

from catalogs.reader import Catalog, SeriesRef, Stream
from catalogs.synthetic.writing import SynthSettings, read_truth, simulate, synthesize, true_parameters
from core.events import LAST, EventKind

ID, SPOT = "BTCUSDT-PERP.SIM", "BTCUSDT.SIM"
SECOND = 1_000_000_000


def _settings(**changes):
    """Half an hour that sees every regime, with two settlements of funding in it."""
    quick = {
        "seed": 5,
        "duration": "30m",
        "funding_interval": "10m",
        "trend": {"dwell": "3m"},
        "chop": {"dwell": "3m"},
        "stress": {"dwell": "2m"},
    }
    return SynthSettings(**{**quick, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "market"
    settings = _settings(spot=True)
    return settings, path, synthesize(settings, path)


def _digest(settings, chunk=1800):
    """One hash over every number of the market."""
    digest = hashlib.sha256()
    feeds = {}
    for stretch in simulate(settings, chunk):
        books = [stretch.perpetual] if stretch.spot is None else [stretch.perpetual, stretch.spot]
        for number, flow in enumerate(books):
            for name in ("deltas", "trades", "liquidations"):
                rows = getattr(flow, name)
                for field in rows.dtype.names:
                    feeds.setdefault((number, name, field), []).append(rows[field])
        for name in ("truth", "mark", "index", "funding", "open_interest", "liquidations"):
            series = getattr(stretch, name)
            feeds.setdefault((name, "ts"), []).append(series.ts)
            feeds.setdefault((name, "value"), []).append(series.value)
        feeds.setdefault("next_funding", []).append(stretch.next_funding)
    for parts in feeds.values():
        digest.update(np.ascontiguousarray(np.concatenate(parts)).tobytes())
    return digest.hexdigest()


class TestBook:
    """The events of the catalog, followed by a book of plain dictionaries."""

    @pytest.mark.parametrize("identifier", [ID, SPOT])
    def test_never_crossed_and_trades_walk_from_the_best_level(self, made, identifier):
        settings, path, _ = made
        events = np.concatenate(
            list(
                Catalog(path).events([Stream(identifier)], settings.start, settings.start + settings.duration)
            )
        )
        book = {EventKind.BID: {}, EventKind.ASK: {}}
        fills = []  # of the market order whose book update has not come yet
        updates = walks = 0
        for _, kind, _, flags, price, size in events.tolist():
            if kind == EventKind.CLEAR:
                book = {EventKind.BID: {}, EventKind.ASK: {}}
            elif kind in book:
                if size > 0:
                    book[kind][price] = size
                else:
                    del book[kind][price]  # a level that is not there would raise
                if flags & LAST:
                    updates += 1
                    assert max(book[EventKind.BID]) < min(book[EventKind.ASK])
                    assert min(len(side) for side in book.values()) >= settings.levels
                    for passive, at, left in fills:
                        assert book[passive].get(at, 0.0) == pytest.approx(left, abs=1e-9)
                    fills = []
            else:
                passive = EventKind.ASK if kind == EventKind.TRADE_BUY else EventKind.BID
                ladder = sorted(book[passive], reverse=passive == EventKind.BID)
                assert not fills or fills[0][0] == passive
                assert price == ladder[len(fills)]
                assert all(left == 0 for *_, left in fills)  # each level is emptied before the next
                fills.append((passive, price, round(book[passive][price] - size, 9)))
                walks += len(fills) > 1
        assert updates > 10_000
        assert walks > 20

    def test_opens_with_a_snapshot_and_batches_are_atomic(self, made):
        _, path, _ = made
        tables = [t.to_pandas() for t in Catalog(path).batches(ID, "deltas")]
        deltas = pd.concat(tables, ignore_index=True)
        first = deltas[deltas["sequence"] == 1]
        assert list(first["action"][:2]) == ["CLEAR", "ADD"]
        assert set(first["action"][1:]) == {"ADD"}
        assert (first["flags"] & 32 == 32).all()
        assert not (deltas["action"][len(first) :] == "CLEAR").any()
        sequence = deltas["sequence"].to_numpy().astype(np.int64)
        new = np.flatnonzero(np.diff(sequence, prepend=0))
        assert np.array_equal(sequence[new], np.arange(1, len(new) + 1))
        assert np.array_equal(np.flatnonzero(deltas["flags"] & 128), np.append(new[1:], len(deltas)) - 1)
        assert (deltas.groupby("sequence")["ts_init"].nunique() == 1).all()
        assert ((deltas["ts_init"] - deltas["ts_event"]) == pd.Timedelta("2ms")).all()

    def test_nautilus_rebuilds_the_same_mid(self, made):
        settings, path, _ = made
        stretch = next(simulate(settings, 60))
        book = OrderBook(InstrumentId.from_str(ID), BookType.L2_MBP)
        end = settings.start + 60 * SECOND
        for delta in ParquetDataCatalog(str(path)).query_order_book_deltas([ID], end=end):
            if delta.ts_event < end:
                book.apply_delta(delta)
        book.check_integrity()
        assert book.midpoint() == pytest.approx(stretch.perpetual.mid[-1], abs=1e-6)


class TestSlowValues:
    def test_mark_price_averages_the_premium(self, made):
        settings, path, _ = made
        mid = np.concatenate([s.perpetual.mid for s in simulate(settings)])
        index = np.concatenate([s.index.value for s in simulate(settings)])
        premium = pd.Series(np.append(0.0, mid / index - 1.0))
        average = premium.ewm(alpha=1 - np.exp(-1 / 30), adjust=False).mean()[1:]
        mark = Catalog(path).prices(ID, "mark")
        assert np.allclose(mark["value"], index * (1 + average), atol=0.051)
        assert np.array_equal(mark["ts_event"], settings.start + SECOND * np.arange(1, 1801))

    def test_funding_is_the_mean_premium_of_its_interval(self, made):
        settings, path, _ = made
        mid = np.concatenate([s.perpetual.mid for s in simulate(settings)])
        index = np.concatenate([s.index.value for s in simulate(settings)])
        premium = pd.Series(
            mid / index - 1.0, index=pd.to_datetime(settings.start + SECOND * np.arange(1, 1801))
        )
        funding = Catalog(path).funding(ID)
        ten = 600 * SECOND
        assert len(funding) == 31
        for row in funding:
            opened = row["next_funding_ns"] - ten
            assert opened <= row["ts_event"] < row["next_funding_ns"]
            assert row["next_funding_ns"] % ten == 0
            mean = premium[pd.to_datetime(opened) : pd.to_datetime(row["ts_event"])].mean()
            rate = (mean + np.clip(1e-4 - mean, -5e-4, 5e-4)) / 48
            assert row["rate"] == pytest.approx(rate, abs=1e-8)
            assert row["interval"] == ten

    def test_liquidations_are_trades_of_stress(self, made):
        _, path, _ = made
        catalog = Catalog(path)
        truth, trades = read_truth(path), catalog.trades(ID)
        liquidations = catalog.series("liquidations", ID)
        assert len(liquidations) > 5
        assert (liquidations["ts_init"] - liquidations["ts_event"] == 3 * SECOND).all()
        regime = truth.column("regime")[np.searchsorted(truth.ts, liquidations["ts_event"], "right")]
        assert set(regime) == {2.0}
        for row in liquidations:
            same = trades[trades["ts_event"] == row["ts_event"]]
            notional = (same["price"] * same["size"] * same["side"]).sum()
            assert row["value"] == pytest.approx(notional)

    def test_open_interest_falls_in_stress(self, made):
        settings, path, _ = made
        series = Catalog(path).series("open_interest", ID)
        assert (np.diff(series["ts_event"]) == 10 * SECOND).all()
        assert (series["ts_init"] - series["ts_event"] == settings.publication_delay).all()
        truth = read_truth(path)
        ends = np.searchsorted(truth.ts, series["ts_event"])
        stressed = np.array([(truth.column("regime")[e - 9 : e + 1] == 2).all() for e in ends])
        change = np.diff(series["value"], prepend=settings.open_interest)
        assert change[stressed].mean() < min(0.0, change[~stressed].mean())

    def test_spot_follows_the_perpetual_within_its_premium(self, made):
        settings, _, _ = made
        stretches = list(simulate(settings))
        perpetual = np.log(np.concatenate([s.perpetual.mid for s in stretches]))
        spot = np.log(np.concatenate([s.spot.mid for s in stretches]))
        assert np.abs(perpetual - spot).max() < 30e-4
        r, q = np.diff(perpetual), np.diff(spot)
        led, leads = np.corrcoef(r[:-1], q[1:])[0, 1], np.corrcoef(q[:-1], r[1:])[0, 1]
        assert led > leads + 0.1
        assert np.corrcoef(r, q)[0, 1] > 0.5

    def test_events_merge_with_series(self, made):
        settings, path, summary = made
        catalog = Catalog(path)
        streams = [Stream(ID, mark=True, index=True, funding=True), Stream(SPOT)]
        series = [SeriesRef("open_interest", ID), SeriesRef("liquidations", ID)]
        end = settings.start + settings.duration + 60 * SECOND
        total = sum(map(len, catalog.events(streams, settings.start, end, series=series)))
        assert total == sum(summary.rows.values())


class TestTruth:
    def test_written_as_simulated(self, made):
        settings, path, summary = made
        table = read_truth(path)
        truth = next(simulate(settings, settings.seconds)).truth
        assert table.names == ("regime", "direction", "volatility", "price")
        assert np.array_equal(table.ts, truth.ts)
        assert np.array_equal(table.values, truth.value)
        assert table.ts[0] == settings.start + SECOND
        assert table.ts[-1] == settings.start + settings.duration
        shares = pd.Series(table.column("regime")).value_counts(normalize=True)
        assert summary.time_in_regime == pytest.approx(
            {"trend": shares[0.0], "chop": shares[1.0], "stress": shares[2.0]}
        )
        assert np.array_equal(table.column("direction") != 0, table.column("regime") == 0)

    def test_parameters_file(self, made):
        settings, path, _ = made
        told = json.loads((path / "truth.json").read_text())
        assert SynthSettings(**told["settings"]) == settings
        assert told["parameters"] == true_parameters(settings)
        transition, stationary = np.array(told["parameters"]["transition"]), told["parameters"]["stationary"]
        assert transition.sum(axis=1) == pytest.approx(1.0)
        assert stationary @ transition == pytest.approx(stationary)
        assert 1 / (1 - np.diag(transition)) == pytest.approx([180, 180, 120])

    def test_absent_truth_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="only catalogs made by"):
            read_truth(tmp_path)


class TestDeterminism:
    def test_same_bits_in_another_process_and_for_any_cut(self):
        settings = _settings(duration="200s", spot=True)
        first = _digest(settings)
        assert _digest(settings, chunk=7) == first
        code = "import test_synth as t; print(t._digest(t._settings(duration='200s', spot=True), 61))"
        root = Path(__file__).parents[2]
        env = os.environ | {"PYTHONPATH": os.pathsep.join((str(root), str(Path(__file__).parent)))}
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
        )
        assert told.stdout.strip() == first

    def test_seeds_differ(self):
        assert len({_digest(_settings(duration="60s", seed=seed)) for seed in range(3)}) == 3

    def test_truth_does_not_depend_on_rate_nor_the_perpetual_on_spot(self):
        base = next(simulate(_settings(duration="120s")))
        fast = next(simulate(_settings(duration="120s", rate=4.0)))
        both = next(simulate(_settings(duration="120s", spot=True)))
        assert np.array_equal(base.truth.value, fast.truth.value)
        assert len(fast.perpetual.trades) > 2.5 * len(base.perpetual.trades)
        assert np.array_equal(base.perpetual.deltas, both.perpetual.deltas)
        assert np.array_equal(base.mark.value, both.mark.value)

    def test_a_longer_market_begins_the_same(self):
        short = next(simulate(_settings(duration="60s")))
        long = next(simulate(_settings(duration="10m")))
        assert np.array_equal(short.perpetual.deltas, long.perpetual.deltas[: len(short.perpetual.deltas)])


class TestWriting:
    def test_again_is_nothing_and_other_settings_are_refused(self, made):
        settings, path, summary = made
        files = {p: p.stat().st_mtime_ns for p in path.rglob("*.parquet")}
        again = synthesize(settings, path)
        assert again.rows == summary.rows
        assert again.wall_s == 0
        assert files == {p: p.stat().st_mtime_ns for p in path.rglob("*.parquet")}
        with pytest.raises(FileExistsError, match="other settings"):
            synthesize(_settings(seed=6), path)

    def test_anything_else_in_the_way_is_refused_and_left(self, tmp_path):
        (tmp_path / "notes.txt").write_text("keep")
        with pytest.raises(FileExistsError, match="something else"):
            synthesize(_settings(duration="5s"), tmp_path)
        assert (tmp_path / "notes.txt").read_text() == "keep"

    def test_remains_of_a_stopped_run_are_replaced(self, tmp_path):
        out = tmp_path / "market"
        settings = _settings(duration="60s")

        def stop(share, events):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            synthesize(settings, out, stop)
        assert not out.exists()
        summary = synthesize(settings, out)
        assert [p.name for p in tmp_path.iterdir()] == ["market"]
        assert summary.rows["mark_prices"] == 60

    def test_progress_reaches_one(self, tmp_path):
        told = []
        summary = synthesize(_settings(duration="40m"), tmp_path / "m", lambda *seen: told.append(seen))
        assert [share for share, _ in told] == [0.75, 1.0]
        assert told[-1][1] == summary.events


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": "1500ms"}, "whole number of seconds"),
        ({"funding_interval": "90s"}, "whole number of minutes"),
        ({"excitation": 0.8, "cross_excitation": 0.2}, "explodes"),
        ({"base_price": 0.5}, "less than one tick"),
        ({"chop": {"dwell": "0s", "volatility": 1.0}}, "greater than 0"),
    ],
)
def test_settings_that_make_no_market_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        SynthSettings(**changes)


def test_inverse_contracts_are_refused():
    instrument = SynthSettings().instrument.model_copy(update={"inverse": True})
    with pytest.raises(ValidationError, match="only linear"):
        SynthSettings(instrument=instrument)
