"""The inner loops of compiled kernels, and what llvm-mca's models of cores say of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from obert_edge.files import atomic_file
from obert_edge.targets import build
from tools import command_line

_LABEL = re.compile(r"^(\.?\w+):")
#: So many times llvm-mca runs a loop: what comes before it is in its pace does not count then.
_ITERATIONS = 400


class Options(NamedTuple):
    """What a program is told: llvm-mca's command, and the file to write; ``None``: it prints."""

    mca: str
    output: Optional[Path]


def read_options(name: str, description: Optional[str], arguments: Optional[Sequence[str]]) -> Options:
    """Read the command line of a program that predicts; it ends here without llvm-mca."""
    parser = command_line.parser(name, description)
    found = next(filter(shutil.which, ("llvm-mca-19", "llvm-mca")), "llvm-mca")
    parser.add_argument("--mca", default=found, help=f"llvm-mca's command (default: {found})")
    parser.add_argument("--output", type=Path, help="write the page to this file, and do not print it")
    options = parser.parse_args(arguments)
    if shutil.which(options.mca) is None:
        sys.exit(f"{options.mca} was not found: install LLVM 19's tools (Debian: apt-get install llvm-19)")
    return Options(options.mca, options.output)


def publish(text: str, output: Optional[Path]) -> None:
    """Print a page, or write it."""
    if output is None:
        print(text)
        return
    with atomic_file(output) as temporary:
        temporary.write_text(text, "utf-8")


def assembly(target: str, name: str, folder: Path) -> str:
    """The assembly of a kernel file of a target's folder, compiled with the target's flags."""
    plan = build.plans()[target]
    source, flags = next(source for source in plan.sources if source[0] == f"{target}/{name}.cpp")
    command = [*build.toolchain(plan.triple).compile, *build.COMPILE_FLAGS, *plan.flags, *flags]
    output = folder / f"{name}.s"
    paths = (*build.include_flags(), "-S", str(build.source_path(source)))
    environment = build._compiler_environment()
    subprocess.run([*command, *paths, "-o", str(output)], check=True, env=environment)
    return output.read_text()


def functions(text: str, comment: str) -> Iterator[Tuple[str, List[str]]]:
    """The name and the lines (labels and instructions) of every function of an assembly file.

    Args:
        text: of the file.
        comment: what its comments begin with.
    """
    name, lines = "", []  # type: str, List[str]
    for line in text.splitlines():
        line = line.partition(comment)[0].strip()
        label = _LABEL.match(line)
        if label and not label[1].startswith(".L"):
            if name:
                yield name, lines
            name, lines = label[1], []
        elif line and (label or not line.startswith(".")):
            lines.append(line)
    if name:
        yield name, lines


def innermost_loops(lines: Sequence[str], is_branch: re.Pattern[str]) -> Iterator[List[str]]:
    """The instructions of the loops that hold no other: from a label to the branch back to it.

    Args:
        lines: of a function.
        is_branch: of a branch; its first group is the label.
    """
    at = {match[1]: i for i, line in enumerate(lines) if (match := _LABEL.match(line))}
    spans = [
        (at[branch[1]], i)
        for i, line in enumerate(lines)
        if (branch := is_branch.match(line)) and at.get(branch[1], i) < i
    ]
    for begin, end in spans:
        if not any((a, b) != (begin, end) and begin <= a and b <= end for a, b in spans):
            yield [line for line in lines[begin : end + 1] if not _LABEL.match(line)]


def cycles_of(mca: str, model: Sequence[str], loop: Sequence[str]) -> Tuple[float, float]:
    """Cycles of one iteration in a long run by llvm-mca's model of a core, and their bound.

    Args:
        mca: llvm-mca's command.
        model: its options for the core.
        loop: the instructions of an iteration.

    Returns:
        The cycles; and those of the busiest pipe or the front end, as if no instruction waited for another's
        result.
    """
    command = [mca, *model, f"-iterations={_ITERATIONS}"]
    done = subprocess.run(
        [*command, "-"], input="\n".join(loop) + "\n", capture_output=True, text=True, check=False
    )
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    bound = re.search(r"Block RThroughput:\s+([\d.]+)", done.stdout)
    if total is None or bound is None:
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()[:500]}")
    return float(total[1]) / _ITERATIONS, float(bound[1])


def version_of(mca: str) -> str:
    """The version of LLVM that an llvm-mca is of."""
    printed = subprocess.run([mca, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"LLVM version ([\d.]+)", printed)
    return number[1] if number else "of unknown version"
