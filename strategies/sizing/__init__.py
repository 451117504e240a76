"""Position sizing: rules that say how many contracts, caps that say how many at most; the smallest binds.

A new module here with a subclass of ``SizingRule`` is found by itself, and speaks where a strategy's
``sizing.rules`` name its ``kind``.
"""

from core.kinds import import_modules
from strategies.sizing.base import Bet, Sized, SizingRule, smallest
from strategies.sizing.caps import cap
from strategies.sizing.settings import SizingSettings

import_modules(__name__, __path__)

__all__ = ["Bet", "Sized", "SizingRule", "SizingSettings", "cap", "smallest"]
