"""The models that are measured have exactly the sparsity that is claimed, and build."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import obert_edge
from obert_edge.errors import UsageError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.compiler import build
from tools.bench import models

SMALL = {"layers": 2, "hidden": 48, "heads": 4, "intermediate": 96, "positions": 40}


@given(
    block=st.sampled_from([(4, 1), (2, 1), (1, 4), (1, 1)]),
    sparsity=st.floats(0, 0.97),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
)
@settings(deadline=None, max_examples=60)
def test_exactly_the_asked_fraction_of_blocks_is_zero(block, sparsity, rows, columns):
    shape = (rows * block[0], columns * block[1])
    pattern = "unstructured" if block == (1, 1) else f"{block[0]}x{block[1]}"
    weights = models.sparse_weights(shape, sparsity, pattern).numpy()
    blocks = (weights.reshape(rows, block[0], columns, block[1]) != 0).sum(axis=(1, 3))
    assert set(np.unique(blocks)) <= {0, block[0] * block[1]}
    assert (blocks == 0).sum() == round(sparsity * rows * columns)


def test_no_other_weight_becomes_zero_in_int8():
    weights = models.sparse_weights((64, 512), 0.5, "4x1")
    scale = weights.abs().amax(dim=1, keepdim=True) / 127
    assert torch.equal(torch.round(weights / scale) == 0, weights == 0)


@pytest.mark.parametrize(
    ("shape", "sparsity", "pattern", "named"),
    [((8, 8), 1.0, "4x1", "1.0"), ((8, 8), 0.5, "2:4", "2:4"), ((6, 8), 0.5, "4x1", "6x8")],
)
def test_a_pattern_that_cannot_be_made_is_refused(shape, sparsity, pattern, named):
    with pytest.raises(UsageError, match=named):
        models.sparse_weights(shape, sparsity, pattern)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_of_every_architecture_builds_and_takes_texts(tmp_path, architecture):
    spec = models.Spec(architecture=architecture, sparsity=0.75, pattern="4x1", vocabulary=600, **SMALL)
    folder = models.make_checkpoint(tmp_path / "model", spec)
    bundle = build(folder, "x86", tmp_path / "model.oeb", min_cosine=-1.0)
    with obert_edge.load(str(bundle), threads=1) as session:
        answer = session.predict("some words, 12 of them")
    assert answer
    with obert_edge.bundle.Bundle.open(bundle) as opened:
        layers = [linear for linear in opened.manifest.linears if "layer" in linear.name]
        # Whether the two linears of a gated unit are one matrix or not, and queries, keys and values.
        known = ARCHITECTURES[architecture]
        count = len(known.layer_linears(range(3))) if known.bottleneck else 7 if known.modules.gate else 6
        assert len(layers) == count * spec.layers
        spread = 0.05 if architecture == "modernbert" else 0.01  # the parts of a matrix of 0.75
        assert all(linear.sparsity == pytest.approx(0.75, abs=spread) for linear in layers)
        assert opened.manifest.model.vocabulary == 600
