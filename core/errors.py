"""The two exceptions people read: a problem they can mend, and a part of their run that failed."""

from core.settings import format_time


class BeaufortError(Exception):
    """A problem the user can mend, said in full: what, the value it had, what to do. The command line prints
    the message and exits with 2."""


class PartError(Exception):
    """A feature, filter or policy failed.

    Parameters
    ----------
    part : str
        As a config names it, such as ``strategies.grid (grid)``.
    ts : int
        Close of the bar, ns.
    error : Exception
        What it raised; raise from it, so that the trace stays.
    """

    def __init__(self, part: str, ts: int, error: Exception) -> None:
        super().__init__(f"{part} failed at bar {format_time(ts)}: {type(error).__name__}: {error}")
