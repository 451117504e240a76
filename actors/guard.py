"""What one run shares between its components: the failures that must end it, and the wish to stop."""

import traceback
from collections.abc import Callable
from typing import Any


class RunGuard:
    """Catches what Nautilus would only log.

    Nautilus logs an exception raised in a callback and goes on (or ends the run as if nothing had happened),
    so every callback of ours is wrapped by ``watch``: the first failure is kept, and the system is asked to
    shut down.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.stop_requested = False

    def watch(self, component: Any, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """``callback`` guarded: its exception is recorded and stops the run that ``component`` belongs to."""

        def guarded(message: Any) -> None:
            try:
                callback(message)
            except Exception:
                self.fail(component, traceback.format_exc())

        return guarded

    def fail(self, component: Any, trace: str) -> None:
        """Record a failure and ask for shutdown, once."""
        self.failures.append(trace)
        if len(self.failures) == 1:
            component.shutdown_system(trace.strip().splitlines()[-1])
