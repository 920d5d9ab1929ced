"""Masked places are filled as transformers' pipeline fills them: tokens, probabilities and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
import transformers

import obert_edge
from obert_edge.device.pipelines import create_pipeline
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import InputError, UsageError
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.pytorch import load_pytorch
from obert_edge.host.compiler import build
from tests.answers.models import WORDS, make_model, save_byte_bpe, save_unigram, save_wordpiece

TEXTS = [
    "the film was {} and lovely",
    "john lives in {}. angela merkel met him at the market!",
    "{}",
    "where is the bridge{} on the river?",
]
LINES = [*(text.format("great") for text in TEXTS), " ".join(WORDS.split())] * 20
#: Candidates of 8-bit arithmetic are in the model's order where it sets them this far apart.
SURE = 0.004


def real_mask(folder: Path) -> None:
    """Make the tokenizer decode bytes, and its mask take the space before it, as RoBERTa's has it."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["decoder"] = {**content["pre_tokenizer"]}
    for token in content["added_tokens"]:
        if token["content"] == "<mask>":
            token["lstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for token in (config.get("added_tokens_decoder") or {}).values():
        token["lstrip"] = token["lstrip"] or token["content"] == "<mask>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def save_roberta(folder: Path) -> int:
    size = save_byte_bpe(folder, LINES)
    real_mask(folder)
    return size


def save_xlm_roberta(folder: Path) -> int:
    size = save_unigram(folder, LINES)
    real_mask(folder)
    return size


CASES = {
    "BertForMaskedLM": (save_wordpiece, "[MASK]"),
    "DistilBertForMaskedLM": (save_wordpiece, "[MASK]"),
    "ElectraForMaskedLM": (save_wordpiece, "[MASK]"),
    "ModernBertForMaskedLM": (save_wordpiece, "[MASK]"),
    "RobertaForMaskedLM": (save_roberta, "<mask>"),
    "MPNetForMaskedLM": (save_roberta, "<mask>"),
    "XLMRobertaForMaskedLM": (save_xlm_roberta, "<mask>"),
}


@pytest.fixture(params=CASES)
def folder(request: Any, tmp_path: Path) -> Path:
    """The folder of a language model with its tokenizer."""
    path = tmp_path / str(request.param)
    path.mkdir()
    make_model(path.name, CASES[path.name][0](path)).save_pretrained(path)
    return path


def theirs(folder: Path, texts: List[str], top_k: int) -> List[List[List[Dict[str, Any]]]]:
    """Of each text and mask the candidates of transformers' pipeline."""
    fill = transformers.pipeline("fill-mask", model=str(folder), tokenizer=str(folder), device="cpu")
    answers = [fill(text, top_k=top_k) for text in texts]
    return [answer if isinstance(answer[0], list) else [answer] for answer in answers]


class Float:
    """Runs tokenized texts through the float model as the host reads it, in place of a session."""

    def __init__(self, folder: Path) -> None:
        self.model = load_pytorch(Checkpoint.open(folder), folder.name)[0].eval()

    def run_encodings(self, encodings: Any) -> Dict[str, np.ndarray]:
        rows = []
        for encoding in encodings:
            with torch.no_grad():
                rows.append(self.model(input_ids=torch.tensor([encoding.ids])).logits[0].numpy())
        width = max(map(len, rows))
        return {"logits": np.stack([np.pad(row, ((0, width - len(row)), (0, 0))) for row in rows])}


def check_alike(found: Any, expected: List[List[Dict[str, Any]]], tolerance: float) -> None:
    """The same tokens with the same probabilities, in the same order where that is sure."""
    assert len(found.masks) == len(expected)
    for ours, all_theirs in zip(found.masks, expected):
        scores = {entry["token"]: entry["score"] for entry in all_theirs}
        for rank, candidate in enumerate(ours):
            assert candidate.score == pytest.approx(scores[candidate.id], abs=tolerance)
            assert scores[candidate.id] > all_theirs[rank]["score"] - tolerance


def test_tokens_and_scores_are_the_pipelines_from_folder_bundle_and_plain_python(folder: Path) -> None:
    mask = CASES[folder.name][1]
    texts = [text.format(mask) for text in TEXTS] + [f"the {mask}, and a {mask} song"]
    everything = theirs(folder, texts, 100)
    bundle = build(folder, output=folder / "m.oeb", calibration=LINES[:20])
    with obert_edge.load(bundle, threads=1) as session:
        description = (folder / "tokenizer.json").read_bytes()
        for backend in ("tokenizers", "python"):
            tokenizer = Tokenizer(description, backend=backend)
            exact = create_pipeline(session.manifest, tokenizer, Float(folder), {"top_k": 4})
            quick = create_pipeline(session.manifest, tokenizer, session, {"top_k": 4})
            for text, expected in zip(texts, everything):
                check_alike(exact.predict([(text, None)])[0], expected, 1e-5)
                check_alike(quick.predict([(text, None)])[0], expected, SURE)
        assert [len(masks.masks) for masks in session.predict(texts)] == [1, 1, 1, 1, 2]
        assert len(session.predict(texts[0], top_k=7).masks[0]) == 7


@pytest.mark.parametrize("name", ["BertForMaskedLM", "RobertaForMaskedLM", "XLMRobertaForMaskedLM"])
def test_the_filled_text_is_the_pipelines(tmp_path: Path, name: str) -> None:
    save, mask = CASES[name]
    folder = tmp_path / name
    folder.mkdir()
    size = save(folder)
    make_model(name, size).save_pretrained(folder)
    bundle = build(folder, output=tmp_path / "m.oeb", calibration=LINES[:20])
    for text in (f"the film was {mask} and lovely", f"{mask} and lovely"):
        (expected,) = theirs(folder, [text], size)
        by_id = {entry["token"]: entry["sequence"] for entry in expected[0]}
        with obert_edge.load(bundle, threads=1) as session:
            (candidates,) = session.predict(text, top_k=100).masks
        # A character that is not whole, and signs that transformers draws to the word before, are left out.
        plain = [one for one in candidates if one.token.strip("#").isalnum() and one.token.isascii()]
        assert len(plain) > 30
        for candidate in plain:
            if text.startswith(mask) and candidate.token.startswith("##"):
                continue  # nothing is before it to go on with, and transformers leaves the mark
            assert candidate.text.strip() == by_id[candidate.id].strip()


def test_the_mask_is_the_one_that_the_tokenizer_names(tmp_path: Path) -> None:
    size = save_wordpiece(tmp_path)
    for path in (tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json", tmp_path / "vocab.txt"):
        path.write_text(path.read_text().replace("[MASK]", "<gap>"))
    make_model("BertForMaskedLM", size).save_pretrained(tmp_path)
    bundle = build(tmp_path, output=tmp_path / "m.oeb", calibration=LINES[:20])
    with obert_edge.load(bundle, threads=1) as session:
        check_alike(session.predict("a <gap> film"), theirs(tmp_path, ["a <gap> film"], 100)[0], SURE)


def test_what_cannot_be_filled_is_said(tmp_path: Path) -> None:
    size = save_wordpiece(tmp_path)
    make_model("BertForMaskedLM", size).save_pretrained(tmp_path)
    bundle = build(tmp_path, output=tmp_path / "m.oeb", calibration=LINES[:20])
    with obert_edge.load(bundle, threads=1) as session:
        for text in ("", "a good film", "good " * 200 + "[MASK]"):
            with pytest.raises(InputError, match=r"no \[MASK\] in its first"):
                session.predict(text)
        with pytest.raises(InputError, match="takes one text"):
            session.predict(("a [MASK]", "film"))
        for wrong in (0, -1, 1.5, "3", True):
            with pytest.raises(UsageError, match="top_k is"):
                session.predict("a [MASK] film", top_k=wrong)
        assert len(session.predict("a [MASK] film", top_k=10**6).masks[0]) == size
