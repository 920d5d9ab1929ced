"""Tables for people: with rich where it is installed, in plain characters elsewhere."""

from __future__ import annotations

import io
import math
from typing import List, Sequence


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, plain: bool = False) -> str:
    """Lay out rows of text; the first column is left-aligned, the others right.

    Args:
        headers: one per column.
        rows: cells as text.
        plain: do not use rich even where it is installed.

    Returns:
        Lines without a final newline.
    """
    if not plain:
        try:
            return _rich_table(headers, rows)
        except ImportError:
            pass
    return _plain_table(headers, rows)


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*[cell.replace("[", "\\[") for cell in row])
    stream = io.StringIO()
    # A fixed width: a report written to a file must not depend on the terminal it was made in.
    Console(file=stream, width=max(80, _width(headers, rows)), color_system=None).print(table)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


def _plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    lines: List[str] = []
    for row in [headers, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(4 + max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers)))


def megabytes(count: float) -> str:
    """Bytes as ``12.3 MB`` (10^6), or as ``1.2 kB`` when few."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def milliseconds(value: float) -> str:
    """Milliseconds with two or three digits that mean something, however few they are."""
    if 0 < value < 0.01:
        return f"{value:.{1 - math.floor(math.log10(value))}f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"
