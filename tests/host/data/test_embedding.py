"""Texts and pairs for embedders."""

import gzip
import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.data.embedding import EMBEDDING, Prompts

PROMPTS = Prompts({"query": "find ", "passage": "read "})


@pytest.fixture
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "find", "read", *"abcdefgh"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


@pytest.fixture
def write(tmp_path):
    def write(name, lines):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path

    return write


def scored(write, name="dev.tsv"):
    return write(name, ["sentence1\tsentence2\tscore", "a\tb\t5.0", "c\td\t4.0", "e\tf\t1.0", 'g "\ta\t0.5'])


def texts_of(task, split, tokenizer):
    return [feature["_key"].text for feature in task.features(split, tokenizer)]


def test_texts_come_from_lines_tables_and_pairs_every_one_once(write, tokenizer, tmp_path):
    write("train.txt", ["a b", "", "  c ", "a b"])
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "d"}).encode()))
    task = load_task("embedding", scored(write))
    assert task.splits == ("train", "dev", "test")
    assert texts_of(task, "train", tokenizer) == ["a b", "c"]
    assert texts_of(task, "dev", tokenizer) == ["a", "b", "c", "d", "e", "f", 'g "']
    assert texts_of(task, "test", tokenizer) == ["d"]
    assert task.describe() == "embedding: 3 texts in train, 4 scored pairs in dev, 1 texts in test"


def test_a_single_file_gives_a_tenth_to_dev(write):
    folder = write("corpus.txt", [f"text {number}" for number in range(40)])
    task = load_task("embedding", folder / "corpus.txt")
    assert [len(task.examples(split)) for split in ("train", "dev")] == [36, 4]


def test_a_corpus_of_one_line_is_refused(write):
    folder = write("corpus.txt", ["only this"])
    with pytest.raises(UsageError, match="the train split has 1 row"):
        load_task("embedding", folder / "corpus.txt")


def test_an_empty_corpus_is_refused(write):
    folder = write("train.txt", ["", " "])
    with pytest.raises(DataError, match="holds no text"):
        load_task("embedding", folder)


def test_columns_and_the_score_can_be_named(write, tokenizer):
    folder = write("dev.csv", ["left,right,near,text", "a,b,0.1,x", "c,d,0.9,y"])
    task = load_task("embedding", folder, text_columns=["left", "right"], label_column="near")
    assert texts_of(task, "dev", tokenizer) == ["a", "b", "c", "d"]
    assert [row.label for row in task.examples("dev")] == [0.1, 0.9]
    assert texts_of(load_task("embedding", folder), "dev", tokenizer) == ["x", "y"]


def test_columns_that_are_not_there_are_named_with_those_that_are(write):
    folder = write("dev.csv", ["left,right", "a,b"])
    with pytest.raises(DataError, match="no column is known to hold texts; there are left, right"):
        load_task("embedding", folder)
    with pytest.raises(DataError, match="no column 'near'; there are left, right"):
        load_task("embedding", folder, text_columns=["left", "right"], label_column="near")
    folder = write("dev.csv", ["left,right,near", "a,b,much"])
    with pytest.raises(DataError, match="line 2: column 'near' holds 'much'; expected a number"):
        load_task("embedding", folder, text_columns=["left", "right"], label_column="near")


def answers_of(vectors):
    return [{EMBEDDING: np.array(vector, np.float32)} for vector in vectors]


def test_scores_are_correlated_and_alike_pairs_are_found(write, tokenizer):
    task = load_task("embedding", scored(write))
    features = task.features("dev", tokenizer)
    vectors = {
        "a": [1, 0],
        "b": [0.9, 0.1],
        "c": [0, 1],
        "d": [0.3, 1],
        "e": [1, 0.2],
        "f": [-1, 0.1],
        'g "': [-1, -1],
    }
    answers = answers_of(vectors[feature["_key"].text] for feature in features)
    found = task.score("dev", features, answers)
    # Cosines fall in the order of the scores but for the last two, which change places.
    assert found["spearman"] == pytest.approx(80.0)
    # Of the two pairs with 4 or more, `b` is the nearest to `a`, and `d` to `c`.
    assert (found["recall_at_1"], found["mrr"]) == (100.0, 100.0)
    vectors["e"] = [0.995, 0.05]
    answers = answers_of(vectors[feature["_key"].text] for feature in features)
    found = task.score("dev", features, answers)
    assert (found["recall_at_1"], found["mrr"]) == (50.0, 75.0)


def test_pairs_without_scores_are_found_and_those_with_classes_are_not(write, tokenizer):
    folder = write("dev.tsv", ["query\tpassage", "a\tb", "c\td"])
    task = load_task("embedding", folder)
    features = task.features("dev", tokenizer)
    answers = answers_of([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    assert task.score("dev", features, answers) == {"recall_at_1": 100.0, "mrr": 100.0}
    assert not task.scores("dev")
    folder = write("dev.tsv", ["question\tsentence\tlabel", "a\tb\tentailment", "c\td\tnot_entailment"])
    task = load_task("embedding", folder)
    assert task.score("dev", task.features("dev", tokenizer), answers) == {}


def test_pairs_with_a_text_left_out_by_the_limit_do_not_count(write, tokenizer):
    task = load_task("embedding", scored(write))
    features = task.features("dev", tokenizer, limit=1)
    assert [feature["_key"].text for feature in features] == ["a", "b"]
    assert task.score("dev", features, answers_of([[1, 0], [0, 1]])) == {"recall_at_1": 100.0, "mrr": 100.0}


def test_similarities_are_the_models(write, tokenizer):
    folder = write("dev.tsv", ["query\tpassage", "a\tb", "c\td"])
    task = load_task("embedding", folder).for_embedder(Prompts({}, similarity="dot"), "model")
    features = task.features("dev", tokenizer)
    # By direction `b` is the nearest to `a`; the product is larger with the long `d`.
    answers = answers_of([[1, 0], [1, 0], [1, 1], [5, 5]])
    assert task.score("dev", features, answers)["recall_at_1"] == 50.0


def test_embeddings_are_compared_with_those_of_another_model(write):
    task = load_task("embedding", write("dev.txt", ["a", "b", "c"]))
    theirs = answers_of([[1, 0], [1, 1], [0, 1]])
    found = task.compare(answers_of([[2, 0], [1, 1], [1, 0]]), theirs)
    assert found["mean_cosine"] == pytest.approx(100 * 2 / 3)
    assert found["least_cosine"] == pytest.approx(0.0, abs=1e-6)
    assert found["same_nearest"] == pytest.approx(100 / 3)
    assert "mean_cosine" not in task.compare(answers_of([[1], [1], [1]]), theirs)


def test_prompts_come_before_texts_by_their_side(write, tokenizer):
    folder = write("dev.tsv", ["query\tpassage", "a\tb", "b\ta"])
    write("train.txt", ["a", "b", "c"])

    def tokens(task, split):
        return [
            " ".join(map(tokenizer.id_to_token, feature["input_ids"][1:-1]))
            for feature in task.features(split, tokenizer)
        ]

    task = load_task("embedding", folder, prompt_names=["query", "passage"]).for_embedder(PROMPTS, "model")
    assert tokens(task, "dev") == ["find a", "read b", "find b", "read a"]
    assert tokens(task, "train") == ["find a", "read b", "find c"]
    task = load_task("embedding", folder, prompt_names=["query"]).for_embedder(PROMPTS, "model")
    assert tokens(task, "dev") == ["find a", "find b"]
    task = load_task("embedding", folder).for_embedder(PROMPTS._replace(default="passage"), "model")
    assert tokens(task, "dev") == ["read a", "read b"]
    assert tokens(load_task("embedding", folder).for_embedder(PROMPTS, "model"), "dev") == ["a", "b"]


def test_tokens_of_a_prompt_that_is_not_pooled_are_counted(write, tokenizer):
    folder = write("dev.txt", ["a b"])
    task = load_task("embedding", folder, prompt_names=["query"])
    (feature,) = task.for_embedder(PROMPTS._replace(pooled=False), "model").features("dev", tokenizer)
    assert feature["prompt_tokens"] == 2  # [CLS] find
    (feature,) = task.for_embedder(PROMPTS, "model").features("dev", tokenizer)
    assert "prompt_tokens" not in feature


def test_a_prompt_that_a_model_lacks_is_refused(write):
    folder = write("dev.txt", ["a"])
    task = load_task("embedding", folder, prompt_names=["document"])
    with pytest.raises(UsageError, match="model has no prompt 'document'; it has query, passage"):
        task.for_embedder(PROMPTS, "model")
    with pytest.raises(UsageError, match="names 3 prompts"):
        load_task("embedding", folder, prompt_names=["a", "b", "c"])


def test_other_tasks_have_no_prompts(write):
    with pytest.raises(UsageError, match="task 'text' has no --prompt-name"):
        load_task("text", write("train.txt", ["a"]), prompt_names=["query"])
