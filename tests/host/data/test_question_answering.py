"""SQuAD: windows of long contexts, answer tokens, and the official score."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.data.question_answering import best_span, load_squad

CONTEXT = "it was red . john smith lives in paris . it is good"


def squad(*questions, title="t"):
    qas = [
        {"id": key, "question": "who lives in paris ?", "answers": [{"text": text, "answer_start": start}]}
        for key, text, start in questions
    ]
    return {"title": title, "paragraphs": [{"context": CONTEXT, "qas": qas}]}


def write(path, *articles):
    data = json.dumps({"version": "1.1", "data": list(articles)}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train-v1.1.json.gz", squad(("a", "john smith", CONTEXT.index("john"))))
    write(
        tmp_path / "dev-v1.1.json",
        squad(("b", "john smith", CONTEXT.index("john")), title="one"),
        squad(("c", "paris", CONTEXT.index("paris")), title="two"),
    )
    return tmp_path


def perfect(features):
    given = []
    for feature in features:
        start, end = np.zeros((2, len(feature["input_ids"])), np.float32)
        start[feature["start_positions"]] = end[feature["end_positions"]] = 5.0
        given.append({"start_logits": start, "end_logits": end})
    return given


def test_the_positions_of_a_feature_are_the_answers_tokens(folder, tokenizer):
    feature = load_task("squad", folder).features("train", tokenizer, max_length=256)[0]
    span = feature["input_ids"][feature["start_positions"] : feature["end_positions"] + 1]
    assert [tokenizer.id_to_token(i) for i in span] == ["john", "smith"]


def test_logits_that_point_at_the_answer_score_100(folder, tokenizer):
    task = load_task("squad", folder)
    features = task.features("dev", tokenizer)
    assert task.score("dev", features, perfect(features)) == {"exact_match": 100.0, "f1": 100.0}
    assert dict(task.predictions("dev", features, perfect(features))) == {"b": "john smith", "c": "paris"}


def test_long_contexts_are_windows_that_overlap_and_answers_outside_point_at_token_0(folder, tokenizer):
    task = load_squad(str(folder))
    task._stride = 2
    features = task.features("train", tokenizer, max_length=14)
    assert len(features) > 2
    assert all(len(feature["input_ids"]) <= 14 for feature in features)
    inside = [f for f in features if f["start_positions"] > 0]
    assert 0 < len(inside) < len(features)
    assert dict(task.predictions("train", features, perfect(features)))["a"] == "john smith"


def test_a_wrong_offset_is_repaired_by_the_nearest_occurrence(tmp_path, tokenizer):
    write(tmp_path / "train.json", squad(("a", "it", CONTEXT.rindex("it") - 3)))
    question = load_squad(str(tmp_path)).questions("train")[0]
    assert question.starts == (CONTEXT.rindex("it"),)


def test_a_training_question_whose_answer_is_not_there_is_left_out(tmp_path, tokenizer):
    write(tmp_path / "train.json", squad(("a", "london", 3), ("b", "paris", CONTEXT.index("paris"))))
    features = load_squad(str(tmp_path)).features("train", tokenizer, max_length=256)
    assert [feature["_id"] for feature in features] == ["b"]


def test_a_split_file_divides_the_articles_of_dev(folder):
    (folder / "split.json").write_text(json.dumps({"train_titles": ["one"], "eval_titles": ["two"]}))
    task = load_squad(str(folder))
    assert [q.id for q in task.questions("train")] == ["a", "b"]
    assert [q.id for q in task.questions("dev")] == ["c"]
    (folder / "split.json").write_text(json.dumps({"train_titles": ["one"], "eval_titles": ["one"]}))
    with pytest.raises(DataError, match="in train_titles and in eval_titles"):
        load_squad(str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "holds no questions"),
        (
            '{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": 1}]}]}]}',
            "not SQuAD v1.1: .* question 1",
        ),
        ("[]", "not SQuAD"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "dev.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_task("squad", path)


def test_a_length_that_leaves_no_room_is_a_usage_error(folder, tokenizer):
    with pytest.raises(UsageError, match="no room"):
        load_task("squad", folder).features("dev", tokenizer, max_length=100)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.booleans()), min_size=1, max_size=12))
def test_the_best_span_is_the_one_an_exhaustive_search_finds(tokens):
    start, end = (np.array([t[i] for t in tokens], np.float32) for i in (0, 1))
    offsets = [(2 * i, 2 * i + 1) if inside else None for i, (_, _, inside) in enumerate(tokens)]
    spans = [
        float(start[a] + end[b])
        for a in range(len(tokens))
        for b in range(a, min(a + 4, len(tokens)))
        if offsets[a] and offsets[b]
    ]
    found = best_span(start, end, offsets, n_best=len(tokens), max_length=4)
    if not spans:
        assert found is None
        return
    score, first, last = found
    assert score == pytest.approx(max(spans))
    assert 0 <= first < last <= first + 8


def test_a_model_of_few_positions_gets_windows_that_share_a_third(tmp_path):
    """The default stride of 128 is for windows of 384 tokens."""
    words = ["[UNK]", "[CLS]", "[SEP]", "who", *(f"w{number}" for number in range(100))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    context = " ".join(words[4:])
    answer = {"text": "w70", "answer_start": context.index("w70")}
    paragraph = {"context": context, "qas": [{"id": "1", "question": "who " * 40, "answers": [answer]}]}
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]}))
    task = load_task("squad", tmp_path)
    task.default_length = 48
    features = task.features("dev", tokenizer)
    assert len(features) > 1 and max(len(feature["input_ids"]) for feature in features) == 48
    seen = {token for feature in features for token in feature["input_ids"]}
    assert set(range(4, 104)) <= seen
    task.default_length = 31
    with pytest.raises(UsageError, match="31 tokens leaves no room"):
        task.features("dev", tokenizer)
