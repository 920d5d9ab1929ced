"""The device verbs and their options, declared once.

``python3 model.oeb VERB`` makes an ``argparse`` parser of the declarations, and the ``obert-edge`` command
makes click options of them. What a verb does is the function of the same name in ``commands/verbs.py``, whose
parameters have the names used here. Nothing here needs numpy, so ``--help`` works without it; only the
options of tasks, which ``commands/task_options.py`` finds in the pipelines, are then missing from it.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Sequence, Tuple

from obert_edge.device.bench.baselines import ENGINES
from obert_edge.device.commands.option import TASK, Option


@dataclass(frozen=True)
class Verb:
    """Something a device can do with a bundle.

    Args:
        name: of the verb, and of its function in ``commands/verbs.py``.
        help: what it does, one sentence.
        options: besides ``--json``, which every verb has.
        texts: what the texts behind the bundle are, for verbs that take some; the function's ``texts``.
        needs_bundle: whether there is nothing to do without a bundle.
        shows_progress: whether the function takes ``progress``.
        answers: whether the options of the bundle's task are options of the verb too; the function's
            ``options``.
    """

    name: str
    help: str
    options: Tuple[Option, ...] = ()
    texts: str = ""
    needs_bundle: bool = True
    shows_progress: bool = False
    answers: bool = False

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add everything but the bundle and the options of tasks to a parser."""
        if self.texts:
            parser.add_argument("texts", nargs="*", metavar="TEXT", help=self.texts)
        for option in (*self.options, JSON):
            option.add_to(parser)

    def late_options(self) -> Sequence[Option]:
        """The options of tasks: none where numpy, which pipelines need, is not installed."""
        if not self.answers or importlib.util.find_spec("numpy") is None:
            return ()
        from obert_edge.device.commands.task_options import declared

        return declared()

    def arguments(self, parsed: argparse.Namespace) -> Dict[str, Any]:
        """The arguments of the verb's function, out of what such a parser read.

        Raises:
            UsageError: a value is out of range.
        """
        return self.checked(vars(parsed))

    def checked(self, values: Mapping[str, Any]) -> Dict[str, Any]:
        """The arguments of the verb's function, out of what any command line read.

        Args:
            values: by the names of the options' parameters.

        Raises:
            UsageError: a value is out of range.
        """
        for option in self.options:
            option.check(values[option.parameter])
        names = [option.parameter for option in self.options] + ["texts"] * bool(self.texts)
        found = {name: values[name] for name in names}
        if self.answers:
            given = {option.parameter: values.get(option.parameter) for option in self.late_options()}
            found["options"] = {
                name.partition(TASK)[2]: value for name, value in given.items() if value not in (None, [], ())
            }
        return found


JSON = Option("--json", "Print the result as JSON on stdout.", name="as_json")
_THREADS = Option(
    "--threads",
    "Threads to compute with.",
    type=int,
    otherwise="as many as this process may use",
    minimum=1,
    maximum=1024,
)
_IMPLEMENTATION = Option(
    "--implementation", "Kernels to use, such as avx2 or scalar.", type=str, otherwise="the best for this CPU"
)

KEY = Option(
    "--key",
    "Refuse a bundle that this key did not sign: the .pub file of `obert-edge keygen`, or ed25519:...; "
    "repeatable: any of them.",
    type=str,
    repeatable=True,
    name="trusted_keys",
    metavar="KEY",
)

VERBS: Dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "bench",
            "Measure the bundle, with other engines beside it.",
            (
                Option("--batch-size", "Sequences per run.", type=int, default=1, minimum=1),
                Option("--sequence-length", "Tokens per sequence.", type=int, default=128, minimum=1),
                Option(
                    "--baseline",
                    f"Engine to compare with: {', '.join(ENGINES)}, or one of them in one precision, such as "
                    f"{list(ENGINES['onnxruntime'].baselines)[-1]}; repeatable.",
                    type=str,
                    repeatable=True,
                    name="baselines",
                ),
                Option(
                    "--duration",
                    "Seconds of timed runs per engine.",
                    type=float,
                    default=3.0,
                    metavar="SECONDS",
                    minimum=0.001,
                ),
                Option("--iterations", "Timed runs per engine, in place of --duration.", type=int, minimum=1),
                Option(
                    "--min-speedup",
                    "Exit with 1 below this speed-up over the first baseline.",
                    type=float,
                    minimum=0,
                ),
                Option("--profile", "Also measure every op."),
                _THREADS,
                _IMPLEMENTATION,
            ),
            shows_progress=True,
        ),
        Verb(
            "verify",
            "Check all hashes, and that the embedded test cases come out bit for bit.",
            (KEY, _THREADS, _IMPLEMENTATION),
            shows_progress=True,
        ),
        Verb(
            "run",
            "Answer the bundle's task for texts, as its pipeline does.",
            (
                Option(
                    "--input",
                    "File with one input on each line, of text an empty one too; -: standard input.",
                    type=str,
                    name="input_file",
                    metavar="FILE",
                ),
                Option(
                    "--lines",
                    'What the lines of --input are: texts, or JSON such as "a text", ["a text", "its pair"] '
                    'or {"question": ..., "context": ...}.',
                    type=str,
                    choices=("text", "json"),
                    otherwise="json in a file whose name ends in .jsonl or .json, else text",
                ),
                KEY,
                _THREADS,
                _IMPLEMENTATION,
            ),
            texts="Texts, each in quotes. A classifier takes one text, or two, which are one input: a pair. "
            "Question answering takes two: the question and its context. Every other task, embedding among "
            "them, takes any number, each an input of its own.",
            answers=True,
        ),
        Verb("inspect", "Show what the bundle holds: layers, sparsity, formats, bytes, estimated times."),
        Verb(
            "doctor",
            "Say what this machine can run, and how to fix what it cannot.",
            needs_bundle=False,
        ),
    )
}
