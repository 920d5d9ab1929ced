from __future__ import annotations

import os

import pytest

from obert_edge.device.runtime.native import Library
from obert_edge.targets import get_target, library_path


@pytest.fixture(scope="session")
def library() -> Library:
    """The x86 engine; the sanitizer test runs these same tests on a build of its own."""
    return Library(os.environ.get("OBERT_EDGE_TEST_LIBRARY") or library_path(get_target("x86")))
