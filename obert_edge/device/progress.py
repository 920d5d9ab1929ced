"""How long-running work on a device tells its caller how far it is."""

from __future__ import annotations

from typing import Callable

#: Called with what is being done, how many steps are done, and how many there are.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """A :data:`Progress` that tells nobody."""
