"""What a sizing rule is: it says how many contracts a position may have; the smallest answer binds."""

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from core.kinds import Family
from strategies.contracts import ContractSpec


class Sized(NamedTuple):
    """``quantity`` in contracts and the name of the rule or cap that set it."""

    quantity: float
    bound: str


class Bet(NamedTuple):
    """A position that a policy would take, as its sizing rules see it."""

    spec: ContractSpec
    equity: float  # in the settlement currency
    entry: float  # price
    stop: float  # price
    annual_volatility: float  # forecast
    win: float | None = None  # probability of a win, None where nobody forecasts one
    loss: float | None = None


class SizingRule(Family):
    """One rule; the record names it by its ``kind`` where it binds."""

    verbs: ClassVar[tuple[str, ...]] = ("contracts",)

    def contracts(self, bet: Bet) -> float | None:
        """How many contracts, long or short, before governor and gate; None where the rule cannot say."""
        raise NotImplementedError(f"{type(self).__name__} has no contracts")


def smallest(answers: Iterable[Sized]) -> Sized:
    """The answer that binds (the first of equals); an answer that is no number counts as zero.

    Raises
    ------
    ValueError
        If there is no answer: a position of unlimited size is never meant.
    """
    least: Sized | None = None
    for answer in answers:
        sized = answer if answer.quantity > 0 else Sized(0.0, answer.bound)
        if least is None or sized.quantity < least.quantity:
            least = sized
    if least is None:
        raise ValueError(
            "sizing: no rule and no cap says a size; give one of risk_fraction, volatility_target"
        )
    return least
