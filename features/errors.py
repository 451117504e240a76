"""The exception of a part of a run that a config names: which part, at which bar, and what happened."""

from features.settings import format_time


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
