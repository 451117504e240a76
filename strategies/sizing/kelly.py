"""The sizing rule ``kelly``: a share of the bet that would let equity grow fastest."""

from typing import Annotated, Literal

from pydantic import Field

from core.settings import Fraction, Multiple
from strategies.contracts import ContractSpec
from strategies.sizing.base import Bet, SizingRule

KellyFraction = Annotated[Fraction, Field(gt=0, le=1)]
PayoffRatio = Annotated[Multiple, Field(gt=0, le=1e9)]


class Kelly(SizingRule):
    """Fractional Kelly on calibrated probabilities; silent where there are none."""

    kind: Literal["kelly"] = "kelly"
    fraction: KellyFraction = 0.25
    """Share of the Kelly bet."""
    payoff_ratio: PayoffRatio = 1.5
    """What a win of that bet brings, in stop distances."""

    def contracts(self, bet: Bet) -> float | None:
        if bet.win is None or bet.loss is None:
            return None
        return fractional_kelly(
            bet.equity, self.fraction, bet.win, bet.loss, self.payoff_ratio, bet.entry, bet.stop, bet.spec
        )


def kelly_leverage(win: float, loss: float, gain: float, stop: float) -> float:
    """The notional, as a multiple of equity, that maximises expected log growth (Kelly 1956, three outcomes).

    With probability ``win`` the position makes ``gain`` (a fraction of notional), with ``loss`` it loses
    ``stop``, else nothing: the derivative of ``win log(1 + f gain) + loss log(1 - f stop)`` is zero at the
    value returned; 0 where the bet has no edge or a probability is not a number.
    """
    if not win + loss > 0:
        return 0.0
    return max(0.0, (win / stop - loss / gain) / (win + loss))


def fractional_kelly(
    equity: float,
    fraction: float,
    win: float,
    loss: float,
    payoff: float,
    entry: float,
    stop: float,
    spec: ContractSpec,
) -> float:
    """Contracts of ``fraction`` of the Kelly bet; a win makes ``payoff`` times the distance to the stop."""
    value = spec.value(entry)
    distance = abs(spec.profit(entry, stop)) / value
    if not distance > 0:
        return 0.0
    return fraction * kelly_leverage(win, loss, payoff * distance, distance) * equity / value
