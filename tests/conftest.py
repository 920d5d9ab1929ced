"""One thread for torch and NumPy, here and in the processes that tests start.

Tiny models are slower on several threads, and the order of float sums depends on their number. Meanwhile the
other CPUs run other tests, in the processes that `tools/test` asks pytest for.
"""

from __future__ import annotations

import os
import sys
from typing import Iterator

import pytest

# Read by each library when it is first imported, so it is said before any is.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Take back what a test, or a program that it runs, tells torch."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
