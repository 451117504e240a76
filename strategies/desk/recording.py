"""What a desk writes down: a decision a bar, and every fill."""

from core import records
from core.messages import REGIMES, BarState
from strategies.desk.config import DeskConfig
from strategies.policy import Decision, MarketView


class DeskRecords:
    """Writes a desk's records to its journal."""

    def __init__(self, config: DeskConfig) -> None:
        self._c = config

    def decision(self, view: MarketView, decision: Decision, digest: str, ids: str) -> None:
        """What was decided on what was seen; ``ids`` are those of the orders sent for it."""
        trend, chop, stress = view.posterior
        self._c.journal.write(
            records.Decision(
                view.ts,
                self._c.name,
                self._c.instrument,
                _name(view.regime),
                trend,
                chop,
                stress,
                view.volatility,
                view.risk_on,
                view.p_up,
                view.p_down,
                digest,
                view.permit,
                view.size_factor,
                decision.action,
                decision.reason,
                decision.size,
                decision.bound,
                view.position,
                view.price,
                ids,
                self._c.bundle_at(view.ts),
            )
        )

    def fill(
        self,
        bar: BarState,
        ts: int,
        key: str,
        signed: float,
        price: float,
        fee: float,
        *,
        maker: bool,
        mid: float,
    ) -> None:
        """``signed`` contracts of the order ``key`` filled after ``bar``."""
        side = -1 if signed < 0 else 1
        self._c.journal.write(
            records.Fill(
                ts,
                key,
                self._c.name,
                self._c.instrument,
                side,
                abs(signed),
                price,
                fee,
                maker,
                mid,
                _name(bar.regime.label),
                bar.volatility.risk_on,
            )
        )


def _name(regime: int) -> str:
    return REGIMES[regime] if regime >= 0 else "none"
