"""What a desk is built with."""

import dataclasses
from collections.abc import Callable

from core.journal import Journal
from strategies.contracts import ContractSpec
from strategies.governor import RiskSettings
from strategies.policy import PolicySettings


@dataclasses.dataclass(frozen=True)
class DeskConfig:
    """What a desk needs.

    Parameters
    ----------
    name : str
        In records and order tags.
    settings : PolicySettings
    instrument : str
        Name in records.
    spec : ContractSpec
        Of the traded instrument.
    risk : RiskSettings
        Limits common to all strategies.
    bars_per_year, horizon
        Measured bars a year and the bars a volatility forecast covers, to annualise it.
    maker_fee : float
        Fraction of notional.
    features : tuple of str
        Names of the features of a ``BarState``.
    trade_from : int
        Bars up to this time (ns) warm up the policy: nothing is decided or recorded.
    journal : Journal
        Receives a ``Decision`` a bar, and every ``Fill``.
    bundle_at : callable
        From a bar's ``ts`` to the name of the valid model bundle, ``""`` if there is none.
    """

    name: str
    settings: PolicySettings
    instrument: str
    spec: ContractSpec
    risk: RiskSettings
    bars_per_year: float
    horizon: int
    maker_fee: float
    features: tuple[str, ...]
    trade_from: int
    journal: Journal
    bundle_at: Callable[[int], str]
