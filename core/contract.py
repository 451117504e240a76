"""What one contract stands for, so that what was traded can be counted in coin and in money."""

from typing import NamedTuple

import numba


class Contract(NamedTuple):
    """``multiplier`` is base units a contract where linear (0.01 BTC), quote units where inverse (100 USD).

    The *volume* of a trade is its amount of the base currency, its *value* its amount of the quote currency:

    ======== ============================== ============================
    contract volume                         value
    ======== ============================== ============================
    linear   size * multiplier              size * multiplier * price
    inverse  size * multiplier / price      size * multiplier
    ======== ============================== ============================
    """

    multiplier: float = 1.0
    inverse: bool = False


COIN = Contract()
"""One unit of the base currency."""


@numba.njit(cache=True, error_model="numpy", forceinline=True)
def volume(price, size, multiplier, inverse):
    """Base currency in ``size`` contracts at ``price``."""
    return size * multiplier / price if inverse else size * multiplier


@numba.njit(cache=True, error_model="numpy", forceinline=True)
def value(price, size, multiplier, inverse):
    """Quote currency in ``size`` contracts at ``price``."""
    return size * multiplier if inverse else price * (size * multiplier)
