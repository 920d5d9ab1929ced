"""Token classification: a label per word, scored by whole entities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from obert_edge.errors import DataError
from obert_edge.host.data import load_task
from obert_edge.host.data.base import IGNORED
from obert_edge.host.data.tokens import entities

CONLL = "-DOCSTART- X O\n\njohn NNP B-PER\nsmith NNP I-PER\nlives V O\nin P O\nparis NNP B-LOC\n\nit P O\n"


def answers(features, task, labels):
    ids = {label: index for index, label in enumerate(task.labels)}
    given = []
    for feature, words in zip(features, labels):
        logits = np.zeros((len(feature["input_ids"]), len(task.labels)), np.float32)
        for word, token in feature["_first"].items():
            logits[token, ids[words[word]]] = 1
        given.append({"logits": logits})
    return given


@pytest.fixture
def task(tmp_path):
    (tmp_path / "train.conll").write_text(CONLL)
    return load_task("tokens", tmp_path)


def test_conll_files_give_sentences_and_labels_with_o_first(task):
    assert task.labels == ("O", "B-LOC", "B-PER", "I-PER")
    assert [sentence.words for sentence in task.sentences("train")] == [
        ("john", "smith", "lives", "in", "paris"),
        ("it",),
    ]


def test_only_the_first_token_of_a_word_carries_its_label(task, tokenizer):
    feature = task.features("train", tokenizer)[1]
    assert feature["labels"] == [IGNORED, 0, IGNORED]


def test_entities_count_only_when_type_and_both_ends_match(task, tokenizer):
    features = task.features("train", tokenizer)
    right = [["B-PER", "I-PER", "O", "O", "B-LOC"], ["O"]]
    assert task.score("train", features, answers(features, task, right))["f1"] == 100.0
    half = [["B-PER", "O", "O", "O", "B-LOC"], ["O"]]
    scores = task.score("train", features, answers(features, task, half))
    assert scores["f1"] == 50.0
    assert scores["accuracy"] == pytest.approx(100 * 5 / 6)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-X", "I-X", "B-X"], {("X", 0, 2), ("X", 2, 3)}),
        (["I-X", "I-Y"], {("X", 0, 1), ("Y", 1, 2)}),
        (["O", "X", "X"], {("X", 1, 3)}),
        ([], set()),
    ],
)
def test_entities_are_read_from_iob_and_plain_labels(labels, expected):
    assert entities(labels) == expected


def test_words_beyond_the_maximum_length_are_predicted_as_outside(task, tokenizer):
    features = task.features("train", tokenizer, max_length=4)
    predicted = task.predictions(
        "train", features, answers(features, task, [["B-PER", "I-PER", "O", "O", "B-LOC"], ["O"]])
    )
    assert predicted[0][1] == ["B-PER", "I-PER", "O", "O", "O"]


def test_json_lines_hold_two_lists(tmp_path, tokenizer):
    rows = [{"words": ["it", "was"], "labels": ["O", "B-X"]}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "dev.jsonl").write_text(json.dumps({"words": ["it"], "labels": ["B-Z"]}))
    with pytest.raises(DataError, match="line 1: unknown label 'B-Z'"):
        load_task("tokens", tmp_path).features("dev", tokenizer)
    (tmp_path / "dev.jsonl").write_text(json.dumps({"words": ["it"], "labels": []}))
    with pytest.raises(DataError, match="line 1: no two lists of one length"):
        load_task("tokens", tmp_path)


def test_a_line_without_label_is_named(tmp_path):
    (tmp_path / "train.conll").write_text("john B-PER\nsmith\n")
    with pytest.raises(DataError, match="line 2: 'smith' has no label"):
        load_task("tokens", tmp_path)
