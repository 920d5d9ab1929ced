"""The programs of this folder as commands: a parser that shows their docstring, and an exit status."""

from __future__ import annotations

import argparse
import sys
from typing import Callable, Optional, Sequence

from obert_edge.errors import ObertEdgeError

#: A program's entry point: it takes the command line without the program's name and returns an exit status,
#: where ``None`` means success.
Main = Callable[[Optional[Sequence[str]]], Optional[int]]


def parser(module: str, doc: Optional[str]) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows a whole docstring, line by line.

    Args:
        module: full name of the program's module, such as ``tools.bench.kernels``. ``__main__`` is what the
            module itself is called while it runs, and would say nothing to a reader.
        doc: the module's docstring.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(main: Main, arguments: Optional[Sequence[str]] = None) -> int:
    """Call a program and return its exit status; an error made on purpose is printed without a traceback.

    Args:
        main: the program.
        arguments: the command line without the program's name; ``None``: that of this process.
    """
    try:
        return main(arguments) or 0
    except ObertEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
