"""Compare every architecture's speed with ONNX Runtime, and a layer's cost with that of BERT-base.

    python -m tools.bench.architecture_speeds --models MODELS               # all; docs/results
    python -m tools.bench.architecture_speeds --models MODELS --resume      # those not measured yet
    python -m tools.bench.architecture_speeds --models MODELS --only mpnet  # measure one again

A model of each family's base size, random weights, dense and 80 % sparse in blocks of 4x1. Beside each run
ONNX Runtime in FP32 and INT8 with the same model, and our engine with BERT-base of the same sparsity, every
engine in a process of its own, in turns. What a model showed is written at once to MODELS/measured.

Needs: a quiet machine, and the packages of the baselines (pip install 'obert-edge[host,baselines]').
Takes: about a minute a row, and half a minute to make each model.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.comparison import OUR_ENGINE, Comparison
from obert_edge.files import atomic_file
from obert_edge.host.architectures import ARCHITECTURES
from tools import command_line
from tools.bench.models import BASE_SHAPES, Spec, ensure_bundle
from tools.machine import speed_facts
from tools.markdown import speedup, table

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = "BERT-base"
WEIGHTS = ("dense", "4x1")
BASELINES = ("onnxruntime-fp32", "onnxruntime-int8")

INTRODUCTION = """# The speed of every architecture

    {command}

{machine}, {threads} threads, 1 x {length} tokens, kernels {implementation}.
Random weights of each family's base size.
Times are medians; a ratio has its 5th and 95th percentile over {rounds} rounds.
Every engine runs in a process of its own, in turns with the others.
The last column is the time of a run by layer, over that of BERT-base of the same sparsity in the same rounds.
ONNX Runtime is {onnxruntime}, INT8 with weights by output channel and dynamic activations.
"""
HEADERS = ["architecture", "weights", "layers", "ms", "over ONNX Runtime FP32", "over INT8", "MB"]
HEADERS += ["a layer over BERT-base's"]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure, and write the page."""
    parser = command_line.parser("tools.bench.architecture_speeds", __doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder to keep bundles and results in")
    parser.add_argument("--only", action="append", choices=list(BASE_SHAPES), help="one family; repeatable")
    parser.add_argument("--weights", action="append", choices=WEIGHTS, help="one of both; repeatable")
    parser.add_argument("--resume", action="store_true", help="leave out what was measured already")
    parser.add_argument("--length", type=int, default=128, help="tokens of the sequence (default: 128)")
    parser.add_argument("--threads", type=int, help="of every engine (default: all CPUs)")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds per engine and row (default: 4)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of every engine (default: 8)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results", help="folder for the page")
    options = parser.parse_args(arguments)
    options.models.mkdir(parents=True, exist_ok=True)
    for architecture in options.only or BASE_SHAPES:
        for pattern in options.weights or WEIGHTS:
            part = _part(architecture, pattern, options)
            if not (options.resume and part.exists()):
                measure(architecture, pattern, options)
    write(options)


def measure(architecture: str, pattern: str, options: argparse.Namespace) -> None:
    """Measure one model, and keep what was found."""
    # Other engines have no graph with products of relative positions.
    compared = ARCHITECTURES[architecture].relative_positions is None
    wanted: List[Union[str, Comparison]] = list(BASELINES) if compared else []
    if architecture != "bert":
        bert = ensure_bundle(options.models, spec_of("bert", pattern))
        wanted.append(Comparison(OUR_ENGINE, bundle=bert, name=REFERENCE))
    spec = spec_of(architecture, pattern)
    bundle = ensure_bundle(options.models, spec)
    report = benchmark(
        bundle,
        sequence_length=options.length,
        threads=options.threads,
        baselines=wanted,
        duration=options.duration,
        rounds=options.rounds,
    )
    print(report.to_text(plain=True), "\n", flush=True)
    # Results are published: the bundle's folder on this machine is left out.
    report = replace(report, bundle={**report.bundle, "path": bundle.name})
    result = {"spec": asdict(spec), "machine": speed_facts(), "report": report.to_dict()}
    part = _part(architecture, pattern, options)
    part.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(part) as file:
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def spec_of(architecture: str, pattern: str) -> Spec:
    """The random model of a family's base size."""
    return Spec.of_shape(
        BASE_SHAPES[architecture],
        architecture=architecture,
        sparsity=0.0 if pattern == "dense" else 0.8,
        pattern=pattern,
        # BERT's, so that both of a comparison take the same tokens.
        vocabulary=30522,
    )


def write(options: argparse.Namespace) -> None:
    """Write the JSON file and the page of everything measured so far."""
    found: Dict[str, Any] = {}
    for architecture in BASE_SHAPES:
        for pattern in WEIGHTS:
            part = _part(architecture, pattern, options)
            if part.exists():
                found[f"{architecture} {pattern}"] = json.loads(part.read_text(encoding="utf-8"))
    command = ["python", "-m", "tools.bench.architecture_speeds", "--models", "MODELS"]
    command += ["--length", str(options.length), "--duration", f"{options.duration:g}"]
    command += ["--rounds", str(options.rounds)]
    for option, named in (("--weights", options.weights), ("--only", options.only)):
        command += [word for value in named or [] for word in (option, value)]
    document = {"command": shlex.join(command), "length": options.length, "rows": found}
    text = page(document)
    options.output.mkdir(parents=True, exist_ok=True)
    name = "architecture_speeds" + ("" if options.length == 128 else f"_{options.length}")
    with atomic_file(options.output / f"{name}.json") as file:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with atomic_file(options.output / f"{name}.md") as file:
        file.write_text(text, encoding="utf-8")


def page(document: Dict[str, Any]) -> str:
    """The page of the JSON file."""
    rows = document["rows"]
    first = next(iter(rows.values()))
    facts = {
        "command": document["command"],
        "machine": first["report"]["environment"]["cpu"],
        "threads": first["report"]["threads"],
        "length": document["length"],
        "implementation": first["report"]["engine"]["implementation"],
        "rounds": first["report"]["ratios"][BASELINES[0]]["rounds"],
        "onnxruntime": first["report"]["environment"]["packages"][BASELINES[0]],
    }
    return (
        "\n".join([INTRODUCTION.format(**facts), *table(HEADERS, [_row(row) for row in rows.values()])])
        + "\n"
    )


def _row(result: Dict[str, Any]) -> List[str]:
    spec, report = result["spec"], result["report"]
    ratios = report["ratios"]
    weights = (
        "dense"
        if spec["pattern"] == "dense"
        else f"{spec['sparsity']:.0%} {spec['pattern']}".replace("%", " %")
    )
    layer = ""
    if REFERENCE in ratios:
        # The ratio is BERT-base's time over this model's, for twelve layers and for this model's.
        per_layer = SPEC_LAYERS / spec["layers"]
        low, median, high = (per_layer / ratios[REFERENCE][key] for key in ("high", "median", "low"))
        layer = f"{median:.2f} ({low:.2f} to {high:.2f})"
    return [
        spec["architecture"],
        weights,
        str(spec["layers"]),
        f"{report['engine']['latency_ms']['p50']:.1f}",
        *(_ratio(ratios, name, report["missing"]) for name in BASELINES),
        f"{report['engine']['model_bytes'] / 1e6:.0f}",
        layer,
    ]


def _ratio(ratios: Dict[str, Any], name: str, missing: Dict[str, str]) -> str:
    if name not in ratios:
        return "not run" if name in missing else "no graph"
    return speedup(ratios[name])


def _part(architecture: str, pattern: str, options: argparse.Namespace) -> Path:
    folder: Path = options.models / "measured"
    return folder / f"{architecture}-{pattern}-{options.length}.json"


#: Layers of the model that layers are compared with.
SPEC_LAYERS = spec_of("bert", "dense").layers


if __name__ == "__main__":
    sys.exit(command_line.run(main))
