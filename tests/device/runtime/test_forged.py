"""Bundles with right hashes and members that do not fit each other; found by ``tests/fuzz``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from obert_edge.bundle.cases import read_cases, write_cases
from obert_edge.bundle.container import CASES, MANIFEST, PROGRAM
from obert_edge.bundle.program import Linear, Program
from obert_edge.device.commands.describe import describe
from obert_edge.device.export.dense import read_dense_model
from obert_edge.device.runtime.session import load
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import BundleError
from tests.fuzz.bundles import Members, archive, made_bundles


@pytest.fixture(scope="module")
def classifier() -> Members:
    return made_bundles()[0]


def written(folder: Path, members: Members) -> Path:
    path = folder / "forged.oeb"
    seed = next(seed for seed in range(100) if Random(seed).random() >= 0.05)  # no byte is changed besides
    path.write_bytes(archive(members, Random(seed)))
    return path


def with_program(members: Members, change: Callable[[Program], None]) -> Members:
    program = Program.from_bytes(members[PROGRAM])
    change(program)
    return {**members, PROGRAM: program.to_bytes()}


def set_linear(**fields: int) -> Callable[[Program], None]:
    def change(program: Program) -> None:
        at = next(i for i, op in enumerate(program.ops) if isinstance(op, Linear))
        program.ops[at] = dataclasses.replace(program.ops[at], **fields)

    return change


def test_what_is_not_forged_is_read(classifier: Members, tmp_path: Path) -> None:
    path = written(tmp_path, classifier)
    describe(path, plain=True)
    assert verify(path, threads=1).ok
    read_dense_model(path)
    with load(path, threads=1) as session:
        assert set(session.run([[2, 5, 3]])) == {"logits"}


@pytest.mark.parametrize("field", ["input", "output", "rows", "offsets", "weights", "scale", "bias"])
@pytest.mark.parametrize("place", [10_000, -1, -2, 2**31 - 1])
def test_inspect_refuses_ops_that_name_what_is_not_there(
    classifier: Members, tmp_path: Path, field: str, place: int
) -> None:
    """A Python index of -1 is the last one, so that some were even described."""
    path = written(tmp_path, with_program(classifier, set_linear(**{field: place})))
    for read in (describe, read_dense_model):
        with pytest.raises(BundleError, match=f"has the {field} {place}"):
            read(path)


@pytest.mark.parametrize(
    "field, value", [("n", 2**31 - 1), ("k", 0), ("format", 77), ("activation", 99), ("input", 3)]
)
def test_the_dense_model_refuses_weights_that_are_no_matrix(
    classifier: Members, tmp_path: Path, field: str, value: int
) -> None:
    path = written(tmp_path, with_program(classifier, set_linear(**{field: value})))
    with pytest.raises(BundleError):
        read_dense_model(path)


def test_inspect_describes_an_activation_it_does_not_know(classifier: Members, tmp_path: Path) -> None:
    path = written(tmp_path, with_program(classifier, set_linear(activation=99)))
    assert "forged.oeb" in describe(path, plain=True)[0]


def test_a_case_without_an_output_is_a_difference_and_no_traceback(
    classifier: Members, tmp_path: Path
) -> None:
    cases = [dataclasses.replace(case, outputs={}) for case in read_cases(memoryview(classifier[CASES]))]
    checked = verify(written(tmp_path, {**classifier, CASES: write_cases(cases)}), threads=1)
    assert not checked.ok
    assert "case 0 holds no logits" in checked.to_text()


@pytest.mark.parametrize("channels", [1, 6])
def test_a_manifest_that_counts_other_channels_than_the_program_is_refused(
    classifier: Members, tmp_path: Path, channels: int
) -> None:
    manifest = json.loads(classifier[MANIFEST])
    manifest["outputs"][0]["channels"] = channels
    manifest["task"]["labels"] = []
    path = written(tmp_path, {**classifier, MANIFEST: json.dumps(manifest).encode()})
    with pytest.raises(
        BundleError, match=rf"lists outputs of \[\('sequences', {channels}\)\]; its compiled graph"
    ):
        load(path)


def test_a_pooling_needs_token_vectors(tmp_path: Path) -> None:
    members = made_bundles()[2]
    manifest = json.loads(members[MANIFEST])
    manifest["outputs"][0]["name"] = "vectors"
    path = written(tmp_path, {**members, MANIFEST: json.dumps(manifest).encode()})
    with pytest.raises(BundleError, match="pools last_hidden_state, which is none of its outputs"):
        load(path)
