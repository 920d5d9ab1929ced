"""The device verbs and their options, declared once.

``python3 model.oeb VERB`` makes an ``argparse`` parser of the declarations, and the ``obert-edge`` command
makes click options of them. What a verb does is the function of the same name in ``commands/verbs.py``, whose
parameters have the names used here. Nothing here needs numpy, so ``--help`` works without it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from obert_edge.device.bench.baselines import ENGINES


@dataclass(frozen=True)
class Option:
    """An option of a verb.

    Args:
        flag: as it is typed, such as ``--batch-size``.
        help: one sentence.
        type: what the value is read as; ``None``: the option has no value, and is true where it is given.
        default: the value where it is not given.
        otherwise: for people: what happens where it is not given and there is no plain default.
        repeatable: whether it may be given several times; its value is then a sequence.
        name: of the verb's parameter; default: the flag's.
        metavar: what stands for the value in a usage line; default: by its type.
    """

    flag: str
    help: str
    type: Optional[type] = None
    default: Any = None
    otherwise: str = ""
    repeatable: bool = False
    name: str = ""
    metavar: str = ""

    @property
    def parameter(self) -> str:
        """The name of the verb's parameter."""
        return self.name or self.flag.lstrip("-").replace("-", "_")

    @property
    def value(self) -> str:
        """What stands for the value in a usage line."""
        return self.metavar or {int: "N", float: "NUMBER"}.get(self.type or str, "NAME")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the option to a parser; its value is an attribute called :attr:`parameter`."""
        stated = self.otherwise or ("" if self.default is None else f"{self.default:g}")
        text = f"{self.help}  [default: {stated}]" if stated else self.help
        settings: Dict[str, Any] = {"dest": self.parameter, "help": text.replace("%", "%%")}
        if self.type is None:
            settings.update(action="store_true")
        elif self.repeatable:
            settings.update(type=self.type, metavar=self.value, action="append", default=[])
        else:
            settings.update(type=self.type, metavar=self.value, default=self.default)
        parser.add_argument(self.flag, **settings)

    def words(self, value: Any) -> List[str]:
        """What to type on a command line for a value of the verb's parameter."""
        if self.type is None:
            return [self.flag] if value else []
        values = value if self.repeatable else [] if value is None else [value]
        return [word for item in values for word in (self.flag, str(item))]

    def for_click(self) -> Tuple[Tuple[str, str], Dict[str, Any]]:
        """Positional and keyword arguments of ``click.option``."""
        text = f"{self.help}  [default: {self.otherwise}]" if self.otherwise else self.help
        settings: Dict[str, Any] = {"help": text}
        if self.type is None:
            settings.update(is_flag=True)
        elif self.repeatable:
            settings.update(type=self.type, metavar=self.value, multiple=True)
        else:
            settings.update(type=self.type, metavar=self.value, default=self.default)
            settings.update(show_default=self.default is not None)
        return (self.flag, self.parameter), settings


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
    """

    name: str
    help: str
    options: Tuple[Option, ...] = ()
    texts: str = ""
    needs_bundle: bool = True
    shows_progress: bool = False

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add everything but the bundle to a parser."""
        if self.texts:
            parser.add_argument("texts", nargs="*", metavar="TEXT", help=self.texts)
        for option in (*self.options, JSON):
            option.add_to(parser)

    def arguments(self, parsed: argparse.Namespace) -> Dict[str, Any]:
        """The arguments of the verb's function, out of what such a parser read."""
        names = [option.parameter for option in self.options] + ["texts"] * bool(self.texts)
        return {name: getattr(parsed, name) for name in names}


JSON = Option("--json", "Print the result as JSON on stdout.", name="as_json")
_THREADS = Option(
    "--threads", "Threads to compute with.", type=int, otherwise="as many as this process may use"
)
_IMPLEMENTATION = Option(
    "--implementation", "Kernels to use, such as avx2 or scalar.", type=str, otherwise="the best for this CPU"
)

VERBS: Dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "bench",
            "Measure the bundle, with other engines beside it.",
            (
                Option("--batch-size", "Sequences per run.", type=int, default=1),
                Option("--sequence-length", "Tokens per sequence.", type=int, default=128),
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
                ),
                Option("--iterations", "Timed runs per engine, in place of --duration.", type=int),
                Option(
                    "--min-speedup", "Exit with 1 below this speed-up over the first baseline.", type=float
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
            (_THREADS, _IMPLEMENTATION),
            shows_progress=True,
        ),
        Verb(
            "run",
            "Answer the bundle's task for texts.",
            (
                Option(
                    "--input",
                    "File with one input on each line; lines of a .jsonl file are JSON.",
                    type=str,
                    name="input_file",
                    metavar="FILE",
                ),
                _THREADS,
                _IMPLEMENTATION,
            ),
            texts="One text; or two: a pair, or a question and its context.",
        ),
        Verb("inspect", "Show what the bundle holds: layers, sparsity, formats, bytes, estimated times."),
        Verb(
            "doctor",
            "Say what this machine can run, and how to fix what it cannot.",
            needs_bundle=False,
        ),
    )
}
