"""``verify`` reproduces the embedded cases bit for bit, or says what differs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from obert_edge.bundle import container
from obert_edge.bundle.cases import Case, write_cases
from obert_edge.bundle.container import CASES, Bundle
from obert_edge.device.runtime.library import installed_library
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import BundleError, UnsupportedDeviceError, VerificationError


def test_every_implementation_gives_the_embedded_bits_on_one_thread_and_on_more(classifier):
    steps = []
    verification = verify(classifier, threads=2, progress=lambda *step: steps.append(step))
    assert verification.ok
    names = installed_library().implementations()
    assert [(c.implementation, c.threads) for c in verification.checks] == [
        (n, t) for n in names for t in (1, 2)
    ]
    assert len(steps) == len(verification.checks)
    assert "verified" in verification.to_text()
    verification.require()


def test_sequences_of_a_batch_are_also_run_alone(classifier):
    with Bundle.open(classifier) as bundle:
        cases = bundle.cases
    sequences = [len(case.starts) - 1 for case in cases]
    (check,) = verify(classifier, "scalar", threads=1).checks
    assert max(sequences) > 1
    assert check.batches == sum(1 + (count if count > 1 else 0) for count in sequences)


@pytest.mark.parametrize("fixture", ["roberta_tagger", "answerer"])
def test_other_heads_and_families_verify(fixture, request):
    assert verify(request.getfixturevalue(fixture), threads=2).ok


def test_one_flipped_bit_of_a_result_is_found(classifier, tmp_path):
    with Bundle.open(classifier) as bundle:
        members = {name: bundle.member(name) for name in bundle.names if name != "manifest.json"}
        first, *rest = bundle.cases
        logits = first.outputs["logits"].copy()
        logits.view(np.uint32)[0, 1] ^= 1
        members[CASES] = write_cases(
            [Case(first.starts, first.ids, first.token_types, {"logits": logits}), *rest]
        )
        container.write_bundle(tmp_path / "changed.oeb", bundle.manifest, members)
    verification = verify(tmp_path / "changed.oeb", "scalar", threads=1)
    assert not verification.ok
    assert verification.checks[0].failures[0].startswith("case 0, logits: 1 of 3 values differ")
    assert "FAILED" in verification.to_text()
    assert json.loads(json.dumps(verification.to_dict()))["ok"] is False
    with pytest.raises(VerificationError, match="case 0"):
        verification.require()


def test_an_altered_weight_is_found_by_its_hash(classifier, tmp_path):
    with Bundle.open(classifier) as bundle:
        offset = bytes(classifier.read_bytes()).index(bytes(bundle.member("weights.bin")[:256]))
    data = bytearray(classifier.read_bytes())
    data[offset + 128] ^= 4
    (tmp_path / "flipped.oeb").write_bytes(data)
    with pytest.raises(BundleError, match=r"weights\.bin"):
        verify(tmp_path / "flipped.oeb")


def test_an_implementation_this_cpu_lacks_is_unsupported(classifier):
    with pytest.raises(UnsupportedDeviceError, match="scalar") as caught:
        verify(classifier, "abacus")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("what", ["cases", "outputs"])
def test_a_bundle_with_nothing_to_compare_is_not_verified(classifier, tmp_path, what):
    with Bundle.open(classifier) as bundle:
        members = {name: bundle.member(name) for name in bundle.names if name != "manifest.json"}
        manifest, cases = bundle.manifest, bundle.cases
        if what == "cases":
            members[CASES] = write_cases([])
        else:
            manifest = dataclasses.replace(manifest, outputs=[])
            members[CASES] = write_cases([Case(c.starts, c.ids, c.token_types, {}) for c in cases])
        container.write_bundle(tmp_path / "empty.oeb", manifest, members)
    verification = verify(tmp_path / "empty.oeb", "scalar", threads=1)
    assert not verification.ok
    assert verification.to_dict()["ok"] is False
    assert verification.to_text().endswith("FAILED")
    with pytest.raises(VerificationError, match="nothing to compare"):
        verification.require()
