"""A task is found by its name."""

from __future__ import annotations

import json
import sys

import pytest

from obert_edge.errors import DataError, UsageError
from obert_edge.host.data import load_task
from obert_edge.host.data.embedding import Prompts

#: SQuAD with one question.
PARAGRAPH = {
    "data": [
        {
            "title": "film",
            "paragraphs": [
                {
                    "context": "a bad film",
                    "qas": [
                        {"id": "1", "question": "what?", "answers": [{"text": "film", "answer_start": 6}]}
                    ],
                }
            ],
        }
    ]
}


def test_an_unknown_task_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match="no task 'sst-2'") as error:
        load_task("sst-2", tmp_path)
    assert "sst2" in error.value.hint


def test_a_hub_set_without_the_datasets_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="not installed") as error:
        load_task("sst2", "hub:")
    assert "pip install" in error.value.hint


OPTIONS = [
    {"text_columns": ["body"]},
    {"label_column": "kind"},
    {"labels": ["a", "b"]},
    {"problem_type": "regression"},
    {"label_separator": ";"},
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (name, options)
        for name in ("sst2", "squad", "tokens", "mlm")
        for options in OPTIONS
        if name != "tokens" or "labels" not in options  # the numbers of tags have names
    ],
)
def test_an_option_that_the_task_does_not_have_is_refused_and_not_passed_over(tmp_path, name, options):
    flag = (
        "--label" if "labels" in options else f"--{next(iter(options)).replace('_', '-').removesuffix('s')}"
    )
    with pytest.raises(UsageError, match=f"task '{name}' has no {flag}:"):
        load_task(name, tmp_path, **options)


def test_a_hint_of_a_glue_task_names_no_option_that_it_lacks(tmp_path):
    (tmp_path / "dev.tsv").write_text("text\tlabel\na\t1\n")
    with pytest.raises(DataError, match="no column 'sentence'; there are text, label") as error:
        load_task("sst2", tmp_path)
    assert "task text" in error.value.hint


def test_class_names_of_a_model_can_be_mapped_only_where_there_are_classes(sst2):
    assert load_task("sst2", sst2, label_map=["pos=positive"]).label_map == ("pos=positive",)
    (sst2 / "train.txt").write_text("a text\n")
    with pytest.raises(UsageError, match="task 'mlm' has no classes"):
        load_task("mlm", sst2, label_map=["pos=positive"])


def test_the_identity_of_a_task_follows_the_rows_to_train_on_and_not_their_place(tmp_path):
    data = {
        "sst2": ("train.tsv", "sentence\tlabel\ngood\t1\nbad\t0\n"),
        "text": ("train.csv", "text,label\ngood,1\nbad,0\n"),
        "tokens": ("train.conll", "good B-X\nfilm O\n\nbad O\n"),
        "mlm": ("train.txt", "a good film\na bad film\n"),
        "embedding": ("train.txt", "a good film\na bad film\n"),
        "squad": ("train.json", json.dumps(PARAGRAPH)),
    }
    for name, (file, text) in data.items():
        identities = []
        for folder, content in (("one", text), ("moved", text), ("other", text.replace("bad", "dull"))):
            (tmp_path / name / folder).mkdir(parents=True)
            for split in ("train", "dev"):
                (tmp_path / name / folder / file.replace("train", split)).write_text(content)
            identities.append(load_task(name, tmp_path / name / folder).identity())
        one, moved, other = identities
        assert json.loads(json.dumps(one)) == one, name
        assert moved == one, name
        assert other != one, name


def test_the_identity_of_an_embedders_task_follows_the_prompts(tmp_path):
    (tmp_path / "train.txt").write_text("a good film\na bad film\n")
    plain, told = (load_task("embedding", tmp_path, prompt_names=names) for names in ((), ("query",)))
    assert plain.identity() != told.identity()
    prompts = [Prompts({"query": text}) for text in ("query: ", "Q: ")]
    fitted = [told.for_embedder(one, "the model").identity() for one in prompts]
    assert fitted[0] != fitted[1]


def test_the_texts_of_a_split_are_what_a_model_reads_without_what_it_learns(tmp_path):
    files = {
        "text": ("train.csv", "text,label\na film,1\nbad,0\n", ["a film", "bad"]),
        "sst2": ("train.tsv", "sentence\tlabel\ngood\t1\nbad\t0\n", ["good", "bad"]),
        "rte": ("train.tsv", "sentence1\tsentence2\tlabel\na\tb\tentailment\n", [("a", "b")]),
        "tokens": ("train.conll", "good B-X\nfilm O\n\nbad O\n", ["good film", "bad"]),
        "mlm": ("train.txt", "a good film\na bad film\n", ["a good film", "a bad film"]),
        "embedding": ("train.csv", "sentence1,sentence2\na,b\nc,d\n", ["a", "b", "c", "d"]),
        "squad": ("train.json", json.dumps(PARAGRAPH), [("what?", "a bad film")]),
    }
    for name, (file, content, expected) in files.items():
        folder = tmp_path / name
        folder.mkdir()
        for split in ("train", "dev"):
            (folder / file.replace("train", split)).write_text(content)
        assert load_task(name, folder).texts("train", limit=256) == expected, name


def test_few_texts_of_many_rows_are_spread_evenly(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.txt").write_text("\n".join(f"t{n}" for n in range(10)))
    assert load_task("mlm", tmp_path).texts("train", limit=3) == ["t0", "t3", "t6"]
