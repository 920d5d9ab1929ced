"""``__main__`` of a bundle: ``python3 model.oeb VERB`` with nothing installed but numpy."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
from typing import Any, List, NoReturn, Optional

from obert_edge.device.commands import output, verbs
from obert_edge.device.commands.command_line import VERBS, Verb
from obert_edge.errors import ObertEdgeError, UnsupportedDeviceError, UsageError


def main(arguments: Optional[List[str]] = None, bundle: Optional[str] = None) -> int:
    """Parse arguments, do one verb, print.

    Args:
        arguments: of the command line; ``None``: ``sys.argv``.
        bundle: the bundle; ``None``: the file this program is.

    Returns:
        The exit code: 0 ok, 1 a check failed, 2 usage, 3 unsupported device, 130 interrupted.
    """
    path = bundle if bundle is not None else sys.argv[0]
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    asks_for_help = bool({"-h", "--help"} & set(arguments))
    if importlib.util.find_spec("numpy") is None and not asks_for_help:
        missing = UnsupportedDeviceError(
            "numpy is not installed", hint="pip install numpy, or apt install python3-numpy"
        )
        return _complain(verbs.failure(missing), as_json)
    try:
        parsed = _parser(path).parse_args(arguments)
        verb = VERBS[parsed.verb]
        extra = {"progress": _progress} if verb.shows_progress else {}
        found = verb.arguments(parsed)
        if bundle is None and found.get("trusted_keys"):
            raise _own_witness(path)
        outcome: verbs.Outcome = getattr(verbs, verb.name)(path, **found, **extra)
    except ObertEdgeError as error:
        return _complain(verbs.failure(error), as_json)
    except KeyboardInterrupt:
        return _complain(verbs.INTERRUPTED, as_json)
    except MemoryError:
        return _complain(verbs.failure(output.no_memory()), as_json)
    try:
        return _print(outcome, as_json)
    except OSError as error:
        return _complain(verbs.failure(output.unwritten(error)), as_json)


def _own_witness(path: str) -> UsageError:
    """Refuse to check a signature with the code that it is about."""
    return UsageError(
        "--key asks a bundle about itself: its own code is running, and a forged one would say yes",
        hint=f"check it with an installed obert-edge, before it is run: `obert-edge verify {path} --key ...`",
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are ours, and which looks tasks up only for the verb that is asked for."""

    verb: Optional[Verb] = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read arguments, the options of tasks among them."""
        verb, self.verb = self.verb, None
        options = verb.late_options() if verb is not None else ()
        groups = {heading: self.add_argument_group(heading) for heading in {one.heading for one in options}}
        for option in options:
            option.add_to(groups[option.heading])
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        dash = (
            "put -- before a text that begins with a dash, or " if "unrecognized arguments" in message else ""
        )
        raise UsageError(message, hint=f"{dash}see what there is: `{self.prog} --help`")


def _parser(path: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"python3 {os.path.basename(path)}",  # noqa: PTH119 - no pathlib before the verb is known
        description="A compressed BERT model with its engine; runs with Python and numpy alone.",
        epilog="Add --help behind a verb for its options. Exit code: 0 ok, 1 a check failed, 2 wrong usage, "
        "3 this device cannot run what was asked.",
    )
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS.values():
        added = subparsers.add_parser(verb.name, help=verb.help, description=verb.help)
        verb.add_to(added)
        added.verb = verb
    return parser


def _progress(what: str, done: int, total: int) -> None:
    """One line on the terminal that replaces itself; nothing in a log file."""
    if _on_terminal():
        end = "\r\033[K" if done >= total else ""
        sys.stderr.write(f"\r\033[K{what} ({done}/{total}){end}")
        sys.stderr.flush()


def _print(outcome: verbs.Outcome, as_json: bool) -> int:
    """Print a result on stdout, as JSON with the text beside it on stderr, and return its exit code."""
    if as_json:
        _write(verbs.to_json(outcome.data))
    _clear_progress()
    if as_json:
        output.say(outcome.text)
    else:
        _write(outcome.text)
    return outcome.exit_code


def _complain(outcome: verbs.Outcome, as_json: bool) -> int:
    """Print what is no result on stderr, as JSON also on stdout, and return its exit code."""
    if as_json:
        with contextlib.suppress(OSError):
            _write(verbs.to_json(outcome.data))
    _clear_progress()
    output.say(outcome.text)
    return outcome.exit_code


def _write(text: str) -> None:
    if sys.stdout is not None:  # a process may have been started without one
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _clear_progress() -> None:
    if _on_terminal():
        sys.stderr.write("\r\033[K")


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


if __name__ == "__main__":
    # A reader that closes early (`| head`) ends the program quietly, as it does other programs.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    output.print_any_text()
    try:
        code: Any = main()
    except SystemExit as end:  # of --help
        code = end.code
    sys.exit(output.ended(code or 0))
