"""The cases embedded in a bundle: what they cover, and that any machine's engine makes the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obert_edge.bundle import Bundle
from obert_edge.bundle.container import ENGINE
from obert_edge.device.runtime.library import library_architecture
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import UnsupportedDeviceError
from obert_edge.host.compiler import build
from tests.host.compiler.answers import bundle_answers


def test_embedded_cases_cover_lengths_and_a_batch(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    with Bundle.open(build(folder, output=tmp_path / "m.oeb", ranges=ranges)) as bundle:
        cases = bundle.cases
        assert [np.diff(case.starts).tolist() for case in cases] == [[1], [7], [66], [5, 33, 2]]
        for case in cases:
            assert case.outputs["logits"].shape == (len(case.starts) - 1, 3)
        alone = bundle_answers(bundle, cases[0].ids) if not cases[0].token_types.any() else None
        assert alone is None or alone["logits"].tobytes() == cases[0].outputs["logits"].tobytes()


def test_a_bundle_for_another_machine_holds_its_engine_and_the_same_cases(saved, tmp_path: Path) -> None:
    """The cases are run by this machine's engine: all give the same bits."""
    folder, ranges, _ = saved
    with Bundle.open(build(folder, "arm64", tmp_path / "arm.oeb", ranges=ranges)) as bundle:
        assert bundle.manifest.target == "arm64"
        assert library_architecture(bundle.member(ENGINE)) == "aarch64"
        cases = [case.outputs["logits"] for case in bundle.cases]
    with Bundle.open(build(folder, "x86", tmp_path / "x86.oeb", ranges=ranges)) as bundle:
        for found, case in zip(cases, bundle.cases):
            assert found.tobytes() == case.outputs["logits"].tobytes()
    with pytest.raises(UnsupportedDeviceError, match=r"arm\.oeb was built for aarch64 \(target arm64\)"):
        verify(tmp_path / "arm.oeb").require()
