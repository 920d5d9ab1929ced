"""From a model folder to a bundle whose answers are the model's, for every architecture and head."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch

from obert_edge.bundle import Bundle
from obert_edge.bundle.container import ENGINE, PROGRAM, TOKENIZER
from obert_edge.bundle.program import Embed, Linear
from obert_edge.device.runtime.batching import case_positions
from obert_edge.device.runtime.library import library_architecture
from obert_edge.device.runtime.native import Library, PackedBatch
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import CheckpointError, DataError, UnsupportedDeviceError, UsageError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.compiler import build
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.quantization.embedding_rows import int4_rows
from obert_edge.targets import get_target, library_path
from tests.host.compiler.naive_ranges import naive_ranges
from tests.host.compiler.tiny_checkpoints import CASES, save_model

SAMPLES = [np.random.default_rng(seed).integers(5, 120, 24).tolist() for seed in range(4)]
IDS = np.random.default_rng(9).integers(5, 120, 24).astype(np.int32)


def ranges_of(folder: Path, activations: str = "static", task: str | None = None) -> Dict[str, Any]:
    checkpoint = Checkpoint.open(folder)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint, task)))
    return naive_ranges(graph, SAMPLES, activations)


def run(bundle: Bundle, ids: np.ndarray = IDS) -> Dict[str, np.ndarray]:
    starts = np.array([0, len(ids)], np.int32)
    batch = PackedBatch(starts, ids, case_positions(bundle.manifest.model, starts))
    library = Library(library_path(get_target("x86")))
    with library.open(bytes(bundle.member(PROGRAM)), bundle.weights, implementation="scalar") as model:
        return dict(zip([output.name for output in bundle.manifest.outputs], model.run(batch)))


def expected_of(model: torch.nn.Module, names: List[str]) -> Dict[str, np.ndarray]:
    with torch.no_grad():
        outputs = model(input_ids=torch.tensor(IDS[None].astype(np.int64)))
    found = {}
    for name in names:
        value = outputs.last_hidden_state.mean(1) if name == "sentence_embedding" else getattr(outputs, name)
        found[name] = value.numpy()
    return found


def check_like(model: torch.nn.Module, path: Path) -> None:
    """8-bit arithmetic on a random model: every output follows the float one closely."""
    with Bundle.open(path, verify="full") as bundle:
        found = run(bundle)
    for name, expected in expected_of(model, list(found)).items():
        value = found[name].reshape(expected.shape)
        assert np.corrcoef(value.ravel(), expected.ravel())[0, 1] > 0.995
        assert abs(value - expected).max() < 0.1 * np.ptp(expected)


@pytest.mark.parametrize(("architecture", "task"), CASES)
def test_a_bundle_answers_like_the_checkpoint(tmp_path: Path, architecture: str, task: str) -> None:
    model = save_model(tmp_path / "model", architecture, task)
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "model"))
    check_like(model, path)


@pytest.mark.parametrize("architecture", ["bert", "electra"])
def test_dynamic_activations_answer_like_the_checkpoint(tmp_path: Path, architecture: str) -> None:
    model = save_model(tmp_path / "model", architecture, "sequence-classification")
    ranges = ranges_of(tmp_path / "model", "dynamic")
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=ranges)
    check_like(model, path)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.quantization.activations == "dynamic"


def test_the_shape_of_tinybert_builds(tmp_path: Path) -> None:
    model = save_model(
        tmp_path / "model", "bert", "sequence-classification", hidden=312, heads=12, intermediate_size=1200
    )
    path = build(tmp_path / "model", output=tmp_path / "m.oeb", ranges=ranges_of(tmp_path / "model"))
    check_like(model, path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Dict[str, Any], torch.nn.Module]:
    folder = tmp_path_factory.mktemp("saved")
    model = save_model(folder, "bert", "sequence-classification", layers=2)
    return folder, ranges_of(folder), model


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
    check_like(model, small)


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
        "import sys, obert_edge\n"
        f"obert_edge.build({str(quantized)!r}, output={str(tmp_path / 'm.oeb')!r})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    given = build(folder, output=tmp_path / "given.oeb", ranges=ranges)
    assert given.read_bytes() == (tmp_path / "m.oeb").read_bytes()


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


def test_embedded_cases_cover_lengths_and_a_batch(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    with Bundle.open(build(folder, output=tmp_path / "m.oeb", ranges=ranges)) as bundle:
        cases = bundle.cases
        assert [np.diff(case.starts).tolist() for case in cases] == [[1], [7], [66], [5, 33, 2]]
        for case in cases:
            assert case.outputs["logits"].shape == (len(case.starts) - 1, 3)
        alone = run(bundle, cases[0].ids) if not cases[0].token_types.any() else None
        assert alone is None or alone["logits"].tobytes() == cases[0].outputs["logits"].tobytes()


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
    check_like(model, path)
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
            np.testing.assert_array_equal(run(bundle)["logits"], run(other)["logits"])
    with pytest.raises(UsageError, match="max_length 67 is not between 1 and 66"):
        build(folder, output=tmp_path / "c.oeb", ranges=ranges, max_length=67)


def test_the_encoder_of_a_classifier_can_be_built_alone(saved, tmp_path: Path) -> None:
    folder, _, model = saved
    ranges = ranges_of(folder, task="encoder")
    path = build(folder, output=tmp_path / "m.oeb", ranges=ranges, task="encoder")
    check_like(model.bert, path)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.task.pooling == "mean" and bundle.manifest.task.labels == []


def test_without_ranges_the_build_calibrates_and_says_so(
    saved, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _, model = saved
    with caplog.at_level(logging.WARNING, "obert_edge"):
        path = build(folder, output=tmp_path / "m.oeb")
    assert "calibrating on random ids" in caplog.text
    check_like(model, path)


def with_tokenizer(folder: Path, target: Path, words: int = 120) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    target.mkdir()
    for name in ("config.json", "model.safetensors"):
        (target / name).symlink_to(folder / name)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(words - 5))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    ).save_pretrained(target)
    return target


def test_calibration_texts_set_the_ranges(saved, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, _, _ = saved
    model_dir = with_tokenizer(folder, tmp_path / "model")
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


def test_texts_need_a_tokenizer_and_one_source_of_ranges(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    with pytest.raises(DataError, match="no tokenizer for the calibration texts"):
        build(folder, output=tmp_path / "m.oeb", calibration=["a text"])
    with pytest.raises(UsageError, match="both given"):
        build(folder, output=tmp_path / "m.oeb", calibration=["a text"], ranges=ranges)
    assert not (tmp_path / "m.oeb").exists()


def test_a_tokenizer_of_another_model_is_refused(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    model_dir = with_tokenizer(folder, tmp_path / "model", words=121)
    with pytest.raises(CheckpointError, match="ids up to 120; the model has 120 word embeddings"):
        build(model_dir, output=tmp_path / "m.oeb", ranges=ranges)


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
        verify(tmp_path / "arm.oeb")


def test_an_unknown_target_is_refused(saved, tmp_path: Path) -> None:
    folder, ranges, _ = saved
    with pytest.raises(UsageError, match="no target 'toaster'"):
        build(folder, "toaster", tmp_path / "m.oeb", ranges=ranges)
