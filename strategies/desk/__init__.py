"""A desk: one policy with its own orders and position. Its affairs are a module each: ``orders``, ``holding``
(the position and its stop) and ``deciding``."""

from strategies.desk.config import DeskConfig
from strategies.desk.deciding import Desk
from strategies.desk.venue import Venue

__all__ = ["Desk", "DeskConfig", "Venue"]
