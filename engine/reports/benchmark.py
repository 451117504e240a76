"""What holding the instrument would have given: bought once with the whole starting equity, and kept."""

import dataclasses

import numpy as np

from engine.reports.ledger import Contract, contract_of
from engine.reports.run_folder import Run, floats, integers


@dataclasses.dataclass(frozen=True)
class Holding:
    """A position of one times the starting equity, from the first bar's price on, without fees.

    Parameters
    ----------
    equity : numpy.ndarray
        Shape (bars,), settlement currency; NaN where the bar has no price, 0 from where nothing was left.
    received : numpy.ndarray
        Funding it had received (negative: paid) by each bar, shape (bars,).
    settlements : int
        How many settlements the run recorded a rate of; funding of others is not in it.
    terms : tuple
        Starting equity, contracts, multiplier, whether inverse: what ``equity`` follows from, with prices.
    """

    equity: np.ndarray
    received: np.ndarray
    settlements: int
    terms: tuple[float, float, float, bool]

    @property
    def total(self) -> float:
        """Return over the whole span, a fraction."""
        return float(self.equity[np.isfinite(self.equity)][-1] / self.terms[0] - 1)


def hold(run: Run) -> Holding | None:
    """The benchmark of ``run``; None without a price or equity to begin with."""
    price, ts = floats(run.equity, "price"), integers(run.equity, "ts")
    known = np.isfinite(price) & (price > 0)
    starting = float(run.manifest["starting_equity"])
    if not known.any() or starting <= 0:
        return None
    contract = contract_of(run)
    first = float(price[known][0])
    quantity = starting / float(contract.notional(np.array(1.0), np.array(first)))
    received, settlements = _funding(run, contract, quantity, ts, price)
    worth = contract.value(np.where(known, price, np.nan))
    equity = starting + quantity * (worth - contract.value(np.array(first))) + received
    # Nobody holds on with nothing left: a long inverse contract loses everything where the price halves.
    gone = np.maximum.accumulate(np.nan_to_num(equity, nan=np.inf) <= 0)
    equity = np.where(gone, 0.0, equity)
    terms = (starting, quantity, contract.multiplier, contract.inverse)
    return Holding(equity, received, settlements, terms)


def _funding(
    run: Run, contract: Contract, quantity: float, ts: np.ndarray, price: np.ndarray
) -> tuple[np.ndarray, int]:
    """Funding of a long position by the end of each bar: a positive rate is paid by it."""
    at, rate = integers(run.funding, "ts"), floats(run.funding, "rate")
    bar = np.searchsorted(ts, at, side="left")
    counted = np.isfinite(rate) & (bar < len(ts))
    bar = bar[counted]
    amount = -rate[counted] * contract.notional(np.array(quantity), price[bar])
    received = np.zeros(len(ts))
    np.add.at(received, bar, np.where(np.isfinite(amount), amount, 0.0))
    return np.cumsum(received), int(counted.sum())
