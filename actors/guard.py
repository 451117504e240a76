"""What one run shares between its components: the failures that must end it, and the wish to stop."""

import traceback
from collections.abc import Callable
from typing import Any

from core.errors import PartError


class RunGuard:
    """Catches what Nautilus would only log.

    Nautilus logs an exception raised in a callback and goes on (or ends the run as if nothing had happened),
    so every callback of ours is wrapped by ``watch``: the first failure is kept, and the system is asked to
    shut down.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []  # a sentence each
        self.traces: list[str] = []
        self.stop_requested = False

    def watch(self, component: Any, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """``callback`` guarded: its exception is recorded and stops the run that ``component`` belongs to."""

        def guarded(message: Any) -> None:
            try:
                callback(message)
            except Exception as error:
                self.fail(component, error)

        return guarded

    def fail(self, component: Any, error: BaseException | None) -> None:
        """Record a failure and ask for shutdown, once."""
        named = isinstance(error, PartError)
        self.failures.append(str(error) if named else f"{type(error).__name__}: {error}")
        self.traces.append("".join(traceback.format_exception(error)))
        if len(self.failures) == 1:
            component.shutdown_system(self.failures[0])
