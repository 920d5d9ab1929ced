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
            "item 1 of 'data', paragraph 1, question 1: not SQuAD: there is no text 'question'",
        ),
        ('{"data": [{"paragraphs": [{"context": "x"}]}]}', "paragraph 1: there is no list 'qas'"),
        ('{"data": [{"title": "x"}]}', "item 1 of 'data': not SQuAD: there is no text 'context'"),
        ('{"data": 5}', "not SQuAD: it has no list 'data'"),
        ('{"data": ' + "[" * 100_000, "nested too deeply"),
        ("[]", "holds no rows"),
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


# Questions that the context does not answer.


def rows(*questions):
    """Rows as `datasets` writes them: ``(id, [(text, start), ...])``."""
    return [
        {
            "id": key,
            "context": CONTEXT,
            "question": "who ?",
            "answers": {"text": [t for t, _ in pairs], "answer_start": [s for _, s in pairs]},
        }
        for key, pairs in questions
    ]


def squad2_file(path, *questions):
    """SQuAD 2's own layout: ``(id, answer or None)``."""
    qas = [
        {
            "id": key,
            "question": "who lives in paris ?",
            "is_impossible": answer is None,
            "answers": [] if answer is None else [{"text": answer, "answer_start": CONTEXT.index(answer)}],
            **({"plausible_answers": [{"text": "red", "answer_start": 7}]} if answer is None else {}),
        }
        for key, answer in questions
    ]
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))


@pytest.fixture
def mixed(tmp_path):
    for split in ("train-v2.0", "dev-v2.0"):
        squad2_file(tmp_path / f"{split}.json", ("a", "john smith"), ("b", None), ("c", "paris"), ("d", None))
    return tmp_path


def test_impossible_questions_are_kept_and_said(mixed):
    task = load_task("squad", mixed)
    assert [q.impossible for q in task.questions("train")] == [False, True, False, True]
    assert task.describe() == (
        "squad: 4 questions of train, 2 of them impossible; 4 questions of dev, 2 of them impossible"
    )


def test_data_without_surprises_are_said_in_a_few_words(folder):
    assert load_task("squad", folder).describe() == "squad: 1 question of train; 2 questions of dev"


def test_an_impossible_question_points_at_the_first_token(mixed, tokenizer):
    features = {f["_id"]: f for f in load_task("squad", mixed).features("train", tokenizer, max_length=256)}
    assert list(features) == ["a", "b", "c", "d"]
    assert (features["b"]["start_positions"], features["b"]["end_positions"]) == (0, 0)
    assert features["b"]["input_ids"][0] == tokenizer.token_to_id("[CLS]")
    assert features["a"]["start_positions"] > 0


def test_answers_that_are_right_score_100_everywhere(mixed, tokenizer):
    task = load_task("squad", mixed)
    features = task.features("dev", tokenizer)
    scores = task.score("dev", features, perfect(features))
    assert {name: value for name, value in scores.items() if not name.endswith("thresh")} == dict.fromkeys(
        ("exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1"),
        100.0,
    )
    predicted = dict(task.predictions("dev", features, perfect(features)))
    assert predicted == {"a": "john smith", "b": "", "c": "paris", "d": ""}


def test_no_answer_is_the_least_null_score_of_all_windows_against_the_best_span_of_all(mixed, tokenizer):
    task = load_squad(str(mixed))
    task._stride = 2
    features = [f for f in task.features("dev", tokenizer, max_length=14) if f["_id"] == "a"]
    assert len(features) > 2

    def predicted(span, nulls):
        answers = perfect(features)
        for answer, null in zip(answers, nulls):
            answer["start_logits"][:] = answer["end_logits"][:] = 0.0
            answer["start_logits"][0] = answer["end_logits"][0] = null
        inside = next(i for i, f in enumerate(features) if f["start_positions"] > 0)
        for name in ("start", "end"):
            answers[inside][f"{name}_logits"][features[inside][f"{name}_positions"]] = span
        return dict(task.predictions("dev", features, answers))["a"]

    high = [9.0] * len(features)
    assert predicted(5.0, high) == ""
    assert predicted(5.0, [*high[1:], 4.0]) == "john smith"  # one window sees the answer: no null there
    assert predicted(3.0, [*high[1:], 4.0]) == ""
    assert predicted(4.0, [*high[1:], 4.0]) == "john smith"  # equal: the span is given


def test_a_split_without_impossible_questions_never_answers_nothing(folder, tokenizer):
    task = load_task("squad", folder)
    features = task.features("dev", tokenizer)
    answers = perfect(features)
    for answer in answers:
        answer["start_logits"][0] = answer["end_logits"][0] = 99.0
    assert dict(task.predictions("dev", features, answers)) == {"b": "john smith", "c": "paris"}


@pytest.mark.parametrize("layout", ["list", "data", "lines", "jsonl", "one"])
def test_rows_of_datasets_are_read_too(tmp_path, layout):
    items = rows(("a", [("paris", CONTEXT.index("paris"))]), ("b", []))
    lines = "\n".join(map(json.dumps, items))
    content = {"list": json.dumps(items, indent=1), "data": json.dumps({"data": items}), "one": lines}
    path = tmp_path / ("dev.jsonl" if layout == "jsonl" else "dev.json")
    path.write_text(content.get(layout, lines))
    first, second = load_task("squad", tmp_path).questions("dev")
    assert (first.id, first.answers, first.impossible) == ("a", ("paris",), False)
    assert second.impossible


def test_a_row_without_an_id_has_that_of_its_line(tmp_path):
    items = rows(("a", [("paris", 3)]), ("b", []))
    for item in items:
        del item["id"]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, items)))
    assert [q.id for q in load_task("squad", tmp_path).questions("dev")] == ["1", "2"]


def test_an_answer_without_its_place_is_found_if_it_is_there_once(tmp_path):
    items = rows(("a", [("paris", None)]), ("b", [("it", None)]))
    (tmp_path / "train.json").write_text(json.dumps(items))
    task = load_task("squad", tmp_path)
    a, b = task.questions("train")
    assert (a.starts, a.moved) == ((CONTEXT.index("paris"),), False)
    assert (b.starts, b.trainable) == ((-1,), False)
    assert task.describe().endswith("1 left out because their answer cannot be found in the context")


def test_answers_elsewhere_than_said_are_counted(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(rows(("a", [("paris", 0)]), ("b", [("paris", -1)]))))
    task = load_task("squad", tmp_path)
    a, b = task.questions("train")
    assert a.starts == b.starts == (CONTEXT.index("paris"),)
    assert task.describe() == (
        "squad: 2 questions of train, 2 with an answer elsewhere than answer_start says"
    )


def test_an_empty_context_has_no_answer_and_is_scored(tmp_path, tokenizer):
    items = [{**row, "context": ""} for row in rows(("a", []), ("b", [("paris", 0)]))]
    (tmp_path / "dev.json").write_text(json.dumps(items))
    task = load_task("squad", tmp_path)
    features = task.features("dev", tokenizer)
    scores = task.score("dev", features, perfect(features))
    assert (scores["exact"], scores["HasAns_f1"], scores["NoAns_f1"]) == (50.0, 0.0, 100.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": None}, "id 'a': 'answers' is null; expected a list"),
        ({"answers": "paris"}, "'answers' is \"paris\"; expected"),
        ({"answers": {"text": ["x"], "answer_start": []}}, "expected a list of objects"),
        ({"answers": [{"text": "", "answer_start": 0}]}, "the text of an answer is ''"),
        ({"answers": [{"text": "red", "answer_start": "7"}]}, "answer_start is '7'; expected a whole number"),
        ({"is_impossible": True}, "is_impossible is true, and there are 1 answers"),
        ({"answers": [], "is_impossible": False}, "is_impossible is false, and there are 0 answers"),
        ({"is_impossible": "no"}, "is_impossible is 'no'"),
        ({"question": None}, "there is no text 'question'"),
        ({"context": 5}, "there is no text 'context'"),
        ({"context": "bad \ud83d"}, "holds half a character"),
        ({"id": None}, "has no id"),
    ],
)
def test_a_question_that_cannot_be_used_is_named(tmp_path, change, message):
    row = {**rows(("a", [("red", 7)]))[0], **change}
    path = tmp_path / "dev.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match=message) as error:
        load_task("squad", path)
    assert f"{path}, line 1" in error.value.message
    assert error.value.hint


def test_is_impossible_alone_says_that_there_is_no_answer(tmp_path):
    row = {**rows(("a", []))[0], "is_impossible": True, "answers": None}
    (tmp_path / "dev.json").write_text(json.dumps([row]))
    assert load_task("squad", tmp_path).questions("dev")[0].impossible


def test_two_questions_of_one_id_are_refused(tmp_path):
    squad2_file(tmp_path / "dev.json", ("a", "paris"), ("b", None), ("a", None))
    with pytest.raises(DataError, match=r"dev.json: 1 ids belong to several questions, the first is 'a'"):
        load_task("squad", tmp_path)


def test_train_and_dev_may_count_their_questions_alike(tmp_path, tokenizer):
    squad2_file(tmp_path / "train.json", ("0", "paris"))
    squad2_file(tmp_path / "dev.json", ("0", "john smith"))
    task = load_task("squad", tmp_path)
    features = task.features("train", tokenizer)
    assert dict(task.predictions("train", features, perfect(features))) == {"0": "paris"}


def test_paragraphs_without_questions_hold_none(tmp_path):
    squad2_file(tmp_path / "dev.json", ("a", "paris"))
    content = json.loads((tmp_path / "dev.json").read_text())
    content["data"][0]["paragraphs"].insert(0, {"context": "nothing is asked here", "qas": []})
    (tmp_path / "dev.json").write_text(json.dumps(content))
    assert [q.id for q in load_task("squad", tmp_path).questions("dev")] == ["a"]


def test_two_versions_of_one_split_are_not_chosen_from(mixed):
    (mixed / "train-v1.1.json").write_text((mixed / "train-v2.0.json").read_text())
    with pytest.raises(DataError, match=r"train-v1.1.json and train-v2.0.json, and split 'train'"):
        load_task("squad", mixed)
