"""What a fit says of itself: warnings that are kept with what was fitted."""

import warnings


class FitWarning(UserWarning):
    """A fit that is kept though something is amiss; its text is a sentence for people, and goes into the
    bundle."""


def warn_fit(text: str) -> None:
    """Say that a fit is kept though something is amiss."""
    warnings.warn(text, FitWarning, stacklevel=2)
