"""What a desk writes down: a decision a bar, and every fill."""

from typing import Any, Protocol

DECISION_COLUMNS = (
    "ts",  # bar close, ns
    "strategy",
    "instrument",
    "regime",  # "none" without a valid model
    "p_trend",
    "p_chop",
    "p_stress",
    "volatility",
    "risk_on",
    "p_up",
    "p_down",
    "features_hash",  # blake2b, 8 bytes, of the bar's float64 features
    "permit",
    "size_factor",
    "action",  # "none" or "hold" where nothing was done
    "reason",
    "size",  # contracts of the orders sent or amended
    "bound",  # the rule or cap that set the size, or what refused it
    "position",  # own, signed contracts, before the decision
    "price",
    "client_order_ids",  # sent or amended, comma-separated; those sent between bars stand in the next record
    "bundle",
)
"""Columns of a decision record, one a bar and strategy."""

FILL_COLUMNS = [
    "ts",
    "client_order_id",
    "strategy",
    "side",
    "qty",
    "price",
    "fee",
    "maker",
    "mid",
    "regime",
    "risk_on",
]
"""Columns of a fill record. ``mid`` is the price at the last bar's close, which every mode knows."""


LIQUIDATION = "LIQUIDATION"
"""The order id of the fills by which a liquidated account's positions end, and the tag of the venue's own
order."""


class Log(Protocol):
    """Takes records, such as a list."""

    def append(self, row: Any, /) -> None: ...
