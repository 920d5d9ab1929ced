"""``__main__`` of a bundle: ``python3 model.oeb VERB`` with nothing installed but numpy."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from typing import List, Optional

from obert_edge.device.commands import verbs as commands
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
    options = _parser(path).parse_args(arguments)
    if importlib.util.find_spec("numpy") is None:
        return _complain(
            "error: numpy is not installed\n  fix: pip install numpy, or apt install python3-numpy", 3
        )
    try:
        outcome = _dispatch(path, options)
    except ObertEdgeError as error:
        outcome = commands.failure(error)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    if options.json:
        sys.stdout.write(commands.to_json(outcome.data) + "\n")
    return _complain(outcome.text, outcome.exit_code)


def _dispatch(path: str, options: argparse.Namespace) -> commands.Outcome:
    if options.verb == "bench":
        return commands.bench(
            path,
            batch_size=options.batch_size,
            sequence_length=options.sequence_length,
            threads=options.threads,
            implementation=options.implementation,
            baselines=options.baseline,
            duration=options.duration,
            iterations=options.iterations,
            min_speedup=options.min_speedup,
            profile=options.profile,
            progress=_progress,
        )
    if options.verb == "verify":
        return commands.verify(
            path, implementation=options.implementation, threads=options.threads, progress=_progress
        )
    if options.verb == "run":
        return commands.run(
            path,
            options.text,
            input_file=options.input,
            threads=options.threads,
            implementation=options.implementation,
        )
    return commands.inspect(path) if options.verb == "inspect" else commands.doctor(path)


def _parser(path: str) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON on stdout")
    engine = argparse.ArgumentParser(add_help=False)
    engine.add_argument("--threads", type=int, help="threads (default: as many as this process may use)")
    engine.add_argument("--implementation", help="kernels, for instance avx2 or scalar (default: the best)")
    parser = argparse.ArgumentParser(
        prog=f"python3 {os.path.basename(path)}",  # noqa: PTH119 - no pathlib before the verb is known
        description="A compressed BERT model with its engine. Exit code: 0 ok, 1 a check failed, 2 usage, "
        "3 unsupported device.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    bench = verbs.add_parser("bench", parents=[common, engine], help="measure, with baselines beside it")
    bench.add_argument("--batch-size", type=int, default=1)
    bench.add_argument("--sequence-length", type=int, default=128)
    bench.add_argument(
        "--baseline",
        action="append",
        default=[],
        help="onnxruntime, litert, openvino, or one of their variants",
    )
    bench.add_argument("--duration", type=float, default=3.0, help="seconds of timed runs per engine")
    bench.add_argument("--iterations", type=int, help="timed runs per engine, instead of a duration")
    bench.add_argument("--min-speedup", type=float, help="fail below this speed-up over the first baseline")
    bench.add_argument("--profile", action="store_true", help="time of every op")
    verbs.add_parser("verify", parents=[common, engine], help="check hashes and the embedded test cases")
    run = verbs.add_parser("run", parents=[common, engine], help="answer for texts")
    run.add_argument("text", nargs="*", help="a text; or two: a pair, or question and context")
    run.add_argument("--input", help="a file with one input per line (.jsonl: JSON)")
    verbs.add_parser("inspect", parents=[common], help="layers, sparsity, formats, bytes")
    verbs.add_parser("doctor", parents=[common], help="what this machine can run, and fixes")
    return parser


def _progress(what: str, done: int, total: int) -> None:
    """One line on the terminal that replaces itself; nothing in a log file."""
    if sys.stderr.isatty():
        end = "\r\033[K" if done >= total else ""
        sys.stderr.write(f"\r\033[K{what} ({done}/{total}){end}")
        sys.stderr.flush()


def _complain(text: str, exit_code: int) -> int:
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    sys.stderr.write(text + "\n")
    return exit_code


if __name__ == "__main__":
    # A reader that closes early (`| head`) ends the program quietly, as it does other programs.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
