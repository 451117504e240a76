"""Bar statistics: what the event loop keeps of each stream in each bar, and the columns they stand in.

Features are functions of these columns over a window of bars, so a new feature seldom needs a new statistic.
One that does adds a column here and the line in ``features/loop.py`` that fills it. Some are made of others:
what several features sum up over windows stands in a column of its own.
"""

from enum import IntEnum, auto


class Stat(IntEnum):
    """Columns of a stream's row. Prices in quote units, sizes in base currency whatever a contract stands for
    (``core.contract``); NaN where never known.

    "At close" values carry over bars without events, and so does ``LAST``; sums and counts start anew.
    """

    OPEN = 0  # trades of the bar (NaN without any)
    HIGH = auto()
    LOW = auto()
    LAST = auto()  # last trade so far
    BUY_VOLUME = auto()  # volume of trades by aggressor
    SELL_VOLUME = auto()
    BUYS = auto()  # number of trades by aggressor
    SELLS = auto()
    VALUE = auto()  # quote currency traded
    BID = auto()  # best levels at close
    ASK = auto()
    BID_SIZE = auto()
    ASK_SIZE = auto()
    BID_DEPTH_5 = auto()  # total size of the best 5 and 10 levels at close
    ASK_DEPTH_5 = auto()
    BID_DEPTH_10 = auto()
    ASK_DEPTH_10 = auto()
    UPDATES = auto()  # atomic updates that changed the book
    ORDER_FLOW = auto()  # order flow imbalance, summed over book updates
    SPREAD_TIME = auto()  # spread integrated over time, price * seconds
    QUOTED_TIME = auto()  # seconds in which there was a spread
    MID_VARIANCE = auto()  # sum of squared log changes of the mid
    MARK = auto()
    INDEX = auto()
    FUNDING = auto()
    PRICE = auto()  # reference: the mid where there is a book, else last trade or bar close; a series' value
    RETURN = auto()  # ln(PRICE / PRICE of the bar before)
    SECONDS = auto()  # length of the bar
    CLOCK = auto()  # time of day at close, seconds after midnight UTC
    VOLUME = auto()  # bought and sold
    SIGNED_VOLUME = auto()  # bought minus sold
    TRADES = auto()  # number of all
    RANGE = auto()  # ln(HIGH / LOW), 0 without trades
    BEST_SIZE = auto()  # mean size of the best bid and ask at close
    DEPTH_10 = auto()  # of both sides


STATS = len(Stat)
