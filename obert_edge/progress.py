"""A progress bar on stderr for work that reports what it does, how far it is, and how far it goes."""

from __future__ import annotations

import contextlib
import sys
from typing import Callable, Iterator, Optional

#: Called as ``progress(what, done, total)``.
Progress = Callable[[str, int, int], None]


class Bar:
    """A bar that goes away when the work is done."""

    def __enter__(self) -> Bar:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._row = self._progress.add_task("", total=None)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._progress.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        self._progress.update(self._row, description=what, completed=done, total=total)


@contextlib.contextmanager
def shown(wanted: bool) -> Iterator[Optional[Progress]]:
    """Show a bar while a block runs.

    Args:
        wanted: whether anything is to be shown.

    Yields:
        What moves the bar, or ``None``.
    """
    if not wanted:
        yield None
        return
    with Bar() as bar:
        yield bar.show
