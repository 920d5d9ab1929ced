"""The table of architectures is true: its heads, its poolings, and texts through published tokenizers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import obert_edge
from obert_edge.bundle import Bundle
from obert_edge.device.tokenizers import MODELS
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.host.architectures import ARCHITECTURES, CLASS_SUFFIXES
from obert_edge.host.compiler import build
from tests.answers.models import make_model
from tests.answers.test_architectures import cosine
from tests.device.tokenizers.families import description_of
from tests.docs.markdown import DOCS

PAGE = DOCS / "reference" / "architectures.md"
#: The tokenizers that published models of an architecture have, by the kind on the page: a family of
#: tests/device/tokenizers/families.py, with the parts that their files have.
PUBLISHED: dict[str, dict[str, str]] = {
    "bert": {"WordPiece": "bert-uncased", "Unigram": "xlm-roberta"},
    "distilbert": {"WordPiece": "bert-cased"},
    "roberta": {"byte-level BPE": "roberta"},
    "electra": {"WordPiece": "bert-uncased"},
    "xlm-roberta": {"Unigram": "xlm-roberta"},
    "camembert": {"Unigram": "camembert"},
    "mpnet": {"WordPiece": "mpnet"},
    "modernbert": {"byte-level BPE": "modernbert", "BPE with byte fallback": "gemma"},
    "deberta-v2": {"Unigram": "deberta-v2"},
    "nomic_bert": {"WordPiece": "bert-uncased"},
    "gte": {"WordPiece": "bert-uncased", "Unigram": "xlm-roberta"},
    "jina_embeddings_v3": {"Unigram": "xlm-roberta"},
    "eurobert": {"byte-level BPE": "llama3"},
    "albert": {"Unigram": "albert"},
    "mobilebert": {"WordPiece": "bert-uncased"},
}
CASES = [(name, family) for name, kinds in PUBLISHED.items() for family in kinds.values()]
TEXTS = [
    "The GREAT film, isn't it? Angela Merkel met John in Paris 42 times.",
    "naïve ÀÉ café cafe\u0301 東京 good superb lovely book",
    "where is the bridge on the river",
    "not bad",
    "covid19 the virus spread  two  spaces",
    "Многие люди живут в городе; 北京 هو 🙂",
]
#: What eight bits change of a probability at most.
NOISE = 0.02
#: What each family calls its special tokens.
ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
BERT_NAMES = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
ROBERTA_NAMES = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")


def kind_of(description: dict[str, Any]) -> str:
    """What the page calls the tokenizer of a parsed ``tokenizer.json``."""
    model = description["model"]
    if model["type"] != "BPE":
        return str(model["type"])
    if model.get("byte_fallback"):
        return "BPE with byte fallback"
    return "byte-level BPE" if '"ByteLevel"' in json.dumps(description["pre_tokenizer"]) else "BPE"


def rows() -> list[dict[str, str]]:
    """The first table of the page."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    headers = next(line for line in lines if line.startswith("| architecture |"))
    names = cells(headers)
    next(lines)
    found: list[dict[str, str]] = []
    for line in lines:
        if not line.startswith("|"):
            return found
        found.append(dict(zip(names, cells(line), strict=True)))
    raise AssertionError(f"the table of {PAGE} does not end")


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def test_the_table_has_the_architectures_that_are_supported_and_their_heads() -> None:
    found = rows()
    assert [row["model_type"] for row in found] == list(ARCHITECTURES)
    for row in found:
        known = ARCHITECTURES[row["model_type"]]
        for task in (task for task in CLASS_SUFFIXES if task != "encoder"):
            column = task.replace("-", " ").replace("lm", "LM")
            assert row[column] == ("yes" if task in known.tasks else "–"), (row["model_type"], task)
        assert row["encoder"] == ", ".join(["mean", "cls"] + ["pooler"] * (known.pooler is not None))


def test_the_table_has_the_tokenizers_that_are_tried_here() -> None:
    found = {row["model_type"]: re.sub(r" \([^)]*\)", "", row["tokenizer"]) for row in rows()}
    assert found == {name: ", ".join(kinds) for name, kinds in PUBLISHED.items()}


def test_a_kind_is_what_its_family_has_and_devices_run_its_model() -> None:
    for kinds in PUBLISHED.values():
        for kind, family in kinds.items():
            description = json.loads(description_of(family))
            assert kind_of(description) == kind
            assert description["model"]["type"] in MODELS


@pytest.mark.parametrize(("architecture", "family"), CASES)
def test_encode_is_the_mean_of_transformers_for_the_same_text(
    tmp_path: Path, architecture: str, family: str
) -> None:
    model, bundle = made(tmp_path, architecture, family, "encoder")
    expected = []
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        with torch.no_grad():
            expected.append(model(**read(tokenizer, text, model)).last_hidden_state[0].mean(0).numpy())
    with obert_edge.load(bundle, threads=1) as session:
        found = session.encode(TEXTS)
    assert cosine(found, np.stack(expected)) > 0.98
    with Bundle.open(bundle) as opened:
        alone = Tokenizer(bytes(opened.member("tokenizer.json")), backend="python")
    assert [alone.encode(text).ids for text in TEXTS] == [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize(("architecture", "family"), CASES)
def test_predict_is_the_answer_of_transformers_for_the_same_text(
    tmp_path: Path, architecture: str, family: str
) -> None:
    model, bundle = made(tmp_path, architecture, family, "sequence-classification")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = np.stack(
            [model(**read(tokenizer, text, model)).logits[0].softmax(-1).numpy() for text in TEXTS]
        )
    with obert_edge.load(bundle, threads=1) as session:
        answers = [session.predict(text) for text in TEXTS]
    names = list(model.config.id2label.values())
    found = np.array([[answer.scores[name] for name in names] for answer in answers])
    assert cosine(found, expected) > 0.97
    np.testing.assert_allclose(found, expected, atol=NOISE)
    # Random weights hesitate between classes; where transformers does not, the label is its own.
    sure = np.sort(expected)[:, -1] - np.sort(expected)[:, -2] > 2 * NOISE
    assert sure.any()
    labels = np.array([answer.label for answer in answers])
    assert labels[sure].tolist() == [names[row.argmax()] for row in expected[sure]]


def made(folder: Path, architecture: str, family: str, task: str) -> tuple[Any, Path]:
    """A random model of an architecture with the tokenizer of a family, and its bundle."""
    description = json.loads(description_of(family))
    contents = {token["content"] for token in description["added_tokens"]}
    names = dict(zip(ROLES, BERT_NAMES if "[CLS]" in contents else ROBERTA_NAMES, strict=True))
    (folder / "tokenizer.json").write_text(description_of(family), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 126, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ids = [entry["id"] for entry in description["added_tokens"]]
    size = max(len(description["model"]["vocab"]), *(identifier + 1 for identifier in ids))
    known = ARCHITECTURES[architecture]
    labels = {} if task == "encoder" else {"num_labels": 3}
    model = make_model(known.class_name(task), size, scale=5.0, **labels)
    model.save_pretrained(folder)
    return model, build(folder, output=folder / "m.oeb", calibration=TEXTS)


def read(tokenizer: Any, text: str, model: Any) -> dict[str, Any]:
    """The inputs that transformers makes of a text, without token types that the model does not have."""
    inputs = tokenizer(text, return_tensors="pt")
    if not getattr(model.config, "type_vocab_size", 0):
        inputs.pop("token_type_ids", None)
    return dict(inputs)
