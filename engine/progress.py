"""Progress on the terminal: a bar with rate and time left on stderr, nothing where nobody watches."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

console = Console(stderr=True)


def wide(*, stderr: bool = False) -> Console:
    """A console of at least 120 columns: a narrow terminal breaks its lines itself, and no instrument id."""
    return Console(stderr=stderr, width=max(Console(stderr=stderr).width, 120))


class Meter:
    """One running task: ``update`` with the share done and the events so far."""

    def __init__(self, progress: Progress | None, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=1.0, rate="") if progress else None
        self._started = time.perf_counter()
        self._next = 0.0

    def update(self, share: float, events: int = 0) -> None:
        """Show that ``share`` (0 to 1) is done; cheap enough to call every bar."""
        if self._progress is None or self._task is None:
            return
        now = time.perf_counter()
        if now < self._next and share < 1.0:
            return
        self._next = now + 0.1
        rate = f"{events / max(now - self._started, 1e-9):,.0f} events/s" if events else ""
        self._progress.update(self._task, completed=share, rate=rate)


@contextmanager
def meter(title: str) -> Iterator[Meter]:
    """A progress bar for one task, drawn only when stderr is a terminal."""
    if not sys.stderr.isatty():
        yield Meter(None, title)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Meter(progress, title)
