"""The folder of the published results, whose pages the programs under test write."""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def begins_with(page: str, introduction: str) -> bool:
    """Whether a page begins with its program's introduction, whatever stands for the ``{fields}``."""
    literal = re.split(r"\{[^}]*\}", introduction)
    return re.match(".*?".join(map(re.escape, literal)), page, re.DOTALL) is not None
