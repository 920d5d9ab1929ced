"""Token classification: a label per word, scored by whole entities."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers.normalizers import BertNormalizer

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.data.base import IGNORED
from obert_edge.host.data.token_files import FEATURES_FILE, Sentence
from obert_edge.host.data.tokens import TokenClassification, entities

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
        (["B-X", "I-X", "E-X", "E-X", "S-X", "S-X"], {("X", 0, 3), ("X", 3, 4), ("X", 4, 5), ("X", 5, 6)}),
        (["B-X", "L-X", "U-X", "U-X", "O"], {("X", 0, 2), ("X", 2, 3), ("X", 3, 4)}),
        (["WORK-OF-ART", "X-OF-ART"], {("WORK-OF-ART", 0, 1), ("X-OF-ART", 1, 2)}),
        (["B-WORK-OF-ART", "I-WORK-OF-ART", "O"], {("WORK-OF-ART", 0, 2)}),
        (["b-per", "i-per", "o"], {("per", 0, 2)}),
        (["OUT", "B-X", "I-X", "OUT"], {("X", 1, 3)}),
        ([], set()),
    ],
)
def test_entities_are_read_from_the_schemes_of_the_field(labels, expected):
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
    with pytest.raises(DataError, match="split 'dev', line 1: unknown label 'B-Z' of word 1, 'it'"):
        load_task("tokens", tmp_path).features("dev", tokenizer)
    (tmp_path / "dev.jsonl").write_text(json.dumps({"words": ["it"], "labels": []}))
    with pytest.raises(DataError, match="line 1: no two lists of one length"):
        load_task("tokens", tmp_path)


def test_a_line_without_label_is_named(tmp_path):
    (tmp_path / "train.conll").write_text("john B-PER\nsmith\n")
    with pytest.raises(DataError, match="line 2: 'smith' has no label"):
        load_task("tokens", tmp_path)


def write(path, *sentences, key="labels"):
    """JSON Lines of ``(words, labels)``."""
    rows = [{"tokens": words.split(), key: labels} for words, labels in sentences]
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("key", ["labels", "tags", "ner_tags"])
def test_labels_have_one_of_three_keys(tmp_path, key):
    write(tmp_path / "train.jsonl", ("it was", ["O", "B-X"]), key=key)
    assert load_task("tokens", tmp_path).sentences("train")[0].labels == ("O", "B-X")


def test_a_row_with_two_of_the_keys_or_none_is_refused(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"tokens": ["it"], "tags": ["O"], "labels": ["O"]}))
    with pytest.raises(DataError, match="line 1: the row has labels and tags"):
        load_task("tokens", tmp_path)
    path.write_text(json.dumps({"tokens": ["it"], "pos": ["O"]}))
    with pytest.raises(DataError, match="has none of labels, tags, ner_tags; it has the keys tokens, pos"):
        load_task("tokens", tmp_path)


@pytest.mark.parametrize("labels", [[3, 0], ["3", "0"]])
def test_numbers_without_names_are_refused_with_the_way_out(tmp_path, labels):
    write(tmp_path / "train.jsonl", ("it was", labels))
    with pytest.raises(
        DataError, match=r"line 1: the labels are numbers \(0, 3\), and nothing says"
    ) as error:
        load_task("tokens", tmp_path)
    assert "--label O --label B-PER" in error.value.hint


def test_numbers_are_named_by_the_user(tmp_path):
    write(tmp_path / "train.jsonl", ("it was", [2, 0]))
    task = load_task("tokens", tmp_path, labels=("O", "B-X", "I-X"))
    assert task.sentences("train")[0].labels == ("I-X", "O")
    assert task.labels == ("O", "B-X", "I-X")
    with pytest.raises(DataError, match="word 1: the label 2 is none of the 2 classes 0 to 1"):
        load_task("tokens", tmp_path, labels=("O", "B-X"))
    with pytest.raises(UsageError, match="names a class twice"):
        load_task("tokens", tmp_path, labels=("O", "O", "B-X"))


@pytest.mark.parametrize(
    "feature",
    [
        {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "Sequence"},
        {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"},
        [{"names": ["O", "B-X"], "_type": "ClassLabel"}],
    ],
)
def test_numbers_are_named_by_the_file_that_datasets_writes(tmp_path, feature):
    write(tmp_path / "train.jsonl", ("it was", [1, 0]), key="ner_tags")
    features = {"tokens": {"feature": {"dtype": "string"}}, "ner_tags": feature}
    (tmp_path / FEATURES_FILE).write_text(json.dumps({"features": features}))
    assert load_task("tokens", tmp_path).sentences("train")[0].labels == ("B-X", "O")
    (tmp_path / FEATURES_FILE).write_text(json.dumps({"features": {"ner_tags": {"dtype": "int64"}}}))
    with pytest.raises(DataError, match="names no classes of ner_tags"):
        load_task("tokens", tmp_path)


def test_an_export_of_the_data_set_viewer_names_its_numbers_itself(tmp_path):
    kind = {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "Sequence"}
    export = {
        "features": [{"feature_idx": 0, "name": "tokens"}, {"name": "ner_tags", "type": kind}],
        "rows": [{"row_idx": 0, "row": {"tokens": ["it", "was"], "ner_tags": [1, 0]}}],
    }
    (tmp_path / "train.json").write_text(json.dumps(export))
    (sentence,) = load_task("tokens", tmp_path).sentences("train")
    assert (sentence.words, sentence.labels) == (("it", "was"), ("B-X", "O"))
    export["rows"].append({"row": {"tokens": ["it"], "ner_tags": [2]}})
    (tmp_path / "train.json").write_text(json.dumps(export))
    with pytest.raises(DataError, match="line 2, word 1: the label 2 is none of the 2 classes"):
        load_task("tokens", tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["O", 3], "word 2: the label is the number 3, and elsewhere in the file labels are names"),
        ([True, "O"], "word 1: the label is true; expected a name"),
        ([None, "O"], "word 1: the label is null"),
        ([0.0, 1.0], "word 1: the label is 0.0"),
        ([-100, 1], "word 1: the label -100 is none of the 2 classes"),
    ],
)
def test_labels_of_other_kinds_are_refused(tmp_path, labels, message):
    write(tmp_path / "train.jsonl", ("it was", labels))
    with pytest.raises(DataError, match=message):
        load_task("tokens", tmp_path, labels=("O", "B-X"))


def test_words_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"words": ["it", None], "labels": ["O", "O"]}))
    with pytest.raises(DataError, match="line 1, word 2: null where a word was expected"):
        load_task("tokens", tmp_path)
    path.write_text('{"words": ["it", "\\ud83d"], "labels": ["O", "O"]}')
    with pytest.raises(DataError, match="word 2 holds half a character"):
        load_task("tokens", tmp_path)


def test_sentences_without_words_are_passed_over(tmp_path):
    write(tmp_path / "train.jsonl", ("", []), ("it was", ["O", "B-X"]))
    assert len(load_task("tokens", tmp_path).sentences("train")) == 1
    write(tmp_path / "train.jsonl", ("", []))
    with pytest.raises(DataError, match="holds no sentences"):
        load_task("tokens", tmp_path)


def test_other_white_space_than_tabs_and_spaces_is_part_of_a_word(tmp_path):
    content = "EU\tB-ORG\n10\u00a0000\tO\n\u3000\tO\nNew York \tB-LOC\n\n"
    (tmp_path / "train.conll").write_text(content, encoding="utf-8")
    (sentence,) = load_task("tokens", tmp_path).sentences("train")
    assert sentence.words == ("EU", "10\u00a0000", "\u3000", "New York")
    (tmp_path / "train.conll").write_text("10\u00a0000  CD O\n \u00a0\nEU NN B-X \n", encoding="utf-8")
    assert [s.words for s in load_task("tokens", tmp_path).sentences("train")] == [("10\u00a0000",), ("EU",)]


def test_comments_before_a_sentence_are_none_of_its_words(tmp_path):
    content = "# sent_id = 1 a\nit\tO\n#\tO\n\n# text\twith a tab\tand more\nis\tO\n"
    (tmp_path / "train.conll").write_text(content)
    assert [s.words for s in load_task("tokens", tmp_path).sentences("train")] == [("it", "#"), ("is",)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("it O\nNew York B-LOC\nis O\n", "line 2: 3 columns where most lines have 2: New York B-LOC"),
        ("it\tO\n\tO\n", "line 2: the word is empty"),
        ("it\tO\nis\t\n", "line 2: 'is' has no label"),
    ],
)
def test_a_line_with_other_columns_is_named(tmp_path, content, message):
    (tmp_path / "train.conll").write_text(content)
    with pytest.raises(DataError, match=message):
        load_task("tokens", tmp_path)


def test_words_that_a_model_does_not_see_count_as_outside_and_are_said(tmp_path, tokenizer, caplog):
    write(tmp_path / "train.jsonl", ("john \u200b paris it was red", ["B-P", "O", "B-L", "O", "O", "B-C"]))
    task = load_task("tokens", tmp_path)
    tokenizer.normalizer = BertNormalizer()  # which leaves nothing of a zero-width space
    (feature,) = task.features("train", tokenizer, max_length=4)
    assert caplog.messages == [
        "tokens, train: of 6 words 3 are behind the maximum length of 4 tokens and 1 have no token; they are "
        "not trained, and count as predicted 'O'"
    ]
    right = answers([feature], task, [list(feature["_labels"])])
    assert task.predictions("train", [feature], right)[0][1] == ["B-P", "O", "B-L", "O", "O", "O"]
    scores = task.score("train", [feature], right)
    assert (scores["precision"], scores["recall"]) == (100.0, pytest.approx(200 / 3))


def test_the_line_about_the_task_names_the_scheme_and_what_is_outside(tmp_path):
    for labels, scheme in (
        (["O", "B-X", "I-X"], "IOB2, 'O' is outside"),
        (["O", "I-X", "I-X"], "IOB1, 'O' is outside"),
        (["OUT", "B-X", "I-Y"], "IOB, 'OUT' is outside"),
        (["_", "B-X", "E-X"], "BIOES, '_' is outside"),
        (["O", "B-X", "L-X"], "BILOU, 'O' is outside"),
        (["O", "B-X", "M-X"], "BMES, 'O' is outside"),
        (["O", "X", "Y"], "plain, 'O' is outside"),
        (["NN", "VB", "NN"], "plain, no label is outside, every word counts"),
    ):
        write(tmp_path / "train.jsonl", ("it was red", labels))
        assert load_task("tokens", tmp_path).describe().endswith(f"scheme {scheme}")


def test_labels_that_make_no_entities_are_judged_by_accuracy(tmp_path):
    write(tmp_path / "train.jsonl", ("it was", ["PRON", "VERB"]))
    assert load_task("tokens", tmp_path).metric == "accuracy"
    write(tmp_path / "train.jsonl", ("it was", ["O", "VERB"]))
    assert load_task("tokens", tmp_path).metric == "f1"


def test_answers_are_read_by_the_rows_of_the_model(tmp_path, tokenizer):
    write(tmp_path / "train.jsonl", ("it was", ["O", "B-X"]))
    task = load_task("tokens", tmp_path).for_head(("B-X", "B-Y", "O"))
    features = task.features("train", tokenizer)
    assert features[0]["labels"][1:3] == [2, 0]
    logits = np.eye(3, dtype=np.float32)[[0, 2, 1, 0]]
    assert task.predictions("train", features, [{"logits": logits}])[0][1] == ["O", "B-Y"]


@pytest.mark.parametrize(
    ("labels", "spelled"),
    [
        (["o", "b-per"], ["o", "b-per", "i-per", "b-LOC"]),
        (["O", "B_PER"], ["O", "B_PER", "I_PER", "B_LOC"]),
        (["O", "PER-B"], ["O", "PER-B", "PER-I", "LOC-B"]),
        (["O", "B-per"], ["O", "B-per", "I-per", "B-LOC"]),
        (["O", "B-PER"], ["O", "B-PER", "I-PER", "B-LOC"]),
    ],
)
def test_tags_that_only_the_model_has_are_read_like_those_of_the_data(labels, spelled):
    """An I-PER behind a b-per goes on with it, and is of its kind."""
    task = TokenClassification("tokens", {"dev": [Sentence(1, ("x", "y"), tuple(labels))]}, labels)
    assert list(task.for_head([*labels, "I-PER", "B-LOC"]).classes) == spelled
    tags = [task.tagging.read(name) for name in spelled]
    assert tags[2].kind == tags[1].kind and tags[2].prefix == "I" and tags[3].prefix == "B"
