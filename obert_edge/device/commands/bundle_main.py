"""``__main__`` of a bundle: ``python3 model.oeb VERB`` with nothing installed but numpy."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from typing import List, Optional

from obert_edge.device.commands import verbs
from obert_edge.device.commands.command_line import VERBS
from obert_edge.errors import ObertEdgeError


def main(arguments: Optional[List[str]] = None, bundle: Optional[str] = None) -> int:
    """Parse arguments, do one verb, print.

    Args:
        arguments: of the command line; ``None``: ``sys.argv``.
        bundle: the bundle; ``None``: the file this program is.

    Returns:
        The exit code: 0 ok, 1 a check failed, 2 usage, 3 unsupported device, 130 interrupted.
    """
    path = bundle if bundle is not None else sys.argv[0]
    parsed = _parser(path).parse_args(arguments)
    if importlib.util.find_spec("numpy") is None:
        return _finish(
            "error: numpy is not installed\n  fix: pip install numpy, or apt install python3-numpy", 3
        )
    verb = VERBS[parsed.verb]
    extra = {"progress": _progress} if verb.shows_progress else {}
    try:
        outcome: verbs.Outcome = getattr(verbs, verb.name)(path, **verb.arguments(parsed), **extra)
    except ObertEdgeError as error:
        outcome = verbs.failure(error)
    except KeyboardInterrupt:
        return _finish("interrupted", 130)
    if parsed.as_json:
        sys.stdout.write(verbs.to_json(outcome.data) + "\n")
    return _finish(outcome.text, outcome.exit_code)


def _parser(path: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python3 {os.path.basename(path)}",  # noqa: PTH119 - no pathlib before the verb is known
        description="A compressed BERT model with its engine; runs with Python and numpy alone.",
        epilog="Add --help behind a verb for its options. Exit code: 0 ok, 1 a check failed, 2 wrong usage, "
        "3 this device cannot run what was asked.",
    )
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS.values():
        verb.add_to(subparsers.add_parser(verb.name, help=verb.help, description=verb.help))
    return parser


def _progress(what: str, done: int, total: int) -> None:
    """One line on the terminal that replaces itself; nothing in a log file."""
    if sys.stderr.isatty():
        end = "\r\033[K" if done >= total else ""
        sys.stderr.write(f"\r\033[K{what} ({done}/{total}){end}")
        sys.stderr.flush()


def _finish(text: str, exit_code: int) -> int:
    """Print text for people in place of the progress line, and return the exit code."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    sys.stderr.write(text + "\n")
    return exit_code


if __name__ == "__main__":
    # A reader that closes early (`| head`) ends the program quietly, as it does other programs.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
