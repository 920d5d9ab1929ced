"""The compiled graph as one block, for files of other runtimes."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import pytest

from obert_edge.bundle import capsule
from obert_edge.bundle.capsule import ALIGNMENT, MAGIC, write_capsule
from obert_edge.bundle.container import PROGRAM, Bundle
from obert_edge.bundle.manifest import OutputFacts
from obert_edge.errors import UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "v1.oeb"


def test_program_and_weights_lie_aligned_and_fill_it():
    with Bundle.open(GOLDEN) as bundle:
        block = bytes(write_capsule(bundle))
        program = bytes(bundle.member(PROGRAM))
        weights = bytes(bundle.weights)
    assert block.startswith(MAGIC + struct.pack("<I", 1))
    assert struct.unpack_from("<2Q", block, 32) == (len(program), len(weights))
    assert block[ALIGNMENT:].startswith(program)
    assert block.endswith(weights)
    assert (len(block) - len(weights)) % ALIGNMENT == 0


def test_it_says_how_the_model_counts_and_gives_its_results():
    with Bundle.open(GOLDEN) as bundle:
        model = dataclasses.replace(bundle.manifest.model, position_offset=2, pad_id=1, type_vocabulary=7)
        outputs = [OutputFacts("logits", "tokens", 1), OutputFacts("start_logits", "tokens", 1)]
        bundle.manifest = dataclasses.replace(bundle.manifest, model=model, outputs=outputs)
        uses_first_token = bundle.program.uses_first_token
        found = struct.unpack_from("<I3iI", write_capsule(bundle), 12)
    assert found == (int(uses_first_token), 2, 1, 7, 0b10)


def test_a_model_too_large_for_other_runtimes_is_refused(monkeypatch):
    monkeypatch.setattr(capsule, "MAX_BYTES", 1000)
    with Bundle.open(GOLDEN) as bundle, pytest.raises(UsageError, match="runtime takes 1000 bytes"):
        write_capsule(bundle)
