"""The most that a position may have, whatever the rules say."""

from strategies.contracts import ContractSpec
from strategies.sizing.base import Sized, smallest


def cap(
    spec: ContractSpec,
    equity: float,
    price: float,
    leverage: float,
    exposure: float,
    max_quantity: float | None,
) -> Sized:
    """The most contracts, long or short, that leverage, exposure cap and quantity limits allow."""
    value = spec.value(price)
    return smallest(
        (
            Sized(exposure * equity / value, "exposure_cap"),
            Sized(leverage * equity / value, "leverage"),
            Sized(spec.max_quantity if max_quantity is None else max_quantity, "max_quantity"),
        )
    )
