"""The graph of a classifier, and the folder of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import torch

from obert_edge.host.compiler import ir
from tests.host.compiler.answers import ranges_of
from tests.host.compiler.graphs import imported_graph
from tests.host.compiler.tiny_checkpoints import save_model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ir.Graph:
    """The unfused graph of a sequence classifier of two layers."""
    return imported_graph(tmp_path_factory.mktemp("model"), "sequence-classification")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Dict[str, Any], torch.nn.Module]:
    """The folder of a sequence classifier of two layers, ranges for it, and the model."""
    folder = tmp_path_factory.mktemp("saved")
    model = save_model(folder, "bert", "sequence-classification", layers=2)
    return folder, ranges_of(folder), model
