"""Activations and residual additions become part of the linear in front of them."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest

from obert_edge.bundle.program import Activation
from obert_edge.errors import CheckpointError
from obert_edge.host.compiler import ir
from obert_edge.host.compiler.passes.fuse import fuse
from tests.host.compiler.graphs import results_of


def test_fusing_leaves_no_elementwise_node_and_the_same_results(classifier: ir.Graph) -> None:
    fused = fuse(classifier)
    assert not [node for node in fused.nodes if isinstance(node, (ir.Activate, ir.Add))]
    linears = [node for node in fused.nodes if isinstance(node, ir.Linear)]
    assert [node.activation for node in linears[4:6]] == [Activation.GELU, Activation.NONE]
    assert [node.residual is not None for node in linears[:6]] == [False, False, False, True, False, True]
    np.testing.assert_allclose(results_of(fused)["logits"], results_of(classifier)["logits"], atol=1e-12)


def test_an_activation_without_a_linear_cannot_be_fused() -> None:
    a, b = ir.Tensor("a", 4), ir.Tensor("b", 4)
    table = np.ones((2, 4), np.float32)
    embedding = ir.Embedding("e", a, table, table, None)
    nodes: List[ir.Node] = [embedding, ir.Activate("act", a, b, Activation.GELU)]
    with pytest.raises(CheckpointError, match="'act' alone"):
        fuse(ir.Graph(8, nodes=nodes))
