"""A slow second telling of the feature kernel: dict books, lists and pandas, from the definitions alone."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.events import EVENT, LAST, EventKind

K = EventKind


def random_events(seed: int, bars: int = 60, per_bar: int = 40) -> np.ndarray:
    """Bars of a second of two streams and two series, with everything that real feeds do.

    Stream 0 has trades, an L2 book, mark, index and funding; stream 1 trades and quotes. Books cross, lock,
    empty and start anew; trades come with and without aggressor; every ninth bar is empty.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int, int, float, float]] = []
    mid = 1_000
    for bar in range(bars):
        times = np.sort(rng.integers(0, 10**9, per_bar)) + bar * 10**9
        for ts in times.tolist() if bar % 9 != 8 else ():
            mid += int(rng.integers(-1, 2))
            stream = int(rng.random() < 0.3)
            what = rng.random()
            size = round(float(rng.exponential(3.0)) + 0.001, 3)
            if what < 0.3:
                kind = int(rng.choice([K.TRADE_BUY, K.TRADE_SELL, K.TRADE, K.TRADE]))
                rows.append((ts, kind, stream, 0, _price(mid + int(rng.integers(-2, 3))), size))
            elif what < 0.4:
                kind = int(rng.choice([K.MARK, K.INDEX, K.FUNDING, K.SERIES, K.SERIES]))
                value = 1e-4 * rng.normal() if kind == K.FUNDING else _price(mid) + rng.random()
                rows.append((ts, kind, int(rng.integers(0, 2)) if kind == K.SERIES else 0, 0, value, 0.0))
            elif stream == 1:
                gap = int(rng.integers(-1, 4))  # -1 crossed, 0 locked
                rows.append((ts, K.QUOTE_BID, 1, 0, _price(mid), size))
                rows.append((ts, K.QUOTE_ASK, 1, LAST, _price(mid + gap), round(size * 2, 3)))
            elif what > 0.99:
                rows.append((ts, K.CLEAR, 0, 0 if rng.random() < 0.5 else LAST, 0.0, 0.0))
                for distance in range(1, 13):
                    rows.append((ts, K.BID, 0, 0, _price(mid - distance), size + distance))
                    rows.append((ts, K.ASK, 0, LAST * (distance == 12), _price(mid + distance), size))
            else:
                batch = int(rng.integers(1, 5))
                for number in range(batch):
                    kind = int(rng.choice([K.BID, K.ASK]))
                    ticks = mid + int(rng.integers(-1, 15)) * (-1 if kind == K.BID else 1)
                    gone = rng.random() < 0.4
                    last = LAST * (number == batch - 1)
                    rows.append((ts, kind, 0, last, _price(ticks), 0.0 if gone else size + number))
        rows.append(((bar + 1) * 10**9, K.CLOSE, 0, 0, 0.0, 0.0))
    return np.array(rows, EVENT)


def _price(ticks: int) -> float:
    return round(ticks * 0.1, 1)


class _Stream:
    def __init__(self, increment: float) -> None:
        self.increment = increment
        self.book: dict[str, dict[int, float]] = {"bid": {}, "ask": {}}
        self.best: tuple[int, float, int, float] | None = None
        self.quotes: list[tuple[int, float]] = []  # (since, spread or NaN), of the whole past
        self.aggressor, self.traded = 1, math.nan
        self.changed = False
        self.last = self.mark = self.index = self.funding = math.nan
        self.open_bar()

    def open_bar(self) -> None:
        self.trades: list[tuple[float, float, int]] = []
        self.updates, self.flow, self.squares = 0, 0.0, 0.0

    def trade(self, kind: int, price: float, size: float) -> None:
        if kind == K.TRADE_BUY:
            sign = 1
        elif kind == K.TRADE_SELL:
            sign = -1
        else:
            twice_mid = None if self.best is None else self.best[0] + self.best[2]
            twice = round(2 * price / self.increment)
            if twice_mid is not None and twice != twice_mid:
                sign = 1 if twice > twice_mid else -1
            elif not math.isnan(self.traded) and price != self.traded:
                sign = 1 if price > self.traded else -1
            else:
                sign = self.aggressor
        self.aggressor, self.traded, self.last = sign, price, price
        self.trades.append((price, size, sign))

    def level(self, side: str, price: float, size: float) -> None:
        tick = round(price / self.increment)
        if size > 0:
            self.book[side][tick] = size
        else:
            self.book[side].pop(tick, None)

    def updated(self, ts: int) -> None:
        self.updates += self.changed
        self.changed = False
        bids, asks = self.book["bid"], self.book["ask"]
        old, self.best = self.best, None
        if bids and asks:
            bid, ask = max(bids), min(asks)
            self.best = (bid, bids[bid], ask, asks[ask])
            if old is not None:
                self.flow += (bid >= old[0]) * bids[bid] - (bid <= old[0]) * old[1]
                self.flow += (ask >= old[2]) * old[3] - (ask <= old[2]) * asks[ask]
                self.squares += math.log((bid + ask) / (old[0] + old[2])) ** 2
        self.quotes.append((ts, self.spread))

    @property
    def spread(self) -> float:
        return math.nan if self.best is None else (self.best[2] - self.best[0]) * self.increment

    def close(self, start: int, end: int) -> dict[str, float]:
        prices = [price for price, _, _ in self.trades]
        row = {
            "open": prices[0] if prices else math.nan,
            "high": max(prices, default=math.nan),
            "low": min(prices, default=math.nan),
            "buy": sum(size for _, size, sign in self.trades if sign > 0),
            "sell": sum(size for _, size, sign in self.trades if sign < 0),
            "buys": sum(sign > 0 for _, _, sign in self.trades),
            "sells": sum(sign < 0 for _, _, sign in self.trades),
            "value": sum(price * size for price, size, _ in self.trades),
            "updates": self.updates,
            "flow": self.flow,
            "squares": self.squares,
            "mark": self.mark,
            "index": self.index,
            "funding": self.funding,
            "price": math.nan,  # of a stream with a book: its mid or nothing
        }
        columns = ("bid", "bid_size", "ask", "ask_size", "bid_5", "ask_5", "bid_10", "ask_10")
        row |= dict.fromkeys(columns, math.nan)
        if self.best is not None:
            bid, bid_size, ask, ask_size = self.best
            row |= {"bid": bid * self.increment, "bid_size": bid_size}
            row |= {"ask": ask * self.increment, "ask_size": ask_size}
            row["price"] = 0.5 * (bid + ask) * self.increment
            for count in (5, 10):
                row[f"bid_{count}"] = sum(self.book["bid"][t] for t in sorted(self.book["bid"])[-count:])
                row[f"ask_{count}"] = sum(self.book["ask"][t] for t in sorted(self.book["ask"])[:count])
        row["spread_time"] = row["quoted_time"] = 0.0
        for (since, spread), (until, _) in zip(self.quotes, [*self.quotes[1:], (end, 0.0)], strict=True):
            seconds = (min(until, end) - max(since, start)) * 1e-9
            if seconds > 0 and not math.isnan(spread):
                row["spread_time"] += spread * seconds
                row["quoted_time"] += seconds
        self.open_bar()
        return row


def naive_bars(events: np.ndarray, increments: Sequence[float], series: int = 0) -> list[pd.DataFrame]:
    """Statistics of every bar, one frame a stream, then one a series."""
    streams = [_Stream(increment) for increment in increments]
    values = [math.nan] * series
    rows: list[list[dict[str, float]]] = [[] for _ in range(len(increments) + series)]
    start: int | None = None
    for ts, kind, s, flags, price, size in events.tolist():
        if kind == K.CLOSE:
            shared = {
                "seconds": math.nan if start is None else (ts - start) * 1e-9,
                "clock": ts / 1e9 % 86_400,
            }
            for table, stream in zip(rows, streams, strict=False):
                table.append(stream.close(-1 if start is None else start, ts) | shared)
            for table, value in zip(rows[len(streams) :], values, strict=True):
                table.append({"price": value} | shared)
            start = ts
        elif kind == K.SERIES:
            values[s] = price
        elif kind >= K.TRADE_BUY:
            streams[s].trade(kind, price, size)
        elif kind in (K.MARK, K.INDEX, K.FUNDING):
            setattr(streams[s], {K.MARK: "mark", K.INDEX: "index", K.FUNDING: "funding"}[K(kind)], price)
        else:
            side = "bid" if kind in (K.BID, K.QUOTE_BID) else "ask"
            before = {name: dict(levels) for name, levels in streams[s].book.items()}
            if kind in (K.QUOTE_BID, K.QUOTE_ASK):
                streams[s].book[side] = {}
            if kind == K.CLEAR:
                streams[s].book = {"bid": {}, "ask": {}}
            else:
                streams[s].level(side, price, size)
            streams[s].changed |= streams[s].book != before
            if flags & LAST:
                streams[s].updated(ts)
    return [pd.DataFrame(table) for table in rows]


def _over(column: pd.Series, w: int, function: Callable[[np.ndarray], float]) -> pd.Series:
    return column.rolling(w).apply(function, raw=True)


def _sum(column: pd.Series, w: int) -> pd.Series:
    return _over(column, w, math.fsum)


def _mean(column: pd.Series, w: int) -> pd.Series:
    return _over(column, w, lambda window: math.fsum(window) / w)


def _returns(frame: pd.DataFrame) -> pd.Series:
    return np.log(frame.price).diff()


def _ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    """Zero where the denominator is."""
    return (above / below).where(below != 0, 0.0)


def _imbalance(bid: pd.Series, ask: pd.Series) -> pd.Series:
    return (bid - ask) / (bid + ask)


def _z(window: np.ndarray) -> float:
    return 0.0 if np.ptp(window) == 0 else (window[-1] - window.mean()) / window.std()


def _autocorrelation(window: np.ndarray) -> float:
    squares = math.fsum(window**2)
    return 0.0 if squares == 0 else math.fsum(window[1:] * window[:-1]) / squares


def _microprice(f: pd.DataFrame) -> pd.Series:
    return (f.bid * f.ask_size + f.ask * f.bid_size) / (f.bid_size + f.ask_size)


def _range(f: pd.DataFrame, w: int) -> pd.Series:
    high, low = f.high.rolling(w, min_periods=1).max(), f.low.rolling(w, min_periods=1).min()
    return np.log(high / low).fillna(0.0)


def _average_spread(f: pd.DataFrame, w: int) -> pd.Series:
    seconds = _sum(f.quoted_time, w)
    return (_sum(f.spread_time, w) / seconds).where(seconds > 0) / f.price


def _vwap_deviation(f: pd.DataFrame, w: int) -> pd.Series:
    volume = _sum(f.buy + f.sell, w)
    return np.log(f.price / (_sum(f.value, w) / volume)).where(volume != 0, 0.0)


def _volatility(f: pd.DataFrame, w: int) -> pd.Series:
    return np.sqrt(_mean(_returns(f) ** 2, w))


def _roll_spread(window: np.ndarray) -> float:
    covariance = np.mean(window[1:] * window[:-1])
    return 2.0 * math.sqrt(max(-covariance, 0.0))


def _amihud(f: pd.DataFrame, w: int) -> pd.Series:
    impact = (_returns(f).abs() / f.value).where(f.value > 0)
    return 1e6 * impact.rolling(w, min_periods=1).mean().fillna(0.0)


def _kyle_lambda(f: pd.DataFrame, w: int) -> pd.Series:
    signed = f.buy - f.sell
    return _ratio(_sum(_returns(f) * signed, w), _sum(signed**2, w))


NAIVE: dict[str, Callable[[Any, Any, int], pd.Series]] = {
    "log_return_{w}": lambda f, o, w: np.log(f.price / f.price.shift(w)),
    "realized_volatility_{w}": lambda f, o, w: _volatility(f, w),
    "log_volatility_{w}": lambda f, o, w: np.log(_volatility(f, w).clip(lower=1e-8)),
    "intrabar_volatility_{w}": lambda f, o, w: np.sqrt(_mean(f.squares, w)),
    "absolute_return_{w}": lambda f, o, w: _mean(_returns(f).abs(), w),
    "efficiency_{w}": lambda f, o, w: _ratio(f.price.diff(w).abs(), _sum(f.price.diff().abs(), w)),
    "drift_ratio_{w}": lambda f, o, w: _ratio(np.log(f.price).diff(w), np.sqrt(_sum(_returns(f) ** 2, w))),
    "autocorrelation_{w}": lambda f, o, w: _over(_returns(f), w, _autocorrelation),
    "roll_spread_{w}": lambda f, o, w: _over(_returns(f), w, _roll_spread),
    "amihud_{w}": lambda f, o, w: _amihud(f, w),
    "kyle_lambda_{w}": lambda f, o, w: _kyle_lambda(f, w),
    "high_low_{w}": lambda f, o, w: _range(f, w),
    "parkinson_volatility_{w}": lambda f, o, w: np.sqrt(
        _mean((np.log(f.high / f.low) ** 2).fillna(0.0), w) / (4 * math.log(2))
    ),
    "moving_average_gap_{w}": lambda f, o, w: np.log(f.price / _mean(f.price, w)),
    "time_of_day_sin": lambda f, o, w: np.sin(2 * np.pi * f.clock / 86_400),
    "time_of_day_cos": lambda f, o, w: np.cos(2 * np.pi * f.clock / 86_400),
    "spread": lambda f, o, w: (f.ask - f.bid) / ((f.ask + f.bid) / 2),
    "average_spread_{w}": lambda f, o, w: _average_spread(f, w),
    "log_spread_{w}": lambda f, o, w: np.log(_average_spread(f, w).clip(lower=1e-7)),
    "microprice_deviation": lambda f, o, w: _microprice(f) / ((f.ask + f.bid) / 2) - 1,
    "book_imbalance_1": lambda f, o, w: _imbalance(f.bid_size, f.ask_size),
    "book_imbalance_5": lambda f, o, w: _imbalance(f.bid_5, f.ask_5),
    "book_imbalance_10": lambda f, o, w: _imbalance(f.bid_10, f.ask_10),
    "log_depth_{w}": lambda f, o, w: np.log(_mean(f.bid_10 + f.ask_10, w)),
    "order_flow_imbalance_{w}": lambda f, o, w: _sum(f.flow, w) / _mean((f.bid_size + f.ask_size) / 2, w),
    "book_updates_{w}": lambda f, o, w: _mean(f.updates, w),
    "signed_volume_{w}": lambda f, o, w: _sum(f.buy - f.sell, w),
    "cvd_change_{w}": lambda f, o, w: _ratio(_sum(f.buy - f.sell, w), _sum(f.buy + f.sell, w)),
    "trade_count_{w}": lambda f, o, w: _sum(f.buys + f.sells, w),
    "trade_imbalance_{w}": lambda f, o, w: _ratio(_sum(f.buys - f.sells, w), _sum(f.buys + f.sells, w)),
    "trade_intensity_{w}": lambda f, o, w: np.log1p(_sum(f.buys + f.sells, w) / _sum(f.seconds, w)),
    "log_volume_{w}": lambda f, o, w: np.log1p(_mean(f.buy + f.sell, w)),
    "volume_zscore_{w}": lambda f, o, w: _over(f.buy + f.sell, w, _z),
    "vwap_deviation_{w}": lambda f, o, w: _vwap_deviation(f, w),
    "funding_rate": lambda f, o, w: f.funding,
    "funding_deviation_{w}": lambda f, o, w: f.funding - _mean(f.funding, w),
    "mark_basis": lambda f, o, w: np.log(f.price / f.mark),
    "index_basis": lambda f, o, w: np.log(f.price / f["index"]),
    "basis": lambda f, o, w: np.log(o.price / f.price),
    "basis_change_{w}": lambda f, o, w: np.log(o.price / f.price).diff(w),
    "series_value": lambda f, o, w: f.price,
    "series_log_change_{w}": lambda f, o, w: np.log(f.price).diff(w),
}
