"""What only the simulated venue hears: halts where no price stands, the first price of every bar, and the
definitions that hold in the span.

None of it is data that features or strategies may know. It goes to Nautilus as a catalog of its own.
"""

from pathlib import Path

import numpy as np
from nautilus_trader.backtest import BacktestDataConfig
from nautilus_trader.model import (
    BarType,
    InstrumentId,
    InstrumentStatus,
    MarketStatusAction,
    NautilusDataType,
    PriceType,
)
from nautilus_trader.persistence import ParquetDataCatalog

from catalogs.checks.silences import NEVER
from catalogs.writer import CatalogWriter
from engine.pipeline import Market
from engine.sessions.coverage import PriceFeed, bar_interval


class VenueFeed:
    """Halts, first prices and definitions of one run, written below ``folder``.

    While the market is halted nothing is matched, whatever trades come in: a stop that a trade triggered
    would fill against a book that stands no longer. A bar's first price is known to the venue when the bar
    opens; the bar itself reaches everyone at its close.

    Attributes
    ----------
    before, after : list of BacktestDataConfig
        What Nautilus is to play before, and what after, recorded data of the same moment.
    """

    def __init__(self, market: Market, prices: PriceFeed, folder: Path, start: int, end: int) -> None:
        self._market, self._folder = market, folder
        self.before: list[BacktestDataConfig] = []
        self.after: list[BacktestDataConfig] = []
        self._times = [np.empty(0, np.int64)]
        with CatalogWriter(folder) as writer:
            for instrument in market.instruments.values():
                writer.instrument(instrument)
            if prices.data_type == "bars" and market.config.venue.bar_fills == "next_open":
                self._write_opens(writer, prices.identifier, start, end)
        if prices.data_type in ("deltas", "quotes"):
            self._write_halts(prices.holes, end)
        # Beside the data lie all definitions of an instrument, and Nautilus takes the one that it reads last.
        for instrument in market.instruments.values():
            if len(market.catalog.definitions(str(instrument.id))) > 1:
                self.after.append(
                    self._config(NautilusDataType.TradeTick, of=instrument.id)
                )  # there are none

    def played(self, until: int) -> int:
        """How many of its events were played up to a moment (ns)."""
        return int(np.sum(np.concatenate(self._times) <= until))

    def _write_opens(self, writer: CatalogWriter, bar_type: str, start: int, end: int) -> None:
        length = bar_interval(bar_type)
        bars = self._market.catalog.bars(bar_type, start + length, end + length + 1)
        ts, (first, _, _, _, volume) = bars.ts - length, bars.values.T
        # Nautilus trades a quarter of a bar's volume at its open, and nothing where there is none.
        volume = np.maximum(volume, 4 * float(self._market.traded.size_increment.as_double()))
        opens = _sibling(bar_type)
        writer.bars(self._market.traded, opens, ts, ts, first, first, first, first, volume)
        self.after.append(self._config(NautilusDataType.Bar, [opens]))
        self._times.append(ts)

    def _write_halts(self, holes: np.ndarray, end: int) -> None:
        moments = [
            (ts, action)
            for lo, hi in holes.tolist()
            if 0 < lo < end
            for ts, action in ((lo + 1, MarketStatusAction.HALT), (hi, MarketStatusAction.TRADING))
            if ts < NEVER
        ]
        if not moments:
            return
        name = self._market.traded.id
        statuses = [InstrumentStatus(name, action, ts, ts) for ts, action in moments]
        ParquetDataCatalog(str(self._folder)).write_instrument_statuses(statuses)
        self.before.append(self._config(NautilusDataType.InstrumentStatus))
        self._times.append(np.array([ts for ts, _ in moments]))

    def _config(
        self,
        data_type: NautilusDataType,
        bar_types: list[str] | None = None,
        of: InstrumentId | None = None,
    ) -> BacktestDataConfig:
        return BacktestDataConfig(
            data_type=data_type,
            catalog_path=str(self._folder.resolve()),
            instrument_id=of or self._market.traded.id,
            bar_types=bar_types,
        )


def _sibling(bar_type: str) -> str:
    """The type of the first prices: bars of the same length, so that Nautilus executes on both, but of
    another price, so that they are nobody's subscription."""
    original = BarType.from_str(bar_type)
    is_mid = original.spec.price_type == PriceType.MID
    old, new = ("-MID-", "-LAST-") if is_mid else ("-LAST-", "-MID-")
    head, _, tail = bar_type.rpartition(old)
    return f"{head}{new}{tail}"
