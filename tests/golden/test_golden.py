"""Bundles of every format version there ever was open, and give the answers they gave then, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from obert_edge.bundle import Bundle
from obert_edge.bundle.container import PROGRAM
from obert_edge.bundle.manifest import FORMAT_VERSION
from obert_edge.bundle.program import Linear, WeightFormat
from obert_edge.device.runtime.batching import case_positions
from obert_edge.device.runtime.native import Library, PackedBatch
from obert_edge.targets import get_target, library_path

FOLDER = Path(__file__).parent
BUNDLES = sorted(FOLDER.glob("v*.oeb"))
LIBRARY = Library(library_path(get_target("x86")))


def test_every_format_version_has_a_golden_bundle() -> None:
    found = {path.stem.partition("-")[0] for path in BUNDLES}
    assert found == {f"v{version}" for version in range(1, FORMAT_VERSION + 1)}


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_golden_bundle_says_what_it_said(path: Path) -> None:
    answers = json.loads(path.with_suffix(".json").read_text())
    with Bundle.open(path, verify="full") as bundle:
        assert bundle.manifest.format_version == answers["format_version"]
        assert bundle.manifest.task.labels == answers["labels"]
        formats = [WeightFormat(op.format).name for op in bundle.program.ops if isinstance(op, Linear)]
        assert formats == answers["formats"]
        for case, answer in zip(bundle.cases, answers["cases"]):
            assert case.ids.tolist() == answer["ids"]
            assert case.starts.tolist() == answer["starts"]
            assert case.outputs["logits"].tolist() == logits(answer).tolist()
        assert len(bundle.cases) == len(answers["cases"])


@pytest.mark.parametrize("implementation", LIBRARY.implementations())
@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_golden_bundle_answers_what_it_answered(path: Path, implementation: str) -> None:
    answers = json.loads(path.with_suffix(".json").read_text())
    with Bundle.open(path) as bundle:
        program, weights = bytes(bundle.member(PROGRAM)), bundle.weights
        with LIBRARY.open(program, weights, implementation=implementation) as model:
            for answer in answers["cases"]:
                starts, ids, types = (np.array(answer[k], np.int32) for k in ("starts", "ids", "token_types"))
                positions = case_positions(LIBRARY, bundle.manifest.model, starts)
                (found,) = model.run(PackedBatch(starts, ids, positions, types))
                assert found.tobytes() == logits(answer).tobytes()


def logits(answer: dict) -> np.ndarray:
    return np.array([[float.fromhex(value) for value in row] for row in answer["logits"]], np.float32)
