"""Refused orders: what was said in short, and how long to wait before asking again."""

import re
from typing import Any

from strategies.policy import OrderKind

_CODE = re.compile(r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?=:|$)")  # Nautilus's own denials begin with one
_DETAILS = re.compile(r":\s*\w+=.*$")  # "...: bid=100.0, ask=100.1"
_ORDER = re.compile(r"\bO-[\w-]+")
_NUMBER = re.compile(r"(?<![\w.-])\d[\d_.]*(?![\w-])")


def short_reason(text: str) -> str:
    """A venue's refusal without what differs from order to order (ids, prices, quantities), to count by.

    >>> short_reason("QUANTITY_BELOW_MINIMUM: effective=0.001, min=0.01")
    'QUANTITY_BELOW_MINIMUM'
    """
    if code := _CODE.match(text):
        return code.group()
    text = _NUMBER.sub("…", _ORDER.sub("…", _DETAILS.sub("", text)))
    return " ".join(text.split()) or "no reason given"


def triggers_at_once(text: str) -> bool:
    """Whether a stop was refused because the market is beyond it already."""
    said = text.lower()
    return "in the market" in said or "immediately trigger" in said or "trigger immediately" in said


class Backoff:
    """How many bars to wait after refusals in a row: 1, 2, 4, ... and never more than ``most``.

    ``refused`` and ``accepted`` tell what came since the last bar, ``bar`` begins the next one.

    Attributes
    ----------
    count : int
        Bars in a row with a refusal and nothing accepted.
    left : int
        Bars still to wait.
    told : bool
        Whether the last word since the last bar was a refusal.
    reason : str
        The last refusal, in short.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._refused = self._accepted = self.told = False
        self.count = 0
        self.left = 0
        self.reason = ""

    @property
    def waiting(self) -> bool:
        """Whether nothing is to be asked for at this bar."""
        return self.left > 0

    def refused(self, reason: str) -> None:
        """An order was refused."""
        self._refused = self.told = True
        self.reason = short_reason(reason)

    def accepted(self) -> None:
        """An order was accepted, changed or filled."""
        self._accepted, self.told = True, False

    def reset(self) -> None:
        """What was refused concerns nothing any more."""
        self._refused = self._accepted = self.told = False
        self.count, self.left, self.reason = 0, 0, ""

    def bar(self) -> None:
        """A bar begins."""
        if self._accepted:
            self.count, self.left, self.reason = 0, 0, ""
        elif self._refused:
            self.count += 1
            self.left = min(2 ** (self.count - 1), self._most) - 1
        elif self.left:
            self.left -= 1
        self._refused = self._accepted = self.told = False

    def save(self) -> dict[str, Any]:
        """Memory as JSON values."""
        return {
            "refused": self._refused,
            "accepted": self._accepted,
            "told": self.told,
            "count": self.count,
            "left": self.left,
            "reason": self.reason,
        }

    def load(self, memory: dict[str, Any]) -> None:
        """Continue from what ``save`` gave."""
        self._refused, self._accepted = bool(memory["refused"]), bool(memory["accepted"])
        self.told = bool(memory["told"])
        self.count, self.left, self.reason = int(memory["count"]), int(memory["left"]), memory["reason"]


_WAITS = ("adding", "reducing", "exits", "stops")


class Refusals:
    """A desk's waits: for orders that add risk, quotes that reduce it, exits, and protective stops.

    What reduces is asked for again sooner: a position that cannot be left is worse than one not taken.
    """

    def __init__(self) -> None:
        self.adding, self.reducing, self.exits, self.stops = Backoff(64), Backoff(4), Backoff(4), Backoff(4)

    def of(self, kind: OrderKind, *, reduce_only: bool) -> Backoff:
        """The wait that orders of this kind share."""
        if not reduce_only:
            return self.adding
        return {"stop": self.stops, "market": self.exits, "limit": self.reducing}[kind]

    def bar(self) -> None:
        """A bar begins."""
        for name in _WAITS:
            getattr(self, name).bar()

    def save(self) -> dict[str, Any]:
        """Memory as JSON values."""
        return {name: getattr(self, name).save() for name in _WAITS}

    def load(self, memory: dict[str, Any]) -> None:
        """Continue from what ``save`` gave."""
        for name in _WAITS:
            getattr(self, name).load(memory[name])
