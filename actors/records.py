"""From Nautilus's ticks to packed ``EVENT`` records: the only Python that runs for every event.

A reader is a function built around the list it appends to, not a method, and guards itself: every look-up
and every call a tick is felt. ``fail`` is called inside the handler of an exception.
"""

import struct
from collections.abc import Callable
from typing import Any

from nautilus_trader.model import AggressorSide, BookAction, OrderSide

from core.events import EVENT, LAST, EventKind

Append = Callable[[bytes], None]
Fail = Callable[[], None]
Handler = Callable[[Any], None]

_BUYER, _SELLER = AggressorSide.BUY, AggressorSide.SELL  # enum members are single objects: "is" is enough
_BUYS, _DELETES, _CLEARS = OrderSide.BUY, BookAction.DELETE, BookAction.CLEAR
_F_LAST = 128  # Nautilus: the last delta of an atomic book update

# The layout of EVENT with kind, stream and flags as one number, because four fields are packed quicker.
pack = struct.Struct("=qqdd").pack
assert struct.calcsize("=qqdd") == struct.calcsize("=qhhidd") == EVENT.itemsize


def code(kind: EventKind, stream: int, flags: int = 0) -> int:
    """The fields ``kind``, ``stream`` and ``flags`` of an ``EVENT`` as one number."""
    (number,) = struct.unpack("=q", struct.pack("=hhi", kind, stream, flags))
    return int(number)


def trade_reader(
    append: Callable[[bytes], None], stream: int, fail: Callable[[], None]
) -> Callable[[Any], None]:
    buy, sell = code(EventKind.TRADE_BUY, stream), code(EventKind.TRADE_SELL, stream)
    unknown = code(EventKind.TRADE, stream)

    def on_trade(trade: Any) -> None:
        try:
            side = trade.aggressor_side
            field = buy if side is _BUYER else sell if side is _SELLER else unknown
            append(pack(trade.ts_init, field, trade.price.as_double(), trade.size.as_double()))
        except Exception:
            fail()

    return on_trade


def quote_reader(
    append: Callable[[bytes], None], stream: int, fail: Callable[[], None]
) -> Callable[[Any], None]:
    bid, ask = code(EventKind.QUOTE_BID, stream), code(EventKind.QUOTE_ASK, stream, LAST)

    def on_quote(quote: Any) -> None:
        try:
            ts = quote.ts_init
            append(pack(ts, bid, quote.bid_price.as_double(), quote.bid_size.as_double()))
            append(pack(ts, ask, quote.ask_price.as_double(), quote.ask_size.as_double()))
        except Exception:
            fail()

    return on_quote


def delta_reader(
    append: Callable[[bytes], None], stream: int, fail: Callable[[], None]
) -> Callable[[Any], None]:
    bid, last_bid = (code(EventKind.BID, stream, flag) for flag in (0, LAST))
    ask, last_ask = (code(EventKind.ASK, stream, flag) for flag in (0, LAST))
    clear, last_clear = (code(EventKind.CLEAR, stream, flag) for flag in (0, LAST))

    def on_book_deltas(deltas: Any) -> None:
        try:
            ts = deltas.ts_init
            for delta in deltas.deltas:
                action = delta.action
                last = delta.flags & _F_LAST
                if action is _CLEARS:
                    append(pack(ts, last_clear if last else clear, 0.0, 0.0))
                    continue
                order = delta.order
                size = order.signed_size()  # one call for side and size, which are slow to ask for
                price = order.price.as_double()
                if action is _DELETES or not size:
                    field = (
                        (last_bid if last else bid) if order.side is _BUYS else (last_ask if last else ask)
                    )
                    append(pack(ts, field, price, 0.0))
                elif size > 0.0:
                    append(pack(ts, last_bid if last else bid, price, size))
                else:
                    append(pack(ts, last_ask if last else ask, price, -size))
        except Exception:
            fail()

    return on_book_deltas
