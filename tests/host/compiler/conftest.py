"""The graph of a classifier."""

from __future__ import annotations

import pytest

from obert_edge.host.compiler import ir
from tests.host.compiler.graphs import imported_graph


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ir.Graph:
    """The unfused graph of a sequence classifier of two layers."""
    return imported_graph(tmp_path_factory.mktemp("model"), "sequence-classification")
