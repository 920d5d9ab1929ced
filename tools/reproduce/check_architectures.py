"""Check that every supported kind of checkpoint, made here with random sparse weights, builds and verifies.

    python -m tools.reproduce.check_architectures --models DIR     # what docs/results/architectures.md lacks
    python -m tools.reproduce.check_architectures --models DIR --only "Albert, classification, 12 x 768"
    python -m tools.reproduce.check_architectures --models DIR --again      # every row on this machine

Each row is a full-size checkpoint made by tools.bench.models, compiled for x86, and verified: its hashes, and
its embedded cases bit for bit on every implementation this CPU can run, on one thread and on all. A row is
written as soon as it is known, with the CPU and the day; rows of other machines stay, unless they are asked
for. Bundles stay in DIR for the next run. Ends with 1 where a bundle does not verify.

Needs: the host's packages (torch, transformers), 8 GB of memory and 12 GB of disk.
Takes: by estimate two minutes a row on two cores.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from obert_edge.device.runtime import machine
from obert_edge.files import atomic_file
from tools import command_line
from tools.markdown import table

ROOT = Path(__file__).resolve().parent.parent.parent
OUTPUT = ROOT / "docs" / "results" / "architectures.md"
#: By name of the row: the options of tools.bench.models that make the checkpoint.
CHECKPOINTS = {
    "Bert, question answering, 12 x 768": ["--task", "question-answering"],
    "Bert, classification, 12 x 768": [],
    "Bert, classification, 12 x 768, 1x4 blocks": ["--pattern", "1x4"],
    "Bert, classification, 12 x 768, 90 % unstructured": ["--pattern", "unstructured", "--sparsity", "0.9"],
    "Bert, classification, 3 x 768": ["--layers", "3"],
    "DistilBert, classification, 6 x 768": ["--architecture", "distilbert", "--layers", "6"],
    "Roberta, classification, 12 x 768": ["--architecture", "roberta"],
    "Electra, classification, 12 x 768": ["--architecture", "electra"],
    "TinyBERT shape, classification, 4 x 312": ["--shape", "tinybert"],
    "XLM-Roberta, classification, 12 x 768": ["--architecture", "xlm-roberta"],
    "Camembert, classification, 12 x 768": ["--architecture", "camembert"],
    "MPNet, encoder, 12 x 768": ["--architecture", "mpnet", "--task", "encoder"],
    "ModernBert, classification, 22 x 768": ["--architecture", "modernbert", "--shape", "modernbert-base"],
    "Deberta v3, classification, 12 x 768": ["--architecture", "deberta-v2", "--shape", "deberta-v3-base"],
    "NomicBert, encoder, 12 x 768": ["--architecture", "nomic_bert", "--task", "encoder"],
    "Gte, encoder, 12 x 768": ["--architecture", "gte", "--task", "encoder"],
    "Jina v3, encoder, 12 x 768": ["--architecture", "jina_embeddings_v3", "--task", "encoder"],
    "EuroBert, classification, 12 x 768": ["--architecture", "eurobert"],
    "Albert, classification, 12 x 768": ["--architecture", "albert"],
    "MobileBert, classification, 24 x 512": ["--architecture", "mobilebert", "--shape", "mobilebert"],
}


INTRODUCTION = [
    "# Every supported kind of checkpoint builds and verifies",
    "",
    "    python -m tools.reproduce.check_architectures --models DIR",
    "",
    "Random weights, 80 % 4x1 unless said, x86 target.",
    "`verify` reproduces the embedded cases bit for bit on each implementation, with 1 thread and 2.",
    "Which implementations these are depends on the CPU: one without AVX-512 runs scalar and avx2 alone.",
    "",
]
HEADERS = ["checkpoint", "bundle MB", "CPU", "day", "bit-equal implementations", "verify"]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Make what is missing, verify it, and write the page."""
    parser = command_line.parser("tools.reproduce.check_architectures", __doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder for the checkpoints and bundles")
    parser.add_argument("--only", action="append", choices=list(CHECKPOINTS), help="one row; repeatable")
    parser.add_argument("--again", action="store_true", help="also the rows that the page has")
    options = parser.parse_args(arguments)
    rows = read_rows(OUTPUT.read_text(encoding="utf-8")) if OUTPUT.is_file() else {}
    wanted = options.only or [name for name in CHECKPOINTS if options.again or name not in rows]
    failures = 0
    for name in wanted:
        rows[name] = check(name, options.models)
        failures += rows[name][-1] != OK
        print(", ".join(rows[name]), flush=True)
        with atomic_file(OUTPUT) as temporary:
            temporary.write_text(page(rows), encoding="utf-8")
    return 1 if failures else 0


#: The last cell of a row whose bundle verifies.
OK = "ok"


def check(name: str, models: Path) -> List[str]:
    """Make the checkpoint of a row and its bundle, where an earlier run did not, and verify it.

    Args:
        name: a key of :data:`CHECKPOINTS`.
        models: folder for the checkpoints and bundles.

    Returns:
        The cells of the row.
    """
    folder = models / name.lower().replace(" ", "-").replace(",", "").replace("%", "pc")
    bundle = folder / "model.oeb"
    if not bundle.is_file():
        # A process for each checkpoint gives the memory back before the next one is made.
        make = [sys.executable, "-m", "tools.bench.models", "--sparsity", "0.8", "--pattern", "4x1"]
        make += [*CHECKPOINTS[name], "--build", "x86", "--overwrite", "-o", str(folder.resolve())]
        subprocess.run(make, check=True, cwd=ROOT)
    verify = [sys.executable, "-m", "obert_edge.cli", "verify", str(bundle), "--json"]
    result = subprocess.run(verify, check=False, stdout=subprocess.PIPE)
    found = json.loads(result.stdout or "{}")
    ran = ", ".join(sorted({check["implementation"] for check in found.get("checks", [])}))
    verdict = OK if result.returncode == 0 else f"FAILED ({result.returncode})"
    today = datetime.date.today().isoformat()
    return [name, f"{bundle.stat().st_size / 1e6:.1f}", cpu(), today, ran, verdict]


def cpu() -> str:
    """The name of this CPU, and its features that decide which implementations run."""
    return f"{machine.cpu_model()} ({', '.join(machine.cpu_features())})"


def read_rows(text: str) -> Dict[str, List[str]]:
    """The rows of a page that :func:`page` wrote, by the name of their checkpoint."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    cells = [line.strip("|").split("|") for line in lines]
    return {row[0].strip(): [cell.strip() for cell in row] for row in cells}


def page(rows: Dict[str, List[str]]) -> str:
    """The page, with those of the rows whose checkpoint there is, in the order of :data:`CHECKPOINTS`."""
    known = [rows[name] for name in CHECKPOINTS if name in rows]
    return "\n".join([*INTRODUCTION, *table(HEADERS, known)]) + "\n"


if __name__ == "__main__":
    sys.exit(command_line.run(main))
