"""What became of a run's orders: their records, and what has to be said where they were refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nautilus_trader.common import Cache

from actors.orders import record_of
from actors.trader import Trader
from core.records import Order
from engine.reports.run_folder import REFUSED
from engine.reports.summary import counted
from strategies.desk.refusals import short_reason


def order_records(cache: Cache, trader: Trader) -> list[Order]:
    """Every order in ``cache``, and those that never came there, in the order of their initialization."""
    held, orders = trader.outbox.held, []
    for order in (*cache.orders(), *trader.outbox.unsent()):
        key = str(order.client_order_id)
        known = trader.orders.known.get(key)
        orders.append(record_of(order, known.reason if known else "", held.get(key, 0)))
    return sorted(orders, key=lambda order: (order.ts, order.client_order_id))


def order_warnings(orders: Sequence[Order], dust: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warnings of refused orders that left a position without its exit or its stop, and of positions that are
    left because they are too small to be traded.

    Parameters
    ----------
    orders : sequence of Order
        As they ended.
    dust : sequence of mapping
        Of ``Trader.dust``.
    """
    said = []
    for kind, meant in (("exit", "exits"), ("stop", "protective stops")):
        refused = Counter(
            short_reason(order.reason) for order in orders if order.role == kind and order.status in REFUSED
        )
        if refused:
            said.append(f"{refused.total():,} {meant} were refused: {counted(dict(refused.most_common()))}")
    said += [
        f"{rest['strategy']} ends with {rest['contracts']:.12g} contracts, worth {rest['worth']:.4g}: dust, "
        "too small for an order by itself"
        for rest in dust
    ]
    return said
