"""The one error a person is shown without a traceback: what, the value it had, what to do."""


class BeaufortError(Exception):
    """A problem the user can mend; the command line prints its message and exits with 2."""
