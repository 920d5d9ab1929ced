"""Tables for the pages that the programs of this folder write."""

from __future__ import annotations

from typing import List, Mapping, Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """Lay out rows of text as a Markdown table.

    Args:
        headers: one for each column.
        rows: cells as text, as many in each row as there are headers.

    Returns:
        Lines without newlines: the headers, the rule below them, the rows.
    """
    return [f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *rows)]


def speedup(ratio: Mapping[str, float]) -> str:
    """A cell of how many times faster: the median, with the 5th and 95th percentile."""
    return f"{ratio['median']:.1f}x ({ratio['low']:.1f} to {ratio['high']:.1f})"
