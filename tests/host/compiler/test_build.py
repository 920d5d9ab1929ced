"""From a model folder to a bundle whose answers are the model's, for every architecture and head."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
import torch

from obert_edge.bundle import Bundle
from obert_edge.bundle.container import MANIFEST, PROGRAM
from obert_edge.bundle.manifest import QualityFacts
from obert_edge.bundle.program import Embed, Linear, Program, QuantizeDynamic
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.host.compiler import build
from obert_edge.host.quantization.embedding_rows import int4_rows
from tests.host.compiler.answers import bundle_answers, check_answers_alike, ranges_of
from tests.host.compiler.tiny_checkpoints import CASES, link_with_tokenizer, save_model


@pytest.mark.parametrize(("architecture", "task"), CASES)
def test_a_bundle_answers_like_the_checkpoint(tmp_path: Path, architecture: str, task: str) -> None:
    model = save_model(tmp_path / "model", architecture, task)
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "model"))
    check_answers_alike(model, path)


@pytest.mark.parametrize("architecture", ["bert", "electra"])
def test_dynamic_activations_answer_like_the_checkpoint(tmp_path: Path, architecture: str) -> None:
    model = save_model(tmp_path / "model", architecture, "sequence-classification")
    ranges = ranges_of(tmp_path / "model", "dynamic")
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=ranges)
    check_answers_alike(model, path)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.quantization.activations == "dynamic"


@pytest.mark.parametrize("architecture", ["bert", "electra", "modernbert"])
def test_mixed_activations_answer_like_the_checkpoint(tmp_path: Path, architecture: str) -> None:
    model = save_model(tmp_path / "model", architecture, "sequence-classification")
    ranges = ranges_of(tmp_path / "model")
    inputs = sorted(name for name in ranges["sites"] if name.endswith(":input"))
    # The projections of an attention read one tensor, and are quantized in one way.
    per_token = [name for name in inputs if "layer.0." in name or "layers.0." in name]
    assert 0 < len(per_token) < len(inputs)
    sites = {name: value for name, value in ranges["sites"].items() if name not in per_token}
    mixed = {**ranges, "format": 4, "activations": "mixed", "sites": sites}
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=mixed)
    check_answers_alike(model, path)
    assert verify(path).ok
    with Bundle.open(path) as bundle:
        assert bundle.manifest.quantization.activations == "mixed"
        ops = Program.from_bytes(bytes(bundle.member(PROGRAM))).ops
    assert 0 < sum(isinstance(op, QuantizeDynamic) for op in ops) < len(inputs)


def test_the_shape_of_tinybert_builds(tmp_path: Path) -> None:
    model = save_model(
        tmp_path / "model", "bert", "sequence-classification", hidden=312, heads=12, intermediate_size=1200
    )
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "model"))
    check_answers_alike(model, path)


@pytest.mark.parametrize(("architecture", "hidden"), [("bert", 64), ("electra", 64), ("distilbert", 50)])
def test_word_embeddings_of_four_bits(tmp_path: Path, architecture: str, hidden: int) -> None:
    model = save_model(tmp_path / "model", architecture, "sequence-classification", hidden=hidden, heads=2)
    ranges = ranges_of(tmp_path / "model")
    small = build(tmp_path / "model", output=tmp_path / "4.oeb", ranges=ranges, embeddings="int4")
    plain = build(tmp_path / "model", output=tmp_path / "8.oeb", ranges=ranges)
    words: Dict[str, int] = {}
    for path in (small, plain):
        with Bundle.open(path) as bundle:
            (embed,) = [op for op in bundle.program.ops if isinstance(op, Embed)]
            words[bundle.manifest.quantization.embeddings] = bundle.program.consts[embed.word].bytes
            assert path != small or bundle.manifest.minimum_reader == 2
    assert 2 * words["int4"] == words["int8"] * (-(-embed.channels // 32) * 32) / embed.channels
    assert small.stat().st_size < plain.stat().st_size
    assert verify(small).ok
    # The float model with the rows the compiler stored: what is left is the rounding of 8 bits.
    word = model.get_input_embeddings().weight
    word.data = int4_rows(word.data)
    check_answers_alike(model, small)


def test_embeddings_are_the_models_unless_the_caller_says_otherwise(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    trained = {**ranges, "format": 3, "embeddings": "int4"}
    kept = build(folder, output=tmp_path / "kept.oeb", ranges=trained)
    given = build(folder, output=tmp_path / "given.oeb", ranges=ranges, embeddings="int4")
    assert kept.read_bytes() == given.read_bytes()
    wide = build(folder, output=tmp_path / "wide.oeb", ranges=trained, embeddings="int8")
    plain = build(folder, output=tmp_path / "plain.oeb", ranges=ranges)
    assert wide.read_bytes() == plain.read_bytes()
    with pytest.raises(UsageError, match="embeddings is 'int2'"):
        build(folder, output=tmp_path / "no.oeb", ranges=ranges, embeddings="int2")
    assert not (tmp_path / "no.oeb").exists()


def test_the_same_inputs_give_the_same_bytes(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    first = build(folder, output=tmp_path / "a.oeb", ranges=ranges)
    second = build(folder, output=tmp_path / "b.oeb", ranges=ranges)
    assert first.read_bytes() == second.read_bytes()


def test_no_torch_is_needed_with_ranges_in_the_folder(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    quantized = tmp_path / "model"
    quantized.mkdir()
    for name in ("config.json", "model.safetensors"):
        (quantized / name).symlink_to(folder / name)
    (quantized / "quantization.json").write_text(json.dumps(ranges))
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, transformers=None)  # importing them fails, as if they were missing\n"
        "import obert_edge\n"
        f"obert_edge.build({str(quantized)!r}, output={str(tmp_path / 'm.oeb')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "not measured against the model: " in done.stderr
    given = build(folder, output=tmp_path / "given.oeb", ranges=ranges)
    with Bundle.open(given) as with_torch, Bundle.open(tmp_path / "m.oeb") as without:
        assert without.manifest.quality == QualityFacts()
        assert with_torch.manifest.quality.texts > 0
        names = [name for name in with_torch.names if name != MANIFEST]
        assert names == [name for name in without.names if name != MANIFEST]
        assert all(with_torch.member(name) == without.member(name) for name in names)


def test_the_manifest_says_what_the_model_is(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    stages: List[str] = []
    path = build(
        folder, output=tmp_path / "m.oeb", ranges=ranges, progress=lambda stage, _: stages.append(stage)
    )
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
    model = manifest.model
    assert (model.architecture, model.class_name) == ("bert", "BertForSequenceClassification")
    assert (model.hidden, model.layers, model.heads, model.intermediate) == (64, 2, 4, 256)
    assert (model.vocabulary, model.max_length, model.type_vocabulary) == (120, 66, 2)
    assert manifest.task.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert manifest.task.problem_type == "single_label"
    assert [(o.name, o.domain, o.channels) for o in manifest.outputs] == [("logits", "sequences", 3)]
    assert manifest.target == "x86" and manifest.quantization.method == "naive"
    assert len(manifest.linears) == 2 * 6 + 2
    assert stages[0] == "reading the checkpoint" and stages[-1] == "done"


def test_zeros_of_a_sparse_checkpoint_are_found_and_pay(saved, tmp_path: Path) -> None:
    model = copy.deepcopy(saved[2])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "encoder" in name and weight.ndim == 2:
                keep = torch.rand(weight.shape[0] // 4, weight.shape[1], generator=generator) < 0.2
                weight.mul_(keep.repeat_interleave(4, 0))
    model.save_pretrained(tmp_path / "sparse")
    path = build(tmp_path / "sparse", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "sparse"))
    check_answers_alike(model, path)
    with Bundle.open(path) as bundle:
        encoder = [about for about in bundle.manifest.linears if "encoder" in about.name]
        assert {about.format for about in encoder} == {"ROW_GATHER_4"}
        assert all(abs(about.sparsity - 0.8) < 0.1 for about in encoder)
        assert all(about.cost < about.dense_cost for about in encoder)
        assert all(isinstance(op.groups, int) for op in bundle.program.ops if isinstance(op, Linear))
        assert bundle.manifest.sparsity > 0.6


def test_a_shorter_maximum_cuts_the_position_table(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    whole = build(folder, output=tmp_path / "a.oeb", ranges=ranges)
    with Bundle.open(build(folder, output=tmp_path / "b.oeb", ranges=ranges, max_length=24)) as bundle:
        assert bundle.manifest.model.max_length == 24
        with Bundle.open(whole) as other:
            np.testing.assert_array_equal(bundle_answers(bundle)["logits"], bundle_answers(other)["logits"])
    with pytest.raises(UsageError, match="max_length 67 is not between 1 and 66"):
        build(folder, output=tmp_path / "c.oeb", ranges=ranges, max_length=67)


def test_the_encoder_of_a_classifier_can_be_built_alone(saved, tmp_path: Path) -> None:
    folder, _, model = saved
    ranges = ranges_of(folder, task="encoder")
    path = build(folder, output=tmp_path / "m.oeb", ranges=ranges, task="encoder")
    check_answers_alike(model.bert, path)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.task.pooling == "mean" and bundle.manifest.task.labels == []


def test_a_tokenizer_of_another_model_is_refused(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    model_dir = link_with_tokenizer(folder, tmp_path / "model", words=121)
    with pytest.raises(CheckpointError, match="ids up to 120, such as .*; the model has 120 word embeddings"):
        build(model_dir, output=tmp_path / "m.oeb", ranges=ranges)


def test_a_file_for_a_target_is_told_where_it_belongs(saved, tmp_path: Path) -> None:
    for file in ("py.oeb", tmp_path / "py"):
        with pytest.raises(UsageError, match="looks like a file") as caught:
            build(saved[0], file)
        assert f"build(model, target='x86', output={str(file)!r})" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("m.onnx", "m.oeb"),
        ("m.tflite", "m.oeb; with --tflite"),
        ("m.oeb.gz", "m.oeb; `obert-edge pack`"),
        ("m.safetensors", "m.oeb"),
    ],
)
def test_a_bundle_is_not_called_like_something_else(saved, tmp_path: Path, name: str, fix: str) -> None:
    with pytest.raises(UsageError, match=r"is called like .*, and `build` writes a bundle") as caught:
        build(saved[0], "x86", tmp_path / name)
    assert caught.value.hint.startswith(f"name it {tmp_path / fix}")
    assert not (tmp_path / name).exists()


def test_an_unknown_target_is_refused(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    with pytest.raises(UsageError, match="no target 'toaster'"):
        build(folder, "toaster", tmp_path / "m.oeb", ranges=ranges)


def test_a_file_that_is_no_bundle_is_not_overwritten(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    place = tmp_path / "thesis.txt"
    place.write_text("of years")
    with pytest.raises(UsageError, match="is there already and is no bundle: it would be lost"):
        build(folder, output=place, ranges=ranges)
    assert place.read_text() == "of years"
