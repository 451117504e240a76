"""Orders as records: what Nautilus says of them, written to the journal as they change."""

import dataclasses
import math
from decimal import Decimal
from typing import Any

from nautilus_trader.model import OrderSide

from core.journal import Journal
from core.records import Order

_STATUS = {
    "OrderAccepted": "accepted",
    "OrderRejected": "rejected",
    "OrderDenied": "denied",
    "OrderCanceled": "canceled",
    "OrderExpired": "expired",
}


def desk_of(order: Any) -> str:
    """The name of the strategy that sent a Nautilus order."""
    return str(order.tags[1])


def record_of(order: Any, reason: str = "", held: int = 0) -> Order:
    """A Nautilus order as it is now."""
    level = getattr(order, "price", None) or getattr(order, "trigger_price", None)
    return Order(
        order.ts_init,
        str(order.client_order_id),
        desk_of(order),
        str(order.instrument_id),
        "buy" if order.side is OrderSide.BUY else "sell",
        order.order_type.name.lower(),
        order.quantity.as_double(),
        math.nan if level is None else level.as_double(),
        order.status.name.lower(),
        str(order.tags[0]),
        reason,
        held,
    )


class OrderLog:
    """The orders of one trader, by what it sent and heard of them.

    Attributes
    ----------
    known : dict of str to Order
        The last record of each, by its id.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._filled: dict[str, Decimal] = {}
        self.known: dict[str, Order] = {}

    def intend(self, order: Any) -> None:
        """A Nautilus order is about to be sent: when this returns, the journal has it."""
        record = self.known[str(order.client_order_id)] = record_of(order)
        self._journal.write(record, at_once=True)

    def change(self, key: str, **changed: Any) -> None:
        """Write fields of an order that have other values now."""
        record = self.known.get(key)
        if record is not None:  # one of an earlier session
            record = self.known[key] = dataclasses.replace(record, **changed)
            self._journal.write(record)

    def hear(self, key: str, event: Any, kind: str, refusal: str) -> None:
        """An event (of that type) of an order, with the reason where it is a refusal."""
        if kind == "OrderFilled":
            filled = self._filled[key] = self._filled.get(key, Decimal(0)) + event.last_qty.as_decimal()
            whole = key in self.known and float(filled) >= self.known[key].qty
            self.change(key, status="filled" if whole else "partially_filled")
        elif kind == "OrderUpdated":
            level = event.trigger_price or event.price
            price = {} if level is None else {"price": level.as_double()}
            self.change(key, qty=event.quantity.as_double(), **price)
        elif refusal and kind not in _STATUS:
            self.change(key, reason=refusal)  # of a change: the order stands as it stood
        elif kind in _STATUS:
            self.change(key, status=_STATUS[kind], **({"reason": refusal} if refusal else {}))
