"""A single file is divided, and rows of train are held out, by one rule for every task."""

from __future__ import annotations

import json

import pytest

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task

CONTEXTS = [f"john {number} lives in paris" for number in range(20)]


def conll(count):
    return "\n\n".join(f"john{number} B-PER\nlives O" for number in range(count)) + "\n"


def tagged(count):
    rows = [{"words": [f"john{number}", "lives"], "labels": ["B-PER", "O"]} for number in range(count)]
    return "\n".join(map(json.dumps, rows))


def questions(contexts):
    rows = [
        {
            "id": f"{number}-{turn}",
            "question": "who?",
            "context": context,
            "answers": {"text": ["john"], "answer_start": [0]},
        }
        for number, context in enumerate(contexts)
        for turn in range(3)
    ]
    return json.dumps(rows)


FILES = {
    "text": ("rows.jsonl", "\n".join(json.dumps({"text": f"t{n}", "label": n % 2}) for n in range(20))),
    "embedding": ("rows.txt", "\n".join(f"t{n}" for n in range(20))),
    "mlm": ("rows.txt", "\n".join(f"t{n}" for n in range(20))),
    "tokens": ("ner.jsonl", tagged(20)),
    "squad": ("train.json", questions(CONTEXTS)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_tenth_of_a_single_file_becomes_dev_and_rows_of_the_rest_tune(tmp_path, name):
    file, content = FILES[name]
    (tmp_path / file).write_text(content)
    task = load_task(name, tmp_path / file)
    each = 3 if name == "squad" else 1  # a paragraph stays together with its questions
    assert {split: len(task.rows(split)) for split in task.splits} == {"train": 18 * each, "dev": 2 * each}
    task = load_task(name, tmp_path / file, tune=4)
    sizes = {split: len(task.rows(split)) for split in task.splits}
    assert sizes == {"train": 14 * each, "dev": 2 * each, "tune": 4 * each}
    rows = [str(row) for split in task.splits for row in task.rows(split)]
    assert len(set(rows)) == 20 * each


@pytest.mark.parametrize("name", ["ner.conll", "ner.txt", "eng.train"])
def test_sentences_of_one_file_may_be_in_columns(tmp_path, name):
    (tmp_path / name).write_text(conll(20))
    task = load_task("tokens", tmp_path / name)
    assert task.splits == ("train", "dev")
    assert len(task.rows("dev")) == 2
    assert task.labels == ("O", "B-PER")


def test_sentences_of_the_same_words_stay_together(tmp_path):
    (tmp_path / "ner.conll").write_text((conll(20) + "\n") * 3)
    task = load_task("tokens", tmp_path / "ner.conll")
    held, kept = ({sentence.words for sentence in task.sentences(split)} for split in ("dev", "train"))
    assert not held & kept


def test_a_table_is_no_file_of_words(tmp_path):
    (tmp_path / "ner.csv").write_text("word,label\njohn,B-PER\n")
    with pytest.raises(DataError, match=r"ner.csv is a CSV; task tokens reads files of .conll") as error:
        load_task("tokens", tmp_path / "ner.csv")
    assert ".jsonl" in error.value.hint


@pytest.mark.parametrize("name", ["dev-v1.1.json", "val.json", "test.json"])
def test_a_file_of_questions_whose_name_says_that_it_is_there_to_be_scored_is_dev_whole(tmp_path, name):
    (tmp_path / name).write_text(questions(CONTEXTS))
    task = load_task("squad", tmp_path / name)
    assert task.splits == ("dev",)
    assert len(task.rows("dev")) == 60


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("tokens", "ner.conll", conll(1)),
        ("squad", "qa.json", questions(CONTEXTS[:1])),
        ("text", "rows.jsonl", '{"text": "a", "label": 1}'),
        ("embedding", "rows.txt", "a"),
    ],
)
def test_one_row_alone_cannot_be_divided(tmp_path, name, file, content):
    (tmp_path / file).write_text(content)
    with pytest.raises((UsageError, DataError)) as error:
        load_task(name, tmp_path / file)
    if name != "text":  # whose one label is refused first
        assert "has 1 row, and there is no other split" in error.value.message
        assert "a folder with files train and dev" in error.value.hint


@pytest.mark.parametrize("name", ["sst2", "mnli", "stsb"])
def test_a_file_is_no_folder_of_glue(tmp_path, name):
    (tmp_path / "x.csv").write_text("text,label\na,1\n")
    with pytest.raises(
        DataError, match=f"x.csv is a file; task {name} reads a folder with train.tsv"
    ) as error:
        load_task(name, tmp_path / "x.csv")
    assert "--task text" in error.value.hint


@pytest.mark.parametrize("name", ["tokens", "mlm"])
def test_a_task_of_files_does_not_take_a_set_of_the_hub_for_a_folder(name):
    with pytest.raises(UsageError, match=f"task '{name}' reads files, and hub:conll2003 is a data set of"):
        load_task(name, "hub:conll2003")


@pytest.mark.parametrize("name", FILES)
def test_a_split_tune_that_was_not_asked_for_is_said_to_come_from_tune(tmp_path, name):
    file, content = FILES[name]
    (tmp_path / file).write_text(content)
    with pytest.raises(UsageError, match="has no split 'tune' here; it has train, dev") as error:
        load_task(name, tmp_path / file).rows("tune")
    assert "--tune N (in a recipe `tune: N` below task)" in error.value.hint
