"""Who earned what, where: PnL of every strategy in every bar, from fills, funding and marks.

The PnL of a position ``q`` while the price goes from ``a`` to ``b`` is ``q * (value(b) - value(a))``, with
``value(p) = multiplier * p`` for a linear contract and ``-multiplier / p`` for an inverse one. Time is cut
where bars are heard of, a grace after their close: what is earned from there to the next one counts for the
regime that was acted on. So the parts add up to the whole by construction, and bar by bar to the recorded
equity, which is read at the same moments.

One sign holds in every table, figure and page of a run: what was paid is negative, what was received is
positive, be it fees, funding or slippage, and ``net = gross + fees + funding``.
"""

import dataclasses
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.records import RoundTrip
from core.settings import parse_duration
from engine.reports.run_folder import LABELS, Run, codes, floats, integers, regimes


@dataclasses.dataclass(frozen=True)
class Contract:
    """What one contract is worth.

    Parameters
    ----------
    multiplier : float
        Base units a linear contract holds, or quote units an inverse one.
    inverse : bool
        Settled in the base currency (such as XBTUSD in bitcoin).
    """

    multiplier: float = 1.0
    inverse: bool = False

    def value(self, price: np.ndarray) -> np.ndarray:
        """Worth of one contract in settlement currency, up to a constant; rises with the price."""
        return -self.multiplier / price if self.inverse else self.multiplier * price

    def notional(self, qty: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Size of ``qty`` contracts in settlement currency, positive."""
        return np.abs(qty * self.value(price))


@dataclasses.dataclass(frozen=True)
class Ledger:
    """PnL by interval and strategy.

    ``gross``, ``fees``, ``funding`` and ``fills`` (their number) have the shape ``(bars + 1, strategies)``:
    row 0 lies before the first bar was heard of, row k between bar k-1 and bar k, the last one after the last
    bar. ``regime`` is each row's index in ``LABELS``, which its fills were recorded with.
    """

    strategies: tuple[str, ...]
    regime: np.ndarray
    gross: np.ndarray
    fees: np.ndarray
    funding: np.ndarray
    fills: np.ndarray

    @property
    def net(self) -> np.ndarray:
        """``gross + fees + funding``, shape (bars + 1, strategies)."""
        return self.gross + self.fees + self.funding

    def by_regime_and_strategy(self) -> np.ndarray:
        """Net PnL, shape (len(LABELS), strategies)."""
        table = np.zeros((len(LABELS), len(self.strategies)))
        np.add.at(table, self.regime, self.net)
        return table


def contract_of(run: Run) -> Contract:
    """The contract the manifest describes."""
    return Contract(float(run.manifest.get("multiplier", 1.0)), bool(run.manifest.get("inverse", False)))


def keep_ledger(run: Run) -> Ledger:
    """The ledger of ``run``, over its bars as in ``equity.parquet``."""
    contract, strategies = contract_of(run), run.strategies
    bars = integers(run.equity, "ts")
    shape = (len(bars) + 1, len(strategies))
    gross, fees, funding = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    regime = np.concatenate(([len(LABELS) - 1], regimes(run.equity)))

    fill = _Fills.of(run)
    heard = bars + _grace(run)
    # A fill at that very moment came before the bar, unless its order was placed on it.
    row = np.searchsorted(heard, fill.ts, side="left")
    row += (row < np.searchsorted(heard, fill.ts, side="right")) & (fill.placed >= fill.ts)
    opening, closing = _marks(floats(run.equity, "price"), fill, contract, bool(np.any(row == len(bars))))
    np.add.at(gross, (row, fill.strategy), fill.signed * (closing[row] - contract.value(fill.price)))
    np.add.at(fees, (row, fill.strategy), fill.fee)
    count = np.zeros(shape, np.int64)
    np.add.at(count, (row, fill.strategy), 1)
    traded = np.zeros(shape)
    np.add.at(traded, (row, fill.strategy), fill.signed)
    held = _settle(np.cumsum(traded, axis=0) - traded, fill.signed)
    gross += held * (closing - opening)[:, None]

    paid = integers(run.funding, "ts")
    np.add.at(
        funding,
        np.searchsorted(heard, paid, side="left"),
        _funding_shares(run.funding, fill, len(strategies)),
    )
    return Ledger(strategies, regime, gross, fees, funding, count)


def round_trips(run: Run) -> list[RoundTrip]:
    """Closed round trips in the order of their close; a position still open at the end is not among them."""
    contract, instrument = contract_of(run), run.manifest["instrument"]
    fill = _Fills.of(run)
    values = contract.value(fill.price)
    shares = _funding_shares(run.funding, fill, len(run.strategies))
    received = np.concatenate((np.zeros((1, len(run.strategies))), np.cumsum(shares, axis=0)))
    paid = integers(run.funding, "ts")
    trips = []
    for s, name in enumerate(run.strategies):
        mine = np.flatnonzero(fill.strategy == s)
        tolerance = _tolerance(fill.signed[mine])
        position = cash = fees = 0.0
        opened = 0
        columns = (fill.ts[mine], fill.signed[mine], values[mine], fill.fee[mine])
        for ts, signed, value, fee in zip(*(c.tolist() for c in columns), strict=True):
            if position == 0.0:
                opened = ts
            after = position + signed
            if abs(after) <= tolerance:
                after = 0.0
            if position * after >= 0.0 and (after != 0.0 or position == 0.0):
                position, cash, fees = after, cash - signed * value, fees + fee
                continue
            # Flat, or through zero: what closes the trip takes its part of the fee, the rest opens another.
            part = abs(position / signed)
            lo, hi = np.searchsorted(paid, (opened, ts), side="right")
            side = 1 if position > 0 else -1
            got = float(received[hi, s] - received[lo, s])
            gross, charged = cash + position * value, fees + part * fee
            net = gross + charged + got
            trips.append(RoundTrip(name, instrument, side, opened, ts, gross, charged, got, net))
            position, cash, fees, opened = after, -after * value, (1.0 - part) * fee if after else 0.0, ts
    return sorted(trips, key=lambda trip: (trip.closed, trip.strategy))


def slippage(run: Run) -> np.ndarray:
    """What each fill gained on its recorded mid, settlement currency: negative = it cost; 0 without one."""
    contract = contract_of(run)
    side, qty = integers(run.fills, "side"), floats(run.fills, "qty")
    gain = (
        side * qty * (contract.value(floats(run.fills, "mid")) - contract.value(floats(run.fills, "price")))
    )
    return np.where(np.isfinite(gain), gain, 0.0)


@dataclasses.dataclass(frozen=True)
class _Fills:
    ts: np.ndarray
    strategy: np.ndarray
    signed: np.ndarray
    price: np.ndarray
    mid: np.ndarray
    fee: np.ndarray
    placed: np.ndarray  # when its order was, -1 where there is no record of it

    @classmethod
    def of(cls, run: Run) -> "_Fills":
        fills = run.fills
        order = pc.index_in(fills["client_order_id"], run.orders["client_order_id"])
        columns = (
            integers(fills, "ts"),
            codes(fills, "strategy", run.strategies),
            integers(fills, "side") * floats(fills, "qty"),
            floats(fills, "price"),
            floats(fills, "mid"),
            floats(fills, "fee"),
            pc.fill_null(run.orders["ts"].take(order), -1).to_numpy(),
        )
        order = np.argsort(columns[0], kind="stable")
        return cls(*(column[order] for column in columns))


def _grace(run: Run) -> int:
    """How long (ns) after its close a bar was heard of, by the run's config; 0 without one."""
    return parse_duration(tomllib.loads(run.config).get("bars", {}).get("grace", "0s"))


def _marks(price: np.ndarray, fill: _Fills, contract: Contract, later: bool) -> tuple[np.ndarray, np.ndarray]:
    """Value of a contract at the opening and the closing of every interval, each of shape (bars + 1,);
    ``later`` says whether there are fills after the last bar."""
    known = np.isfinite(price) & (price > 0)
    end = price[known][-1] if known.any() else np.nan
    if len(fill.ts) and (not known.any() or later):
        end = fill.mid[-1] if np.isfinite(fill.mid[-1]) else fill.price[-1]
    latest = np.maximum.accumulate(np.where(known, np.arange(len(price)), -1))
    first = price[known][0] if known.any() else end
    marks = contract.value(np.append(np.where(latest >= 0, price[latest], first), end))
    if not np.isfinite(marks[-1]):
        marks = np.zeros(len(marks))  # no price and no fill anywhere: nothing to mark
    return np.concatenate((marks[:1], marks[:-1])), marks


def _funding_shares(funding: pa.Table, fill: _Fills, strategies: int) -> np.ndarray:
    """Each settlement split by the positions held at its time, shape (settlements, strategies)."""
    paid = integers(funding, "ts")
    traded = np.zeros((len(fill.ts) + 1, strategies))
    traded[np.arange(len(fill.ts)) + 1, fill.strategy] = fill.signed
    held = _settle(np.cumsum(traded, axis=0), fill.signed)[np.searchsorted(fill.ts, paid, side="left")]
    total = held.sum(axis=1, keepdims=True)
    # Without any position on record the payment is still part of the whole: it is spread evenly.
    even = np.full_like(held, 1.0 / max(strategies, 1))
    share = np.divide(held, total, out=even, where=np.abs(total) > _tolerance(fill.signed))
    return share * floats(funding, "amount")[:, None]


def _tolerance(signed: np.ndarray) -> float:
    return 1e-9 * float(np.max(np.abs(signed), initial=0.0))


def _settle(position: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Positions with the rounding left over by sums of decimal sizes taken away."""
    return np.where(np.abs(position) <= _tolerance(signed), 0.0, position)
