"""Turns: threads that use one thing after another, in the order in which they came."""

from __future__ import annotations

import threading
from typing import Any, Callable, TypeVar

T = TypeVar("T")


class Turns:
    """A lock that is given to threads in the order in which they asked for it.

    ``threading.Lock`` makes no promise of that kind: a thread that gives it back and takes it again at once
    may keep all others out for ever.

    Every ``with`` below is of a ``threading.Lock``, which Python enters and leaves without a moment at which
    an exception of a signal handler could leave it locked. A thread that such an exception takes out of the
    queue lets the next one pass to the innermost lock, where it still waits for the turn under way.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._queue = threading.Lock()
        #: The end of the queue: held by the last thread that came until its turn is over.
        self._last = threading.Lock()

    def take(self, call: Callable[..., T], *arguments: Any) -> T:
        """Wait for a turn, and call a function in it.

        Args:
            call: what to call; it must take no turn of its own.
            arguments: for it.

        Returns:
            What it returns.
        """
        mine = threading.Lock()
        with mine:
            with self._queue:
                before, self._last = self._last, mine
            with before, self._turn:
                return call(*arguments)
