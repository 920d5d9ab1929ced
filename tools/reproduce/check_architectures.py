#!/usr/bin/env python3
"""Every supported kind of checkpoint, made locally with random sparse weights, builds and verifies.

    python tools/reproduce/check_architectures.py --models DIR     # writes docs/results/architectures.md

Each row is a full-size checkpoint made by tools/bench/models.py, compiled for x86, and verified: its
hashes, and its embedded cases bit for bit on every implementation this CPU can run, on one thread and
on all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "results" / "architectures.md"
#: What it is called, and the options of tools/bench/models.py that make it.
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, help="folder for the checkpoints and bundles")
    options = parser.parse_args()
    lines = [
        "# Every supported kind of checkpoint builds and verifies",
        "",
        "`python tools/reproduce/check_architectures.py --models DIR`: random weights, 80 % 4x1 unless",
        "said, x86 target.",
        "`verify` reproduces the embedded cases bit for bit on each implementation, with 1 thread and 2.",
        "",
        "| checkpoint | bundle MB | bit-equal implementations | verify |",
        "|---|---|---|---|",
    ]
    failures = 0
    for name, arguments in CHECKPOINTS.items():
        folder = options.models / name.lower().replace(" ", "-").replace(",", "").replace("%", "pc")
        bundle = folder / "model.oeb"
        if not bundle.is_file():
            make = [
                sys.executable,
                str(ROOT / "tools" / "bench_models.py"),
                "--sparsity",
                "0.8",
                "--pattern",
                "4x1",
            ]
            subprocess.run(
                [*make, *arguments, "--build", "x86", "--overwrite", "-o", str(folder)], check=True
            )
        verify = [sys.executable, "-m", "obert_edge.cli", "verify", str(bundle), "--json"]
        result = subprocess.run(verify, check=False, stdout=subprocess.PIPE)
        failures += result.returncode != 0
        found = json.loads(result.stdout or "{}")
        ran = ", ".join(sorted({check["implementation"] for check in found.get("checks", [])}))
        verdict = "ok" if result.returncode == 0 else f"FAILED ({result.returncode})"
        lines.append(f"| {name} | {bundle.stat().st_size / 1e6:.1f} | {ran} | {verdict} |")
        print(lines[-1], flush=True)
    OUTPUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
