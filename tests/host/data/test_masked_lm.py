"""Masked language modeling: full rows of running text, and masks that a resumed run sees again."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer

from obert_edge.errors import DataError
from obert_edge.host.data import load_task

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop"]
CLS, SEP, MASK = 2, 3, 4
LINES = [" ".join("abcdefghijklmnop"[i % 16] for i in range(start, start + 7)) for start in range(40)]


@pytest.fixture
def tokenizer():
    made = Tokenizer(WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = BertPreTokenizer()
    return made


@pytest.fixture
def task(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(LINES) + "\n\n")
    return load_task("mlm", tmp_path / "text.txt")


def test_lines_are_joined_and_cut_into_full_rows(task, tokenizer):
    features = task.features("train", tokenizer, max_length=16)
    rows = [feature["input_ids"] for feature in features]
    assert all(len(row) == 16 for row in rows[:-1])
    assert all(row[0] == CLS and row[-1] == SEP for row in rows)
    running = [token for row in rows for token in row[1:-1]]
    text = [token for line in task._splits["train"] for token in [*tokenizer.encode(line).ids, SEP]]
    assert running == text[: len(running)]
    assert len(text) - len(running) <= 1


def test_every_tenth_line_of_one_file_is_held_out(task):
    assert task._splits["dev"] == LINES[9::10]
    assert len(task._splits["train"]) == 36


def test_masking_follows_from_row_and_epoch_and_hides_what_the_labels_hold(task, tokenizer):
    feature = task.features("train", tokenizer, max_length=64)[0]
    assert "labels" not in feature
    first = task.augment(feature, 5)
    assert first == task.augment(feature, 5)
    assert first != task.augment(feature, 6)
    chosen = [i for i, label in enumerate(first["labels"]) if label != -100]
    ids = feature["input_ids"]
    assert len(chosen) == round(0.15 * sum(token > MASK for token in ids))
    assert all(first["labels"][i] == ids[i] > MASK for i in chosen)
    assert all(first["input_ids"][i] == ids[i] for i in range(64) if i not in chosen)
    drawn = [
        task.augment(feature, seed)["input_ids"][i]
        for seed in range(40)
        for i, label in enumerate(task.augment(feature, seed)["labels"])
        if label != -100
    ]
    assert 0.7 < np.mean(np.array(drawn) == MASK) < 0.9


def test_other_splits_always_have_the_same_masks(task, tokenizer):
    assert task.features("dev", tokenizer, max_length=16) == task.features("dev", tokenizer, max_length=16)
    assert all("labels" in feature for feature in task.features("dev", tokenizer, max_length=16))


def test_scores_count_masked_tokens_only(task, tokenizer):
    features = task.features("dev", tokenizer, max_length=16)
    answers = []
    for feature in features:
        logits = np.zeros((len(feature["input_ids"]), len(WORDS)), np.float32)
        for position, label in enumerate(feature["labels"]):
            if label != -100:
                logits[position, label] = 50.0
        answers.append(task.condense(feature, {"logits": logits}))
    assert answers[0]["logits"].shape[0] == sum(label != -100 for label in features[0]["labels"])
    assert task.score("dev", features, answers) == {"accuracy": 100.0, "perplexity": pytest.approx(1.0)}
    flat = [{"logits": np.zeros_like(answer["logits"])} for answer in answers]
    assert task.score("dev", features, flat)["perplexity"] == pytest.approx(len(WORDS))


def test_a_folder_may_hold_its_own_splits_gzipped_too(tmp_path):
    (tmp_path / "dev.txt").write_text("b\n")
    with gzip.open(tmp_path / "train.txt.gz", "wt") as stream:
        stream.write("a\nc\n")
    assert load_task("mlm", tmp_path)._splits == {"train": ["a", "c"], "dev": ["b"]}


def test_splits_may_have_other_usual_names_and_lines_other_ends(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"a\rc\r")
    (tmp_path / "validation.txt").write_bytes(b"b\r\n")
    assert load_task("mlm", tmp_path)._splits == {"train": ["a", "c"], "dev": ["b"]}


def test_no_text_is_refused(tmp_path, tokenizer):
    with pytest.raises(DataError, match="holds none of train, dev, test .* it holds nothing"):
        load_task("mlm", tmp_path)
    (tmp_path / "dev.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"no train\.txt"):
        load_task("mlm", tmp_path)
    (tmp_path / "train.txt").write_text("\n \n")
    with pytest.raises(DataError, match="holds no text"):
        load_task("mlm", tmp_path)
    (tmp_path / "train.txt").write_text("a\n")
    bare = Tokenizer(WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(DataError, match=r"no \[MASK\]"):
        load_task("mlm", tmp_path).features("train", bare)


def test_a_split_without_a_token_to_mask_has_no_score(tmp_path, tokenizer):
    (tmp_path / "train.txt").write_text("a b c\n")
    (tmp_path / "dev.txt").write_text("\u200b\n")
    task = load_task("mlm", tmp_path)
    features = task.features("dev", tokenizer)
    answers = [
        task.condense(feature, {"logits": np.zeros((len(feature["input_ids"]), len(WORDS)))})
        for feature in features
    ]
    assert all(label == -100 for feature in features for label in feature["labels"])
    with pytest.raises(DataError, match="no token that could be masked"):
        task.score("dev", features, answers)
