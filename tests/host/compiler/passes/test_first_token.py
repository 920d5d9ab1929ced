"""What only the first token of a sequence needs is computed for it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obert_edge.host.compiler import ir
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from tests.host.compiler.graphs import imported_graph, results_of


def test_a_classifier_computes_its_last_layer_for_first_tokens_only(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    early = select_first_early(fused)
    np.testing.assert_allclose(results_of(early)["logits"], results_of(fused)["logits"], atol=1e-12)
    once = [node.name for node in early.nodes if isinstance(node, ir.Linear) and node.output.domain]
    prefix = "bert.encoder.layer.1"
    parts = ["attention.output.dense", "intermediate.dense", "output.dense"]
    assert once == [*(f"{prefix}.{part}" for part in parts), "bert.pooler.dense", "classifier"]


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "encoder"])
def test_models_that_read_every_token_are_left_alone(tmp_path: Path, task: str) -> None:
    fused = fuse(imported_graph(tmp_path, task))
    assert select_first_early(fused).nodes == fused.nodes
