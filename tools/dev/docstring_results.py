"""Show what a dense embedder and its bundle find for queries of tools.dev.docstring_search, side by side.

    python -m tools.dev.docstring_results DATA DENSE OURS --queries 3

DATA is the folder of the pairs, DENSE and OURS are vectors that `obert-edge evaluate --predictions` wrote.

Needs: numpy.
Takes: a second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import numpy.typing as npt

from tools import command_line

#: Characters of a passage that are shown.
_SHOWN = 92

Floats = npt.NDArray[np.float32]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Print the first passage that each of the two finds."""
    parser = command_line.parser("tools.dev.docstring_results", __doc__)
    parser.add_argument("data", type=Path, help="folder with dev.jsonl")
    parser.add_argument("dense", type=Path, help="vectors of the dense model, JSON Lines")
    parser.add_argument("ours", type=Path, help="vectors of the bundle, JSON Lines")
    parser.add_argument("--queries", type=int, default=3, help="how many queries to show (default: 3)")
    options = parser.parse_args(arguments)
    pairs = _rows(options.data / "dev.jsonl")
    found = [first_passages(_rows(path), len(pairs)) for path in (options.dense, options.ours)]
    for row in range(0, len(pairs), -(-len(pairs) // options.queries)):
        print(f"\n  {pairs[row]['query']}")
        for name, first in zip(("dense", "bundle"), found):
            passage = pairs[first[row]]["passage"]
            right = "right" if first[row] == row else "wrong"
            print(f"    {name:6} {right}: {passage[:_SHOWN]}{'...' if len(passage) > _SHOWN else ''}")


def first_passages(vectors: Sequence[Dict[str, Any]], count: int) -> List[int]:
    """For every query the number of the passage whose vector has the largest cosine to the query's.

    Args:
        vectors: of `evaluate`: ``id`` is the number of a row and the place in it, 1 or 2; ``prediction``.
        count: rows.
    """
    by_place = {row["id"]: np.asarray(row["prediction"], np.float32) for row in vectors}
    queries, passages = (
        _unit(np.stack([by_place[f"{row + 1}.{place}"] for row in range(count)])) for place in (1, 2)
    )
    return [int(best) for best in (queries @ passages.T).argmax(1)]


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _rows(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
