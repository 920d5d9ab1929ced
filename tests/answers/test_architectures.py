"""Every architecture and head, built with its tokenizer, answers texts as transformers does in FP32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import obert_edge
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.compiler import build
from tests.answers.models import make_model, save_byte_bpe, save_wordpiece

TEXTS = [
    "the film was great and the song was lovely",
    "a dull play, and the meal was awful",
    "where is the bridge on the river?",
    "john lives in paris. angela merkel met him at the market!",
    "not bad",
    "what did many people do in the city of new york on that trip by car",
]
CASES = [(known.model_type, task) for known in ARCHITECTURES.values() for task in known.tasks]


@pytest.mark.parametrize(("architecture", "task"), CASES)
def test_a_bundle_answers_texts_as_transformers_does(tmp_path: Path, architecture: str, task: str) -> None:
    known = ARCHITECTURES[architecture]
    size = save_byte_bpe(tmp_path, TEXTS) if known.positions_after_padding else save_wordpiece(tmp_path)
    labels = (
        {} if task in ("encoder", "masked-lm") else {"num_labels": 2 if task == "question-answering" else 6}
    )
    model = make_model(known.class_name(task), size, scale=5.0, **labels)
    model.save_pretrained(tmp_path)
    bundle = build(tmp_path, output=tmp_path / "m.oeb", calibration=TEXTS)

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    if not getattr(model.config, "type_vocab_size", 0):
        batch.pop("token_type_ids", None)
    with torch.no_grad():
        expected = dict(model(**batch).items())
    mask = batch["attention_mask"].numpy().astype(bool)
    if task == "encoder":
        rows = [values[kept].mean(0) for values, kept in zip(expected["last_hidden_state"].numpy(), mask)]
        expected["sentence_embedding"] = torch.tensor(np.stack(rows))
    with obert_edge.load(bundle, threads=1) as session:
        found = session.run(**{name: values.numpy() for name, values in batch.items()})
        answers = [session.predict(text) for text in TEXTS if task in ("sequence-classification", "encoder")]
    for name, ours in found.items():
        theirs = expected[name].numpy()
        if theirs.shape[:2] == mask.shape:
            ours, theirs = ours[mask], theirs[mask]
        assert cosine(ours, theirs) > 0.98, name
    if task == "sequence-classification":
        chosen = [model.config.id2label[int(row.argmax())] for row in found["logits"]]
        assert [answer.label for answer in answers] == chosen
    elif task == "encoder":
        np.testing.assert_allclose([answer.vector for answer in answers], found["sentence_embedding"])


def cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of all numbers at once, each channel without its mean, which any answer would have."""
    ours, theirs = (values - values.mean(0) for values in (ours, theirs))
    return float((ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs))
