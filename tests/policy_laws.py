"""The laws of policies, stated once and checked on every strategy.

``check_policy_laws(settings)`` lets a policy trade through its desk over generated markets, at a small venue
that fills, refuses and triggers. *Limits*: it never wishes to add where it may not, nor more than it was ever
allowed. *Round trip*: saved and loaded at any bar, it sends the same orders bit for bit. *Clock*: it asks no
clock but the bar's. *Determinism*: the same market has the same orders.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from core.messages import BarState, Forecast, RegimeState, RiskState, VolatilityState
from core.records import Record
from strategies.contracts import ContractSpec
from strategies.desk import Desk, DeskConfig
from strategies.governor import RiskSettings
from strategies.policy import (
    Amend,
    Cancel,
    MarketView,
    OrderKind,
    Place,
    Policy,
    PolicyContext,
    PolicySettings,
)

SPEC = ContractSpec(False, 1.0, 0.1, 0.001, 1, 3, min_quantity=0.001, min_notional=5.0)
S = 10**9
BARS = 120
_SLACK = 2 * SPEC.size_increment

Course = list[BarState]


def course(seed: int, labels: frozenset[int], features: int) -> Course:
    """Bars of a market of many weathers, mostly that of ``labels``: jumps, silences, halts, lost prices."""
    rng = np.random.default_rng(seed)
    n, quiet = BARS, rng.integers(0, 2)
    pull = np.zeros(n)
    for i in range(1, n):  # wanders about a level, so that both ladders and trends come to their own
        pull[i] = 0.9 * pull[i - 1] + rng.normal(0, 0.004) + (rng.random() < 0.02) * rng.normal(0, 0.03)
    price = np.round(100 * np.exp(pull), 1)
    weather = np.repeat(rng.choice(3, n // 10), 10)
    owned = np.repeat(rng.random(n // 10) < 0.8, 10)
    states = ("active", "active", "active", "active", "active", "reduce_only", "halted")
    permits = np.repeat(rng.choice(states, n // 5), 5)
    factors = np.repeat(rng.choice([1.0, 1.0, 1.0, 0.5, 0.0], n // 10), 10)
    bars = []
    for i in range(n):
        label = int(rng.choice(sorted(labels))) if owned[i] else int(weather[i]) - (rng.random() < 0.1)
        p = price[i] if rng.random() > 0.03 else np.nan
        up = rng.uniform(0, 1) if rng.random() > 0.1 else np.nan
        forecast = float(rng.uniform(0.002, 0.02)) if rng.random() > 0.05 else np.nan
        half = 0.1 if quiet or rng.random() > 0.1 else np.nan
        bars.append(
            BarState(
                (i + 1) * S,
                rng.standard_normal(features),
                float(p),
                float(p - half),
                float(p + half),
                float(p),
                float(p),
                RegimeState(label, (0.4, 0.3, 0.3)),
                VolatilityState(forecast, forecast, bool(rng.random() > 0.3)),
                Forecast(up, (1 - up) * rng.uniform(0, 1)),
                RiskState(str(permits[i]), float(factors[i]), float(10_000 + 500 * pull[i]), 0.0),
            )
        )
    return bars


class PaperVenue:
    """Fills at the bar's price what is at market, and what rests when the price comes there.

    ``sent`` has every command, in order, as the desk gave it.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.desk: Desk | None = None
        self._price = np.nan
        self._ts = 0
        self._book: dict[str, Place] = {}
        self._answers: list[Callable[[], None]] = []

    # -- what a desk asks for --------------------------------------------------------------------------------

    def place(self, desk: Desk, wanted: Place) -> None:
        key = f"o{len(self.sent)}"
        self.sent.append((self._ts, key, *wanted))
        desk.orders.sent(key, wanted, capped=wanted.reduce_only)
        self._book[key] = wanted
        self._answers.append(lambda: self._receive(key))

    def amend(self, order_id: str, kind: OrderKind, quantity: float, price: float) -> None:
        self.sent.append((self._ts, order_id, kind, quantity, price))

        def change() -> None:
            if order_id in self._book:
                self._book[order_id] = self._book[order_id]._replace(price=price)
                self._desk.holding.on_updated(order_id, quantity, price)

        self._answers.append(change)

    def cancel(self, order_id: str) -> None:
        self.sent.append((self._ts, order_id, "cancel"))
        self._answers.append(lambda: self._close(order_id))

    def settle(self, desk: Desk) -> None:
        self._answers.append(lambda: desk.holding.protect() and None)

    def is_closed(self, order_id: str) -> bool:
        return order_id not in self._book

    def is_alone(self, desk: Desk) -> bool:
        return True

    def is_priced(self) -> bool:
        return True

    def free_margin(self) -> float:
        return 1e9

    # -- what it does ----------------------------------------------------------------------------------------

    @property
    def _desk(self) -> Desk:
        assert self.desk is not None
        return self.desk

    def serve(self) -> None:
        """Answer everything that was sent."""
        while self._answers:
            answers, self._answers = self._answers, []
            for answer in answers:
                answer()

    def move(self, ts: int, price: float) -> None:
        """The market is at another price."""
        self._ts = ts
        if not price > 0:
            return
        self._price = price
        for key, order in list(self._book.items()):
            if order.price is not None and key in self._book and self._is_met(order):
                self._fill(key, order.price)
        self.serve()

    def _is_met(self, order: Place) -> bool:
        beyond = order.side * (self._price - (order.price or 0.0))
        return beyond >= 0 if order.kind == "stop" else beyond <= 0

    def _receive(self, key: str) -> None:
        order = self._book.get(key)
        if order is None:
            return
        if order.kind == "market":
            self._fill(key, self._price)
        elif self._is_met(order):
            self._close(key, "order px was in the market")
        else:
            self._desk.holding.on_accepted(key)

    def _fill(self, key: str, price: float) -> None:
        order, desk = self._book.pop(key), self._desk
        own = dict(desk.orders).get(key)
        if own is None:
            return
        quantity = own.quantity - own.filled
        if order.reduce_only:
            quantity = min(quantity, max(0.0, -order.side * desk.position))
        if quantity <= 0:
            desk.holding.on_closed(key)
            return
        desk.on_fill(key, self._ts, quantity, price, 0.0, order.kind == "limit")
        if key in dict(desk.orders):
            desk.holding.on_closed(key)
        desk.holding.on_position()

    def _close(self, key: str, refusal: str | None = None) -> None:
        if self._book.pop(key, None) is not None:
            self._desk.holding.on_closed(key, refusal)


class Kept:
    """A journal that keeps its records as they are."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def latest[R: Record](self, kind: type[R]) -> R | None:
        return next((r for r in reversed(self.records) if isinstance(r, kind)), None)


@dataclasses.dataclass
class Traded:
    """What a run over a course left: commands, records, and each view with what was wished at it."""

    sent: list[tuple[Any, ...]]
    records: list[Record]
    wishes: list[tuple[MarketView, Any]]


class Watched:
    """A policy whose every answer is kept, and asked under ``guard``."""

    def __init__(self, policy: Policy, wishes: list[Any], guard: Callable[[], Any]) -> None:
        self._policy, self._wishes, self._guard = policy, wishes, guard

    def decide(self, view: MarketView) -> Any:
        with self._guard():
            decision = self._policy.decide(view)
        self._wishes.append((view, decision))
        return decision

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._policy, name)

        @functools.wraps(verb)
        def guarded(*about: Any) -> Any:
            with self._guard():
                return verb(*about)

        return guarded


@contextmanager
def _free() -> Iterator[None]:
    yield


@contextmanager
def clockless() -> Iterator[None]:
    """Fails where a clock is asked."""
    asked: list[str] = []

    def watch(frame: Any, event: str, called: Any) -> None:
        # Hypothesis times the garbage collector, which may come at any moment.
        if event == "c_call" and not frame.f_globals.get("__name__", "").startswith("hypothesis"):
            owner = getattr(called, "__self__", None)
            name = getattr(called, "__name__", "")
            clock = getattr(called, "__module__", None) == "time" and name != "sleep"
            today = name in ("now", "utcnow", "today") and isinstance(owner, type)
            if clock or today:
                asked.append(name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert not asked, f"the policy asks the clock ({asked[0]}); a policy's time is its view's ts"


def trade(
    wanted: PolicySettings,
    bars: Course,
    features: tuple[str, ...],
    *,
    reload_at: int = -1,
    guard: Callable[[], Any] = _free,
) -> Traded:
    """A policy over a course; after the bar ``reload_at`` another takes over by what the first one saved."""
    venue, journal = PaperVenue(), Kept()
    wishes: list[Any] = []
    risk = RiskSettings()
    context = PolicyContext(SPEC, risk, 365.0, 1, 0.0002, features)
    config = DeskConfig(
        name="s0",
        settings=wanted,
        instrument="X",
        spec=SPEC,
        risk=risk,
        bars_per_year=365.0,
        horizon=1,
        maker_fee=0.0002,
        features=features,
        trade_from=0,
        journal=journal,
        bundle_at=lambda _ts: "",
    )
    desk = venue.desk = Desk(config, venue)
    desk.policy = Watched(desk.policy, wishes, guard)
    for i, bar in enumerate(bars):
        venue.move(bar.ts, bar.price)
        desk.on_bar(bar, "", 0.0)
        venue.serve()
        if i == reload_at:
            saved = json.loads(json.dumps(desk.policy.save()))
            fresh = wanted.policy(context)
            fresh.load(saved)
            assert json.loads(json.dumps(fresh.save())) == saved, "what was loaded is not what was saved"
            desk.policy = Watched(fresh, wishes, guard)
    return Traded(venue.sent, journal.records, wishes)


def check_policy_laws(
    wanted: PolicySettings, *, features: tuple[str, ...] = ("a", "b"), examples: int = 10
) -> None:
    """All laws of policies, over markets that hypothesis draws.

    Parameters
    ----------
    wanted : PolicySettings
        Such as to trade within the first of ``BARS`` bars: a policy that wants nothing would hold every law.
    features : tuple of str
        Names of the features that it sees; their values are standard normal.
    examples : int
        Markets tried.
    """
    wished = []

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.reuse, Phase.generate),  # a smaller seed makes no simpler market
    )
    @given(st.integers(0, 2**32 - 1), st.integers(0, BARS - 2))
    def any_market(seed: int, at: int) -> None:
        bars = course(seed, wanted.labels, len(features))
        whole = trade(wanted, bars, features, guard=clockless)
        wished.extend(i for _, d in whole.wishes for i in d.intents if isinstance(i, Place))
        _check_limits(whole)
        again = trade(wanted, bars, features)
        assert (again.sent, repr(again.records)) == (whole.sent, repr(whole.records)), (
            "the same market has other orders the second time"
        )
        _check_round_trip(wanted, bars, features, whole, at)

    any_market()
    assert any(not place.reduce_only for place in wished), "on none of these markets anything was wanted"
    bars = course(1, wanted.labels, len(features))
    whole = trade(wanted, bars, features)
    for at in range(0, BARS - 1, 5):
        _check_round_trip(wanted, bars, features, whole, at)


def _check_round_trip(
    wanted: PolicySettings, bars: Course, features: tuple[str, ...], whole: Traded, at: int
) -> None:
    resumed = trade(wanted, bars, features, reload_at=at)
    assert (resumed.sent, repr(resumed.records)) == (whole.sent, repr(whole.records)), (
        f"saved and loaded after bar {at} it trades otherwise"
    )


def _check_limits(traded: Traded) -> None:
    """A policy may keep a size that it was allowed once; the door cuts what is not allowed any more."""
    most = 0.0
    for view, decision in traded.wishes:
        most = max(most, view.limits.quantity)
        working = {o.id: (o.side, o.quantity) for o in view.orders if not o.reduce_only}
        before = {side: _ahead(view.position, side, working) for side in (1, -1)}
        for i, intent in enumerate(decision.intents):
            if isinstance(intent, Place) and not intent.reduce_only:
                working[f"new-{i}"] = (intent.side, intent.quantity)
            elif isinstance(intent, Amend) and intent.id in working:
                working[intent.id] = (working[intent.id][0], intent.quantity)
            elif isinstance(intent, Cancel):
                working.pop(intent.id, None)
        allowed = most if view.limits.may_add and view.size_factor > 0 else 0.0
        for side in (1, -1):
            after = _ahead(view.position, side, working)
            assert after <= max(before[side], allowed) + _SLACK, (
                f"bar {view.ts // S}: wants {after:.6g} contracts, may add up to {allowed:.6g}"
            )


def _ahead(position: float, side: int, working: dict[str, tuple[int, float]]) -> float:
    """Position and orders of a side, were they all to fill."""
    return side * position + sum(quantity for s, quantity in working.values() if s == side)
