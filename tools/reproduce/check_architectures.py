"""Check that every supported kind of checkpoint, made here with random sparse weights, builds and verifies.

    python -m tools.reproduce.check_architectures --models DIR     # writes docs/results/architectures.md

Each row is a full-size checkpoint made by tools.bench.models, compiled for x86, and verified: its hashes, and
its embedded cases bit for bit on every implementation this CPU can run, on one thread and on all. Bundles
stay in DIR for the next run. Ends with 1 where a bundle does not verify.

Needs: the host's packages (torch, transformers) and 5 GB of disk.
Takes: by estimate ten minutes on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Optional, Sequence

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
}


INTRODUCTION = [
    "# Every supported kind of checkpoint builds and verifies",
    "",
    "    python -m tools.reproduce.check_architectures --models DIR",
    "",
    "Random weights, 80 % 4x1 unless said, x86 target.",
    "`verify` reproduces the embedded cases bit for bit on each implementation, with 1 thread and 2.",
    "",
]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Make what is missing, verify all of it, and write the page."""
    parser = command_line.parser("tools.reproduce.check_architectures", __doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder for the checkpoints and bundles")
    options = parser.parse_args(arguments)
    rows = []
    failures = 0
    for name, differing in CHECKPOINTS.items():
        folder = options.models / name.lower().replace(" ", "-").replace(",", "").replace("%", "pc")
        bundle = folder / "model.oeb"
        if not bundle.is_file():
            # A process for each checkpoint gives the memory back before the next one is made.
            make = [sys.executable, "-m", "tools.bench.models", "--sparsity", "0.8", "--pattern", "4x1"]
            make += [*differing, "--build", "x86", "--overwrite", "-o", str(folder.resolve())]
            subprocess.run(make, check=True, cwd=ROOT)
        verify = [sys.executable, "-m", "obert_edge.cli", "verify", str(bundle), "--json"]
        result = subprocess.run(verify, check=False, stdout=subprocess.PIPE)
        failures += result.returncode != 0
        found = json.loads(result.stdout or "{}")
        ran = ", ".join(sorted({check["implementation"] for check in found.get("checks", [])}))
        verdict = "ok" if result.returncode == 0 else f"FAILED ({result.returncode})"
        rows.append([name, f"{bundle.stat().st_size / 1e6:.1f}", ran, verdict])
        print(", ".join(rows[-1]), flush=True)
    headers = ["checkpoint", "bundle MB", "bit-equal implementations", "verify"]
    with atomic_file(OUTPUT) as temporary:
        temporary.write_text("\n".join([*INTRODUCTION, *table(headers, rows)]) + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
