"""The log of a server: lines that no text of a client can forge."""

from __future__ import annotations

import logging


class LineFormatter(logging.Formatter):
    """Writes a record as one line, and what it has further, such as a traceback, as indented lines.

    A text of a client in it cannot begin a line of its own, nor reach the terminal as a control sequence.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        first, *others = super().format(record).split("\n")
        return "\n".join([printable(first), *(f"  {printable(line)}" for line in others)])


def printable(text: str) -> str:
    """A text in which what cannot be printed, such as the end of a line, stands as Python would escape it."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
