"""Where a build gets its ranges from: texts, random ids, or what the caller gives."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from obert_edge.bundle import Bundle
from obert_edge.bundle.container import TOKENIZER
from obert_edge.errors import DataError, UsageError
from obert_edge.host.compiler import build
from tests.host.compiler.answers import check_answers_alike
from tests.host.compiler.tiny_checkpoints import link_with_tokenizer


def test_without_ranges_the_build_calibrates_and_says_so(
    saved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _, model = saved
    with caplog.at_level(logging.WARNING, "obert_edge"):
        path = build(folder, output=tmp_path / "m.oeb")
    assert "calibrating on random ids" in caplog.text
    check_answers_alike(model, path)


def test_calibration_texts_set_the_ranges(saved, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, _, _ = saved
    model_dir = link_with_tokenizer(folder, tmp_path / "model")
    texts = ["w1 w2 w3 w4 w5 w6", "w7 w8", "w100 w50 w3"]
    path = build(model_dir, output=tmp_path / "a.oeb", calibration=texts)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    from_file = build(model_dir, output=tmp_path / "b.oeb", calibration=tmp_path / "texts.txt")
    assert path.read_bytes() == from_file.read_bytes()
    with Bundle.open(path) as bundle:
        assert bytes(bundle.member(TOKENIZER)) == (model_dir / "tokenizer.json").read_bytes()
        assert bundle.manifest.tokenizer["special_tokens"]["mask_token"] == "[MASK]"
        assert bundle.manifest.quantization.method == "calibrate"
    with caplog.at_level(logging.WARNING, "obert_edge"):
        build(model_dir, output=tmp_path / "c.oeb")
    assert "built-in sentences" in caplog.text


def test_ranges_that_calibration_texts_put_aside_are_told(
    saved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, ranges, _ = saved
    model_dir = link_with_tokenizer(folder, tmp_path / "model")
    (model_dir / "quantization.json").write_text(json.dumps(ranges))
    with caplog.at_level(logging.WARNING, "obert_edge"):
        build(model_dir, output=tmp_path / "kept.oeb")
        assert "has ranges already" not in caplog.text
        build(model_dir, output=tmp_path / "new.oeb", calibration=["w1 w2 w3 w4 w5 w6", "w7 w8"])
    assert "has ranges already, which are not used" in caplog.text


def test_texts_need_a_tokenizer_and_one_source_of_ranges(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    with pytest.raises(DataError, match="no tokenizer for the calibration texts"):
        build(folder, output=tmp_path / "m.oeb", calibration=["a text"])
    with pytest.raises(UsageError, match="both given"):
        build(folder, output=tmp_path / "m.oeb", calibration=["a text"], ranges=ranges)
    assert not (tmp_path / "m.oeb").exists()
