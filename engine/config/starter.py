"""A first config for a catalog: short, leaning on defaults, chosen by what the catalog holds."""

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nautilus_trader.model import BarType

from catalogs.instruments import Instrument
from catalogs.layout import DataType
from catalogs.reader import Catalog
from core.errors import BeaufortError
from core.settings import format_duration, format_time
from engine.config import RunConfig, settings_from

_S = 10**9
_INTERVALS = (1, 2, 5, 10, 20, 30, 60)  # seconds, of clock bars
_TRAINED = 2 / 3  # of the span
_BARS = 3_000  # to train on, where the span has them
_HORIZONS = (30, 60, 120, 240)
_COST = 10.0  # bps a round trip
_LEAST_MOVES = 60  # up, and down, in the training span
_BALANCES = {"BTC": "10", "XBT": "10", "ETH": "100"}
_TEXT = """\
#:schema beaufort.schema.json
# {instrument}, recorded {first} .. {last}.
# What a key means and what else there is: editors show it by the schema above (beaufort config schema >
# beaufort.schema.json); the terminal by beaufort kinds and beaufort features --list.
name = "{name}"
bars = {{ {bars} }}
regime = {{ kind = "hmm" }}
volatility = {{ kind = "egarch", horizon = {horizon} }}{forecast}

[data]
catalog = "{catalog}"
streams.perp = {{ {stream} }}

[strategies]{momentum}
grid = {{ kind = "grid", fair_half_life = {horizon} }}

[venue]
starting_balance = "{balance}"
{venue}
[train]
start = {start}
end = {split}
bundles = "bundles/{name}"

[backtest]
start = {split}
end = {end}
warmup = "{warmup}"
"""


class _Feeds(NamedTuple):
    """What prices of one instrument there are: identifiers by data type, the span that all of them cover."""

    instrument: Instrument
    found: dict[DataType, str]
    first: int
    last: int
    rows: int


def starter(path: Path, trade: str | None = None) -> str:
    """A run config (TOML) for the catalog at ``path``, which trades ``trade`` or what it has most of.

    Raises
    ------
    BeaufortError
        If there is nothing to trade, or no such instrument.
    """
    try:
        catalog = Catalog(path)
        feeds = _chosen(catalog, trade)
        text = _write(catalog, path, feeds)
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise BeaufortError(str(error.args[0])) from None
    settings_from(RunConfig, "init", tomllib.loads(text), [])
    return text


def _chosen(catalog: Catalog, trade: str | None) -> _Feeds:
    """The instrument to trade: a perpetual before a spot pair, then that with most rows."""
    every = [feeds for instrument in catalog.instruments() if (feeds := _feeds(catalog, instrument))]
    if trade is not None:
        every = [feeds for feeds in every if str(feeds.instrument.id) == trade]
    if not every:
        known = ", ".join(str(i.id) for i in catalog.instruments()) or "none"
        what = f"no prices of {trade}" if trade else "no instrument with prices"
        raise BeaufortError(f"{catalog.path}: {what} to trade by; its instruments: {known}")
    return max(every, key=lambda f: (hasattr(f.instrument, "settlement_currency"), f.rows))


def _feeds(catalog: Catalog, instrument: Instrument) -> _Feeds | None:
    name = str(instrument.id)
    found: dict[DataType, str] = {}
    trades = name in catalog.identifiers("trades")
    if trades and name in catalog.identifiers("deltas"):
        found = {"deltas": name, "trades": name}
    elif name in catalog.identifiers("quotes"):
        found = {"quotes": name, **({"trades": name} if trades else {})}
    elif bars := [b for b in catalog.identifiers("bars") if str(BarType.from_str(b).instrument_id) == name]:
        found = {"bars": min(bars, key=_length)}
    elif trades:
        found = {"trades": name}
    if not found:
        return None
    spans = [catalog.coverage(identifier, kind) for kind, identifier in found.items()]
    first, last = max(s[0] for s in spans), min(s[1] for s in spans)
    return _Feeds(instrument, found, first, last, sum(s[2] for s in spans)) if first < last else None


def _length(bar_type: str) -> int:
    """ns."""
    return BarType.from_str(bar_type).spec.timedelta // timedelta(microseconds=1) * 1_000


def _write(catalog: Catalog, path: Path, feeds: _Feeds) -> str:
    name = str(feeds.instrument.id)
    bars = feeds.found.get("bars")
    span = feeds.last - feeds.first
    if bars is not None:
        bar = _length(bars)
        stream = f'instrument = "{name}", book = "none", trades = false, bars = "{bars}"'
        settings = f'kind = "external", interval = "{format_duration(bar)}"'
    else:
        wished = span * _TRAINED / _BARS / _S
        bar = max((i for i in _INTERVALS if i <= wished), default=_INTERVALS[0]) * _S
        book = next((kind for kind in ("deltas", "quotes") if kind in feeds.found), "none")
        parts = [f'instrument = "{name}"', f'book = "{book}"']
        parts += ["trades = false"] if "trades" not in feeds.found else []
        parts += [f"{kind} = true" for kind in ("mark", "funding") if name in catalog.identifiers(kind)]
        stream = ", ".join(parts)
        settings = f'kind = "clock", interval = "{format_duration(bar)}"'
    start, end = -(-feeds.first // bar) * bar, feeds.last // bar * bar
    split = start + int((end - start) / bar * _TRAINED) * bar
    if not start < split < end:
        raise BeaufortError(
            f"{catalog.path}: {name} is recorded {format_time(feeds.first)} .. {format_time(feeds.last)}: "
            f"too short for bars of {format_duration(bar)} to train on and to trade"
        )
    horizon, moves = _horizon(_closes(catalog, feeds, start, split, bar))
    balance = getattr(feeds.instrument, "settlement_currency", feeds.instrument.quote_currency)
    venue = [f'{key} = "{fee}"' for key, fee in _fees(feeds.instrument).items()]
    if bars is not None:
        venue.append("fill_probability = 0.5 # of a limit order that a bar only touches")
    forecast = f'\nforecast = {{ kind = "logistic", horizon = {horizon}, cost_bps = {_COST} }}'
    short = f"\n# No forecast and no momentum: hardly a move pays for its round trip within {horizon} bars."
    momentum = f'\nmomentum = {{ kind = "momentum", horizon = {horizon} }}'
    return _TEXT.format(
        instrument=name,
        catalog=path.as_posix(),
        first=format_time(feeds.first),
        last=format_time(feeds.last),
        name=re.sub(r"[^A-Za-z0-9._-]", "-", path.resolve().name).lstrip(".-_") or "run",
        bars=settings,
        horizon=horizon,
        forecast=forecast if moves else short,
        stream=stream,
        momentum=momentum if moves else "",
        balance=f"{_BALANCES.get(str(balance), '100000')} {balance}",
        venue="".join(f"{line}\n" for line in venue),
        start=format_time(start),
        split=format_time(split),
        end=format_time(end),
        warmup=format_duration(max(600 * _S, 5 * horizon * bar)),
    )


def _fees(instrument: Instrument) -> dict[str, Any]:
    """What the instrument says of its fees."""
    info = getattr(instrument, "info", None) or {}
    return {key: info[key] for key in ("maker_fee", "taker_fee") if key in info}


def _closes(catalog: Catalog, feeds: _Feeds, start: int, end: int, bar: int) -> np.ndarray:
    """The last known price at each bar's end, shape (number of bars,)."""
    if (bars := feeds.found.get("bars")) is not None:
        table = catalog.bars(bars, start, end)
        ts, price = table.ts, table.values[:, 3]
    elif "trades" in feeds.found:
        trades = catalog.trades(feeds.found["trades"], start, end)
        ts, price = trades["ts_init"], trades["price"]
    else:
        return np.empty(0)
    at = np.searchsorted(ts, np.arange(start + bar, end + 1, bar)) - 1
    return price[at[at >= 0]]


def _horizon(closes: np.ndarray) -> tuple[int, bool]:
    """The shortest horizon within which enough moves up and down pay for their cost; whether one has."""
    prices = np.log(closes[closes > 0])
    for horizon in _HORIZONS:
        moves = prices[horizon:] - prices[:-horizon]
        threshold = _COST * 1e-4
        up, down = (int((sign * moves > threshold).sum()) for sign in (1, -1))
        if min(up, down) >= _LEAST_MOVES and len(moves) >= 10 * horizon:
            return horizon, True
    return _HORIZONS[0], False
