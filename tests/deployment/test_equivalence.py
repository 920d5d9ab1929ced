"""What is trained is what is deployed: the engine's answers are those of the fake-quantized model.

Both compute docs/reference/numerics.md. Torch adds in another order inside LayerNorm and does not fold
scales, so now and then a value lands on the other side of a rounding edge; the sequence it belongs to then
differs a little, and the others are equal to float precision.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from obert_edge.calibration import calibrate
from obert_edge.device.runtime.session import load
from obert_edge.host.compiler import build
from obert_edge.host.pruning import prunable_weights
from obert_edge.host.quantization import QATCallback, load_quantized, save_quantized
from tests.host.quantization.tiny_models import ARCHITECTURES, QUANTIZED, make_batch, make_batches, make_model

#: Per sequence, relative: equal but for float rounding; and at most, where codes flipped.
EQUAL = 1e-5
FLIPPED = 0.08


@pytest.fixture(scope="module")
def batch():
    return make_batch(50, sequences=40, tokens=30)


def deploy(model, folder, method="calibrate"):
    """Save, build and load: the fake-quantized model read back, and a session of the bundle."""
    save_quantized(model, None, folder / "model", method)
    # Random models lose more by their ranges than trained ones. Here that is no matter: both sides have them.
    build(folder / "model", output=folder / "model.oeb", min_cosine=-1.0)
    return load_quantized(folder / "model"), load(folder / "model.oeb", threads=1)


def answers(model, session, batch):
    """The outputs of both, by name: pairs of float ``[batch, ...]`` that are 0 at padding."""
    mask = batch["attention_mask"]
    if hasattr(model.config, "trigram_input"):  # the row of a token after the last one is that of padding, 0
        batch = {**batch, "input_ids": batch["input_ids"] * mask}
    with torch.no_grad():
        ours = dict(model(**batch).items())
    if "logits" not in ours and "last_hidden_state" in ours:
        weights = mask[..., None] / mask.sum(1)[:, None, None]
        ours["sentence_embedding"] = (ours["last_hidden_state"] * weights).sum(1)
    found = session.run(batch["input_ids"].numpy(), mask.numpy())
    pairs = {}
    for name, engine in found.items():
        expected = ours[name]
        if expected.shape[:2] == mask.shape:
            expected = expected * mask.reshape(mask.shape + (1,) * (expected.dim() - 2))
        pairs[name] = (engine, expected.numpy())
    return pairs


def assert_equivalent(pairs, mask):
    assert pairs
    for name, (engine, expected) in pairs.items():
        assert engine.shape == expected.shape, name
        differences = (engine - expected).reshape(len(engine), -1)
        scale = np.linalg.norm(expected) / np.sqrt(len(expected))
        errors = np.linalg.norm(differences, axis=1) / scale
        assert np.mean(errors < EQUAL) >= 0.6, name
        assert errors.max() < FLIPPED, name
        assert agreement(engine, expected, mask) >= 0.995, name


def agreement(engine, expected, mask):
    """Share of rows (or tokens) with the same answer, but for ties that a flipped code decides."""
    if engine.ndim == 3:
        engine, expected = engine[mask], expected[mask]
    elif engine.shape == mask.shape:  # a score per token: the answer is a token
        engine, expected = (np.where(mask, scores, -np.inf) for scores in (engine, expected))
    ours = np.take_along_axis(expected, engine.argmax(-1)[..., None], -1)[..., 0]
    size = np.sqrt(np.mean(np.square(expected[np.isfinite(expected)])))
    return np.mean(expected.max(-1) - ours <= FLIPPED * size)


@pytest.mark.parametrize("architecture, head, activations", QUANTIZED)
def test_every_architecture_and_head(tmp_path, batch, architecture, head, activations):
    model = calibrate(make_model(architecture, head), make_batches(4), activations=activations)
    loaded, session = deploy(model, tmp_path)
    assert_equivalent(answers(loaded, session, batch), batch["attention_mask"].numpy().astype(bool))


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activation_functions(tmp_path, batch, activation):
    model = calibrate(make_model(hidden_act=activation), make_batches(4))
    loaded, session = deploy(model, tmp_path)
    assert_equivalent(answers(loaded, session, batch), batch["attention_mask"].numpy().astype(bool))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_word_embeddings_of_four_bits(tmp_path, batch, architecture):
    model = calibrate(make_model(architecture), make_batches(4), embeddings="int4")
    loaded, session = deploy(model, tmp_path)
    assert session.manifest.quantization.embeddings == "int4"
    assert_equivalent(answers(loaded, session, batch), batch["attention_mask"].numpy().astype(bool))


@pytest.mark.parametrize("observer", ["minmax", "percentile"])
def test_clipped_and_unclipped_ranges(tmp_path, batch, observer):
    model = calibrate(make_model(head="ForTokenClassification"), make_batches(2), observer)
    loaded, session = deploy(model, tmp_path)
    assert_equivalent(answers(loaded, session, batch), batch["attention_mask"].numpy().astype(bool))


@pytest.mark.parametrize("architecture", ["Bert", "NomicBert", "EuroBert", "Albert", "MobileBert"])
def test_a_pruned_model_after_quantization_aware_training(tmp_path, batch, architecture):
    model = make_model(architecture, num_labels=2)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            n, k = weight.shape
            blocks = torch.rand(n // 4, 1, k, generator=generator) < 0.25
            weight.mul_(blocks.expand(-1, 4, -1).reshape(n, k))
    examples = make_batch(sequences=32, tokens=20)
    rows = [{**{name: tensor[i] for name, tensor in examples.items()}, "labels": i % 2} for i in range(32)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=12,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(model, arguments, train_dataset=rows, callbacks=[QATCallback()]).train()
    loaded, session = deploy(model.eval(), tmp_path, "qat")
    assert all((weight == 0).float().mean() > 0.55 for weight in prunable_weights(loaded).values())
    assert session.manifest.quantization.method == "qat"
    assert_equivalent(answers(loaded, session, batch), batch["attention_mask"].numpy().astype(bool))
