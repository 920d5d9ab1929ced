"""One thread for torch and NumPy, here and in the processes that tests start.

Tiny models are slower on several threads, and the order of float sums depends on their number. Meanwhile the
other CPUs run other tests, in the processes that `tools/test` asks pytest for.
"""

from __future__ import annotations

import os
import sys
from typing import Iterator, Optional

import pytest

# Read by each library when it is first imported, so it is said before any is.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Take back what a test, or a program that it runs, tells torch."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_make_parametrize_id(val: object, argname: str) -> Optional[str]:
    """Name a case by its argument where pytest would write bytes, or the order of a set, into the name.

    Such a name differs from one process to the next: `gzip.compress` writes the second it runs in. Processes
    that share the tests then refuse to begin, because they collected different ones.
    """
    return argname if isinstance(val, (bytes, set, frozenset)) else None
