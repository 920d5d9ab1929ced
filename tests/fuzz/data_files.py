"""Damaged data files: tables, CoNLL, SQuAD and plain text, as tasks read them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any, Dict, List, Tuple

from obert_edge.host.data import load_task
from tests.fuzz.loop import Target
from tests.fuzz.mutations import change_bytes, change_json, change_text

_ROWS = [{"text": f'the film {i} is good, "or" bad', "label": ("a", "b", "c")[i % 3]} for i in range(12)]
_LISTS = [{"text": f"film {i}", "label": [["x"], ["x", "y"], []][i % 3]} for i in range(9)]
_NUMBERS = [{"text": f"film {i}", "label": i / 2} for i in range(9)]
_QUESTIONS = [
    {
        "id": f"q{i}",
        "title": "t",
        "context": "anna lives in paris, and bob in new york",
        "question": "where?",
        "answers": {"text": ["paris"], "answer_start": [14]} if i % 2 else {"text": [], "answer_start": []},
    }
    for i in range(4)
]
_SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "anna lives in paris",
                    "qas": [
                        {"id": "1", "question": "where?", "answers": [{"text": "paris", "answer_start": 14}]},
                        {"id": "2", "question": "who?", "is_impossible": True, "answers": []},
                    ],
                }
            ],
        }
    ],
}
_WORDS = [
    {"tokens": ["anna", "lives", "in", "paris"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]} for _ in range(4)
]
_CONLL = (
    "-DOCSTART- -X- O O\n\nanna NNP B-NP B-PER\nlives VBZ B-VP O\n\nparis NNP B-NP B-LOC\n\nbob NN X B-PER\n"
)


def _table(rows: List[Dict[str, Any]], separator: str) -> bytes:
    quote = '"' if separator == "," else ""
    cells = [[str(value).replace('"', '""') for value in row.values()] for row in rows]
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in line) for line in cells]
    return "\n".join([separator.join(rows[0]), *lines, ""]).encode()


def _lines(rows: List[Dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


#: Task, name of the file, content, and options of the task.
_FILES: List[Tuple[str, str, bytes, Dict[str, Any]]] = [
    ("text", "train.csv", _table(_ROWS, ","), {}),
    ("text", "train.tsv", _table(_ROWS, "\t"), {}),
    ("text", "train.jsonl", _lines(_ROWS), {}),
    ("text", "train.json", json.dumps(_ROWS).encode(), {}),
    ("text", "train.jsonl", _lines(_LISTS), {}),
    ("text", "train.jsonl", _lines(_NUMBERS), {}),
    ("text", "train.jsonl", _lines(_NUMBERS), {"problem_type": "regression"}),
    ("text", "train.csv", _table(_ROWS, ","), {"needs_labels": False}),
    ("text", "train.csv", _table(_ROWS, ","), {"label_separator": ";"}),
    ("sst2", "train.tsv", b"sentence\tlabel\na good film\t1\na bad film\t0\n", {}),
    (
        "mrpc",
        "train.tsv",
        b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\ta b\tc d\n0\t2\t3\ta b\tc d\n",
        {},
    ),
    ("stsb", "train.tsv", b"sentence1\tsentence2\tscore\na b\tc d\t2.5\ne\tf\t0\n", {}),
    ("squad", "train.json", json.dumps(_SQUAD).encode(), {}),
    ("squad", "train.json", json.dumps(_QUESTIONS).encode(), {}),
    ("squad", "train.jsonl", _lines(_QUESTIONS), {}),
    ("tokens", "train.conll", _CONLL.encode(), {}),
    ("tokens", "train.jsonl", _lines(_WORDS), {}),
    ("tokens", "train.json", json.dumps(_WORDS).encode(), {}),
    ("tokens", "train.tsv", _CONLL.replace(" ", "\t").encode(), {}),
    ("mlm", "train.txt", b"the film is good\n\nanna lives in paris\n", {}),
]


class DataFiles(Target):
    """The files of every task."""

    name = "data"

    def prepare(self, folder: Path) -> None:
        self._folder = folder / "data"

    def attempt(self, random: Random) -> None:
        task, name, content, options = random.choice(_FILES)
        self._folder.mkdir(exist_ok=True)
        for left in self._folder.iterdir():
            left.unlink()
        damaged = self._damaged(name, content, random)
        if random.random() < 0.1:
            name, damaged = f"{name}.gz", gzip.compress(damaged)
            if random.random() < 0.5:
                damaged = change_bytes(damaged, random)
        (self._folder / name).write_bytes(damaged)
        if random.random() < 0.7:
            (self._folder / name.replace("train", "dev")).write_bytes(content)
        if task == "tokens" and random.random() < 0.2:
            info = {"features": {"ner_tags": {"feature": {"names": ["O", "B-PER", "B-LOC"]}}}}
            text = change_json(json.dumps(info).encode(), random)
            (self._folder / "dataset_info.json").write_bytes(text)
        whole = random.random() < 0.5 or task in ("sst2", "mrpc", "stsb")
        loaded = load_task(task, self._folder if whole else self._folder / name, **options)
        str(loaded.splits), str(loaded.labels)

    def _damaged(self, name: str, content: bytes, random: Random) -> bytes:
        if name.endswith(".json"):
            return change_json(content, random)
        if name.endswith(".jsonl"):
            lines = content.splitlines(keepends=True)
            at = random.randrange(len(lines))
            lines[at] = change_json(lines[at].strip(), random) + b"\n"
            return b"".join(lines)
        return change_text(content, random)
