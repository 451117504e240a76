"""A seeded synthetic perpetual market, written as a catalog with the truth that made it beside it."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table as RichTable

from catalogs.consolidation import named_errors
from catalogs.instruments import Instrument
from catalogs.synthetic.flow import Flow
from catalogs.synthetic.market import TRUTH_COLUMNS, Series, Stretch, simulate
from catalogs.synthetic.path import jump_factor, path_params
from catalogs.synthetic.settings import SECOND, SynthSettings
from catalogs.writer import CatalogWriter
from core.messages import REGIMES
from core.settings import format_time
from core.table import FeatureTable

__all__ = ["SynthSettings", "SynthSummary", "read_truth", "simulate", "synthesize", "true_parameters"]

_TABLE, _PARAMETERS = "truth.parquet", "truth.json"


@dataclasses.dataclass(frozen=True)
class SynthSummary:
    """What was made: rows by kind, shares of time, seconds it took (0 where it was there already)."""

    catalog: Path
    instruments: tuple[str, ...]
    start: int
    end: int
    rows: dict[str, int]
    time_in_regime: dict[str, float]
    wall_s: float

    @property
    def events(self) -> int:
        """Trades and book deltas."""
        return sum(count for kind, count in self.rows.items() if kind.endswith(("trades", "deltas")))

    def render(self) -> RichTable:
        """For the terminal."""
        table = RichTable(
            title=f"{self.catalog}: {', '.join(self.instruments)}", show_header=False, title_justify="left"
        )
        table.add_row("span", f"{format_time(self.start)} to {format_time(self.end)}")
        table.add_row("events a second", f"{self.events / max((self.end - self.start) / SECOND, 1):,.0f}")
        for kind, count in self.rows.items():
            table.add_row(kind.replace("_", " "), f"{count:,}")
        for name, share in self.time_in_regime.items():
            table.add_row(f"time in {name}", f"{share:.0%}")
        table.add_row("took", f"{self.wall_s:.1f} s" if self.wall_s else "nothing: it was there already")
        return table


def synthesize(
    settings: SynthSettings, catalog: Path, progress: Callable[[float, int], None] | None = None
) -> SynthSummary:
    """Write the market of ``settings`` to ``catalog``, whole or not at all, in bounded memory.

    Besides the market data: the series ``open_interest`` (base currency) and ``liquidations`` (signed
    notional, negative where longs were sold), ``truth.parquet`` (see ``read_truth``) and ``truth.json`` (the
    settings, the numbers a filter with the true parameters needs, and the summary).

    Parameters
    ----------
    settings : SynthSettings
    catalog : path
        A folder that does not exist yet. Where it holds the market of equal settings, nothing is done.
    progress : callable, optional
        Called with the share done and the number of events so far.

    Raises
    ------
    FileExistsError
        Where ``catalog`` holds anything else.
    NotADirectoryError
        Where ``catalog`` is a file.
    """
    catalog = Path(catalog)
    if catalog.is_file():
        raise NotADirectoryError(f"{catalog}: is a file; --out names the folder of a catalog")
    if catalog.exists() and any(catalog.iterdir()):
        return _existing(settings, catalog)
    began = time.perf_counter()
    partial = catalog.with_name(f".{catalog.name}.partial")
    with CatalogWriter(partial) as writer:
        writer.clear()
        perpetual = settings.instrument.build()
        spot = settings.spot_instrument().build() if settings.spot else None
        writer.instrument(perpetual)
        if spot is not None:
            writer.instrument(spot)
        rows: dict[str, int] = {}
        time_in_regime = np.zeros(len(REGIMES), np.int64)
        schema = pa.schema(
            [("ts", pa.timestamp("ns", tz="UTC")), *((name, pa.float64()) for name in TRUTH_COLUMNS)]
        )
        done = events = 0
        with (
            named_errors(partial / _TABLE),
            pq.ParquetWriter(partial / _TABLE, schema, compression="zstd") as truth,
        ):
            for stretch in simulate(settings):
                _write(writer, settings, perpetual, spot, stretch, rows)
                values = stretch.truth.value
                columns = [
                    pa.array(stretch.truth.ts, schema.types[0]),
                    *(pa.array(column) for column in values.T),
                ]
                truth.write_table(pa.table(columns, schema=schema))
                time_in_regime += np.bincount(values[:, 0].astype(np.int64), minlength=len(REGIMES))
                done += len(values)
                events = sum(count for kind, count in rows.items() if kind.endswith(("trades", "deltas")))
                if progress is not None:
                    progress(done / settings.seconds, events)
    summary = SynthSummary(
        catalog=catalog,
        instruments=tuple(str(item.id) for item in (perpetual, spot) if item is not None),
        start=settings.start,
        end=settings.start + settings.duration,
        rows=rows,
        time_in_regime=dict(zip(REGIMES, (time_in_regime / done).tolist(), strict=True)),
        wall_s=time.perf_counter() - began,
    )
    told = {
        "settings": settings.model_dump(mode="json"),
        "parameters": true_parameters(settings),
        "rows": rows,
        "time_in_regime": summary.time_in_regime,
    }
    with named_errors(partial / _PARAMETERS):
        (partial / _PARAMETERS).write_text(json.dumps(told, indent=1))
    if catalog.exists():
        catalog.rmdir()  # empty, as checked above
    os.replace(partial, catalog)
    return summary


def read_truth(catalog: Path) -> FeatureTable:
    """The truth of a synthetic ``catalog``: a row a second, stamped at its end as a one-second bar is.

    Columns ``regime`` (index into ``core.messages.REGIMES``), ``direction`` (+1 or -1 in a trend, else 0)
    and ``volatility`` (standard deviation of the log return, jumps included, a root second) held during the
    second, ``price`` is the efficient price at its end. Raises FileNotFoundError where the catalog is not
    synthetic.
    """
    path = Path(catalog) / _TABLE
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no truth here; only catalogs made by `beaufort data synth` have one"
        )
    return FeatureTable.load(path)


def read_settings(catalog: Path) -> SynthSettings:
    """The settings that made a synthetic ``catalog``. Raises FileNotFoundError where it is not synthetic."""
    path = Path(catalog) / _PARAMETERS
    if not path.exists():
        raise FileNotFoundError(f"{path}: only catalogs made by `beaufort data synth` have one")
    return SynthSettings.model_validate(json.loads(path.read_text())["settings"])


def true_parameters(settings: SynthSettings) -> dict[str, Any]:
    """What made the market, per regime in the order of ``core.messages.REGIMES``.

    ``dwell`` mean seconds of a stay; ``transition`` the Markov matrix of one second with those mean stays
    (its k-th power is that of k seconds) and ``stationary`` its distribution; ``volatility`` the root mean
    square of the log return's standard deviation over one second, jumps included; ``drift`` the log return a
    second (of a trend up); ``initial`` the regime at the start.
    """
    numbers = path_params(settings)
    leave = 1.0 / numbers.dwell
    transition = np.diag(1.0 - leave) + leave[:, None] * numbers.next_regime
    stationary = np.linalg.matrix_power(transition, 2**20)[0]
    return {
        "regimes": list(REGIMES),
        "initial": "chop",
        "dwell": numbers.dwell.tolist(),
        "transition": transition.tolist(),
        "stationary": (stationary / stationary.sum()).tolist(),
        "volatility": (numbers.volatility * jump_factor(numbers)).tolist(),
        "drift": numbers.drift.tolist(),
    }


def _existing(settings: SynthSettings, catalog: Path) -> SynthSummary:
    told = json.loads((catalog / _PARAMETERS).read_text()) if (catalog / _PARAMETERS).exists() else {}
    if told.get("settings") != settings.model_dump(mode="json"):
        what = "a synthetic market of other settings" if told else "something else"
        raise FileExistsError(f"{catalog} holds {what}; name another folder, or remove this one first")
    names = [settings.instrument.id, *([settings.spot_instrument().id] if settings.spot else [])]
    end = settings.start + settings.duration
    return SynthSummary(catalog, tuple(names), settings.start, end, told["rows"], told["time_in_regime"], 0.0)


def _write(
    writer: CatalogWriter,
    settings: SynthSettings,
    perpetual: Instrument,
    spot: Instrument | None,
    stretch: Stretch,
    rows: dict[str, int],
) -> None:
    def count(kind: str, added: int) -> None:
        rows[kind] = rows.get(kind, 0) + added

    def times(series: Series, delay: int) -> tuple[np.ndarray, np.ndarray]:
        return series.ts, series.ts + delay

    soon, late = settings.latency, settings.publication_delay
    trades, deltas = _write_flow(writer, settings, perpetual, stretch.perpetual)
    count("trades", trades)
    count("deltas", deltas)
    if spot is not None and stretch.spot is not None:
        trades, deltas = _write_flow(writer, settings, spot, stretch.spot)
        count("spot_trades", trades)
        count("spot_deltas", deltas)
    count("mark_prices", writer.mark_prices(perpetual, *times(stretch.mark, soon), stretch.mark.value))
    count("index_prices", writer.index_prices(perpetual, *times(stretch.index, soon), stretch.index.value))
    count(
        "funding_rates",
        writer.funding_rates(
            perpetual,
            *times(stretch.funding, soon),
            stretch.funding.value,
            stretch.next_funding,
            settings.funding_interval,
        ),
    )
    for name, series in (("open_interest", stretch.open_interest), ("liquidations", stretch.liquidations)):
        count(name, writer.series(name, settings.instrument.id, *times(series, late), series.value))


def _write_flow(
    writer: CatalogWriter, settings: SynthSettings, instrument: Instrument, flow: Flow
) -> tuple[int, int]:
    """Rows of trades and of deltas added."""
    tick, lot = float(settings.instrument.price_increment), float(settings.instrument.size_increment)
    t, d = flow.trades, flow.deltas
    trades = writer.trades(
        instrument,
        t["ts"],
        t["ts"] + settings.latency,
        t["price"] * tick,
        t["size"] * lot,
        t["side"],
        t["id"],
    )
    deltas = writer.deltas(
        instrument,
        d["ts"],
        d["ts"] + settings.latency,
        d["action"],
        d["side"],
        d["price"] * tick,
        d["size"] * lot,
        d["flags"],
        d["sequence"],
    )
    return trades, deltas
