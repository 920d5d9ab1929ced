"""Embedded test cases: small batches run through the scalar reference of the program just compiled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import List

import numpy as np

from obert_edge.bundle.cases import Case
from obert_edge.bundle.manifest import ModelFacts
from obert_edge.bundle.program import Program
from obert_edge.device.runtime.batching import case_positions
from obert_edge.device.runtime.native import Library, PackedBatch

_SEED = 20250601
#: More than one panel of 64 tokens, and a part of another; longer would make `verify` slow on small boards.
_LONGEST = 80
#: Lengths of the sequences of each case, cut to what the model takes.
CASE_LENGTHS = ((1,), (7,), (_LONGEST,), (5, 33, 2))
#: A language model's logits are wide: shorter cases keep the bundle small.
_MAX_OUTPUT_FLOATS = 1 << 18
_MAX_THREADS = 16


def make_cases(
    program: Program, weights: bytearray, names: Sequence[str], model: ModelFacts, library: Path
) -> List[Case]:
    """Run the cases.

    Args:
        program: the compiled graph.
        weights: its weights blob.
        names: of the program's outputs, in order.
        model: shape of the model.
        library: an engine library that runs on this machine; its ``scalar`` implementation is used.
    """
    generator = np.random.default_rng(_SEED)
    widest = max(output.channels for output in program.outputs)
    limit = max(1, min(model.max_length, _MAX_OUTPUT_FLOATS // widest))
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    cases: List[Case] = []
    engine = Library(library)
    with engine.open(program.to_bytes(), weights, threads=threads, implementation="scalar") as native:
        for lengths in CASE_LENGTHS:
            starts = np.cumsum([0, *(min(length, limit) for length in lengths)]).astype(np.int32)
            tokens = int(starts[-1])
            ids = generator.integers(0, model.vocabulary, tokens).astype(np.int32)
            types = generator.integers(0, max(1, model.type_vocabulary), tokens).astype(np.int32)
            results = native.run(
                PackedBatch(
                    starts,
                    ids,
                    case_positions(engine, model, starts),
                    types if model.type_vocabulary else None,
                )
            )
            cases.append(Case(starts, ids, types, dict(zip(names, results))))
    return cases
