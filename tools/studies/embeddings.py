r"""Measure what a bundle gains and loses with smaller word embeddings: four bits, a trimmed vocabulary, both.

    python -m tools.studies.embeddings --model QUANTIZED_DIR --task sst2 --data SST2_DIR --work DIR \
        --output sst2.json
    python -m tools.studies.embeddings ... --corpus more.txt.gz --reference DENSE_DIR

QUANTIZED_DIR is what `obert-edge quantize` wrote; nothing is trained here. Every bundle is scored on all dev
rows and compared with the INT8 bundle row by row: how many answers changed, how many became right or wrong
(exact McNemar test, two-sided). The vocabulary is that of the train split, and with --corpus that of these
files too. Bundles stay in DIR; a table in Markdown is written beside the JSON.

Needs: the host's packages (torch, transformers).
Takes: by estimate a minute for SST-2's 872 rows and MiniLM-L6, some ten for SQuAD.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from obert_edge.device.commands.describe import describe
from obert_edge.errors import UsageError
from obert_edge.files import atomic_file
from obert_edge.host.compiler import build
from obert_edge.host.data import Task, load_task
from obert_edge.host.data.classification import SequenceClassification
from obert_edge.host.data.metrics import exact_match
from obert_edge.host.data.question_answering import QuestionAnswering
from obert_edge.host.stages import trim_vocabulary
from obert_edge.host.stages.evaluation import answer
from tools import command_line
from tools.studies.rows import mcnemar

SPLIT = "dev"
#: Whether the answer is right, by the example's id.
Marks = Dict[str, bool]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Build and score every variant, and write the files."""
    parser = command_line.parser("tools.studies.embeddings", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="quantized folder")
    parser.add_argument("--task", required=True, help="a GLUE task, text or squad")
    parser.add_argument("--data", required=True, help="folder with the task's files")
    parser.add_argument("--work", type=Path, required=True, help="folder for trimmed models and bundles")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write, and .md beside it")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="more texts; repeatable")
    parser.add_argument("--reference", type=Path, help="dense FP32 folder, scored beside the bundles")
    parser.add_argument("--target", default="x86", help="of the bundles; it must run here (default: x86)")
    parser.add_argument("--threads", type=int, help="(default: all CPUs)")
    options = parser.parse_args(arguments)
    task = load_task(options.task, options.data)
    content: Dict[str, Any] = {"task": task.name, "split": SPLIT, "rows": []}
    first: Optional[Tuple[Dict[str, Any], Marks]] = None
    for name, path, about in variants(options, task):
        row, predicted, marks = scored(path, task, options.threads)
        row = {"name": name, **about, **row}
        if path.is_file():
            first = first or (predicted, marks)
            row.update(paired(first, (predicted, marks)))
        content["rows"].append(row)
        print(line(row), flush=True)
    with atomic_file(options.output) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with atomic_file(options.output.with_suffix(".md")) as file:
        file.write_text("\n".join([*HEADER, *map(line, content["rows"])]) + "\n", encoding="utf-8")


def variants(options: argparse.Namespace, task: Task) -> List[Tuple[str, Path, Dict[str, Any]]]:
    """Name, bundle (or dense folder) and further facts of every variant; the INT8 bundle comes first."""
    models: List[Tuple[str, Path, Dict[str, Any]]] = [("", options.model, {})]
    for name, corpus in (("train", []), ("train and more", options.corpus)):
        if name == "train" or corpus:
            folder = options.work / f"vocabulary-{name.replace(' ', '-')}"
            report = trim_vocabulary(options.model, folder, task=task, corpus=corpus, overwrite=True)
            models.append((f", vocabulary of {name}", folder, {"vocabulary": report.figures.to_dict()}))
    found = []
    for name, folder, about in models:
        for embeddings in ("int8", "int4"):
            path = options.work / f"{folder.name if name else 'whole'}-{embeddings}.oeb"
            build(folder, options.target, path, embeddings=embeddings)
            found.append((f"{embeddings.upper()}{name}", path, about))
    if options.reference is not None:
        found.append(("dense FP32 (PyTorch)", options.reference, {}))
    return found


def scored(path: Path, task: Task, threads: Optional[int]) -> Tuple[Dict[str, Any], Dict[str, Any], Marks]:
    """Size and metrics of a model, its predictions by example, and which of them are right."""
    task, features, answers, _ = answer(path, task, SPLIT, threads=threads)
    predicted = dict(task.predictions(SPLIT, features, answers))
    marks = right(task, predicted)
    n, share = len(marks), sum(marks.values()) / len(marks)
    row: Dict[str, Any] = {
        "n": n,
        "metrics": task.score(SPLIT, features, answers),
        "right_percent": 100 * share,
        "standard_error": 100 * math.sqrt(share * (1 - share) / n),
    }
    if path.is_file():
        _, facts = describe(path, plain=True)
        row.update(bytes=facts["bytes"], part_bytes=facts["part_bytes"], pieces=facts["model"]["vocabulary"])
    return row, predicted, marks


def right(task: Task, predicted: Dict[str, Any]) -> Marks:
    """Which examples are answered exactly right.

    Raises:
        UsageError: the task is neither a classification nor question answering.
    """
    if isinstance(task, QuestionAnswering):
        accepted = {question.id: question.answers for question in task.questions(SPLIT)}
        return {
            key: any(exact_match(text, one) == 1 for one in accepted[key]) for key, text in predicted.items()
        }
    if isinstance(task, SequenceClassification) and not task.regression:
        truth = {example.id: task.labels[int(example.label or 0)] for example in task.examples(SPLIT)}
        return {key: label == truth[key] for key, label in predicted.items()}
    raise UsageError(f"answers of the task {task.name!r} are not right or wrong", hint="name another task")


def paired(first: Tuple[Dict[str, Any], Marks], other: Tuple[Dict[str, Any], Marks]) -> Dict[str, Any]:
    """Compare the answers of ``other`` with those of ``first``, example by example, in percent."""
    answers, marks = first
    others, other_marks = other
    same = sum(others[key] == value for key, value in answers.items())
    gained = sum(other_marks[key] and not value for key, value in marks.items())
    lost = sum(value and not other_marks[key] for key, value in marks.items())
    n = len(marks)
    spread = math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return {
        "agreement": 100 * same / n,
        "gained": gained,
        "lost": lost,
        "difference": 100 * (gained - lost) / n,
        "difference_standard_error": 100 * spread,
        "p": mcnemar(gained, lost),
    }


HEADER = [
    "| word embeddings | pieces | file | embeddings | tokenizer | metrics | changed answers | right now / "
    "wrong now | difference | p |",
    "|---|---|---|---|---|---|---|---|---|---|",
]


def line(row: Dict[str, Any]) -> str:
    """A row of the table."""
    metrics = ", ".join(f"{key} {value:.2f}" for key, value in row["metrics"].items())
    cells = [row["name"]]
    if "bytes" in row:
        parts = row["part_bytes"]
        sizes = (row["bytes"], parts["embeddings"], parts["tokenizer"])
        cells += [str(row["pieces"]), *(f"{size / 1e6:.2f} MB" for size in sizes), metrics]
        cells += [
            f"{row['n'] - round(row['agreement'] * row['n'] / 100)} of {row['n']}",
            f"{row['gained']} / {row['lost']}",
            f"{row['difference']:+.2f} ± {row['difference_standard_error']:.2f}",
            f"{row['p']:.2g}",
        ]
    else:
        cells += ["", "", "", "", metrics, "", "", "", ""]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
