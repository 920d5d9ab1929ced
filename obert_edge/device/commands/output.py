"""What a command does where its result cannot be written, or not as it is."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Optional, TextIO

from obert_edge.errors import ObertEdgeError, UnsupportedDeviceError


def print_any_text() -> None:
    """Let stdout write escapes for what its encoding lacks, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Write a line to stderr; where that cannot be written, or is not there, nobody listens."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def unwritten(error: OSError) -> ObertEdgeError:
    """What to say of a result that stdout did not take."""
    return ObertEdgeError(
        f"the result cannot be written to standard output: {error.strerror}",
        hint="free space on its disk, or send it elsewhere",
    )


def no_memory() -> UnsupportedDeviceError:
    """What to say where Python or numpy got no memory."""
    return UnsupportedDeviceError(
        "there is not enough memory",
        hint="end other programs, or raise the limit of this process (ulimit -v) or of its container",
    )


def ended(exit_code: int) -> int:
    """Write what still waits for stdout, at the end of a program, which returns the exit code that results.

    What cannot be written is thrown away: Python would try it again, and complain in words of its own.
    """
    lost = _thrown_away(sys.stdout)
    if lost is not None and exit_code == 0:
        if not isinstance(lost, BrokenPipeError):
            say(f"error: {unwritten(lost)}")
        exit_code = 1
    _thrown_away(sys.stderr)
    return exit_code


def _thrown_away(stream: Optional[TextIO]) -> Optional[OSError]:
    """What keeps a stream from writing what it still holds, which then goes nowhere; ``None``: nothing."""
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        assert stream is not None
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None
