"""A small bundle that needs no compiler: valid in every member, meaningless as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np

from obert_edge.bundle.cases import Case, write_cases
from obert_edge.bundle.container import CASES, ENGINE, PROGRAM, WEIGHTS, write_bundle
from obert_edge.bundle.manifest import (
    LinearFacts,
    Manifest,
    ModelFacts,
    OutputFacts,
    QuantizationFacts,
    TaskFacts,
)
from obert_edge.bundle.program import Buffer, Domain, DType, Program


def sample_manifest(**changes: Any) -> Manifest:
    fields: Dict[str, Any] = {
        "target": "x86",
        "model": ModelFacts("bert", "BertModel", 8, 1, 2, 32, 8, 20, 16, 0, 0, 2, "gelu"),
        "task": TaskFacts("sequence-classification", ["bad", "good"], "single_label"),
        "outputs": [OutputFacts("logits", "sequences", 2)],
        "quantization": QuantizationFacts("qat", "static"),
        "sparsity": 0.5,
        "linears": [LinearFacts("classifier", 2, 8, 0.5, "DENSE_4", 100, 1.5, 3.0, False)],
        "tools": {"obert_edge": "0.1.0"},
    }
    return Manifest(**{**fields, **changes})


def sample_cases() -> list[Case]:
    outputs = {"logits": np.array([[0.5, -1.25]], np.float32)}
    starts, ids = np.array([0, 3], np.int32), np.array([2, 5, 3], np.int32)
    return [Case(starts, ids, np.zeros(3, np.int32), outputs)]


def sample_members() -> Dict[str, bytes]:
    program = Program([Buffer(DType.F32, Domain.TOKENS, 8, 0)], max_positions=16)
    return {
        PROGRAM: program.to_bytes(),
        WEIGHTS: np.arange(1000, dtype=np.uint16).tobytes(),
        CASES: write_cases(sample_cases()),
        ENGINE: b"\x7fELF not really",
        "__main__.py": b"import obert_edge, sys; sys.stdout.write(obert_edge.GREETING)\n",
        "obert_edge/__init__.py": b"GREETING = 'hello from the bundle'\n",
    }


def write_sample(path: Path, **changes: Any) -> Path:
    return write_bundle(path, sample_manifest(**changes), sample_members())
