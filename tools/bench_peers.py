#!/usr/bin/env python3
"""The table of speed-ups over other engines: random-weight models, each engine in its own process, in turns.

    tools/bench_peers.py --models /tmp/models                  # BERT-base, 80 % 4x1, lengths 32, 128, 384
    tools/bench_peers.py --models /tmp/models --cases all      # every case below
    tools/bench_peers.py --models /tmp/models --cases base-90-4x1-128 --rounds 30 --threads 1

Writes docs/results/NAME.json (everything measured) and docs/results/NAME.md (tables to read). Bundles come
from tools/bench_models and are kept in the models folder for the next run. The measuring itself is that of
obert_edge.runtime.benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from bench_models import SHAPES, Spec, make_checkpoint

from obert_edge.compiler import build
from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.files import atomic_file
from obert_edge.runtime.baselines import NAMES, expand_baselines
from obert_edge.runtime.benchmark import benchmark
from obert_edge.runtime.report import Measurement, Ratio, Report
from obert_edge.runtime.text_table import milliseconds

ROOT = Path(__file__).resolve().parent.parent


def _spec(shape: str, sparsity: float, pattern: str, layers: int = 0) -> Spec:
    usual_layers, hidden, heads, intermediate = SHAPES[shape]
    return Spec(
        layers=layers or usual_layers,
        hidden=hidden,
        heads=heads,
        intermediate=intermediate,
        sparsity=sparsity,
        pattern=pattern,
    )


@dataclass(frozen=True)
class Case:
    """One row of the table: a model, the shape of its input, and which of our kernels run.

    Attributes:
        target: the least speed-up to reach, by baseline.
    """

    name: str
    spec: Spec
    batch_size: int
    sequence_length: int
    target: Dict[str, float]
    implementation: Optional[str] = None


def _cases() -> List[Case]:
    fp32, int8, litert = "onnxruntime-fp32", "onnxruntime-int8", "litert-int8"
    base80, base90 = _spec("bert-base", 0.8, "4x1"), _spec("bert-base", 0.9, "4x1")
    return [
        Case("base-80-4x1-32", base80, 1, 32, {fp32: 8}),
        Case("base-80-4x1-128", base80, 1, 128, {fp32: 8}),
        Case("base-80-4x1-384", base80, 1, 384, {fp32: 6}),
        Case("base-90-4x1-128", base90, 1, 128, {fp32: 17}),
        Case("base-90-4x1-384", base90, 1, 384, {fp32: 10}),
        Case("base-80-1x4-128", _spec("bert-base", 0.8, "1x4"), 1, 128, {fp32: 9}),
        Case("base-90-unstructured-128", _spec("bert-base", 0.9, "unstructured"), 1, 128, {fp32: 10}),
        Case("base-80-4x1-16", base80, 1, 16, {fp32: 8}),
        Case("base-80-4x1-batch32-128", base80, 32, 128, {fp32: 11}),
        Case("base-90-4x1-batch32-128", base90, 32, 128, {fp32: 15}),
        Case("base-dense-128", _spec("bert-base", 0.0, "dense"), 1, 128, {int8: 1.4}),
        Case("base-80-4x1-128-avx2", base80, 1, 128, {fp32: 4}, "avx2"),
        Case("base-80-4x1-3layers-128", _spec("bert-base", 0.8, "4x1", 3), 1, 128, {}),
        Case("minilm-80-4x1-128", _spec("minilm-l6", 0.8, "4x1"), 1, 128, {litert: 2.5}),
        Case("tinybert-80-4x1-128", _spec("tinybert", 0.8, "4x1"), 1, 128, {}),
    ]


CASES = {case.name: case for case in _cases()}
#: The claims of the end-to-end path.
DEFAULT_CASES = ["base-80-4x1-32", "base-80-4x1-128", "base-80-4x1-384"]


def ensure_bundle(folder: Path, spec: Spec) -> Path:
    """The bundle of a random model; made when it is not there. Only the bundle is kept."""
    sparsity = "" if spec.pattern == "dense" else f"-{spec.sparsity:g}"
    path = folder / f"{spec.architecture}-{spec.layers}x{spec.hidden}-{spec.pattern}{sparsity}.oeb"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr)
        checkpoint = make_checkpoint(folder / path.stem, spec, overwrite=True)
        build(checkpoint, "x86", path)
        shutil.rmtree(checkpoint)
    return path


def run(case: Case, bundle: Path, options: argparse.Namespace) -> Report:
    """Measure one case."""

    def tell(what: str, done: int, total: int) -> None:
        print(f"\r{case.name}: {what} {done}/{total}".ljust(70), end="", file=sys.stderr, flush=True)

    report = benchmark(
        bundle,
        batch_size=case.batch_size,
        sequence_length=case.sequence_length,
        threads=options.threads,
        implementation=case.implementation,
        baselines=options.baselines,
        duration=options.duration,
        rounds=options.rounds,
        progress=tell,
    )
    print("\r" + " " * 70 + "\r", end="", file=sys.stderr)
    # Where the bundle lay on this machine is nobody's business.
    return replace(report, bundle={**report.bundle, "path": bundle.name})


def machine() -> Dict[str, str]:
    """What of the machine and the tools decides about speed, besides what every report says itself."""
    facts: Dict[str, str] = {}
    if shutil.which("lscpu"):
        shown = subprocess.run(
            ["lscpu"], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
        ).stdout
        wanted = (
            "Model name",
            "CPU(s)",
            "Thread(s) per core",
            "L1d cache",
            "L2 cache",
            "L3 cache",
            "Hypervisor vendor",
        )
        pairs = (line.partition(":")[::2] for line in shown.splitlines())
        facts.update({key.strip(): value.strip() for key, value in pairs if key.strip() in wanted})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts["memory"] = f"{memory / 2**30:.1f} GiB"
    facts["kernel"] = os.uname().release
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        facts["compiler"] = f"zig c++ (ziglang {importlib.metadata.version('ziglang')})"
    facts["load average before"] = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return facts


#: A load average above this means that something else ran; engines whose threads spin lose most by it.
BUSY = 0.7
FLAGS = {
    "onnxruntime": "ORT_ENABLE_ALL, intra_op_num_threads as given, inter_op_num_threads 1, CPU provider",
    "litert": "XNNPACK (the default delegate), num_threads as given, one fixed shape",
    "int8 of onnxruntime": "weights per output channel, activations dynamic per tensor",
    "int8 of litert": "FULLY_CONNECTED alone, static, weights per output channel",
}


def document(reports: Dict[str, Report], facts: Dict[str, str], command: str) -> Dict[str, Any]:
    """Everything, for JSON."""
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": facts,
        "flags": FLAGS,
        "cases": {
            name: {
                "model": asdict(CASES[name].spec),
                "target": CASES[name].target,
                "report": report.to_dict(),
            }
            for name, report in reports.items()
        },
    }


def markdown(reports: Dict[str, Report], facts: Dict[str, str], command: str) -> str:
    """The tables, for people."""
    first = next(iter(reports.values()))
    names = [name for name in NAMES if any(name in report.baselines for report in reports.values())]
    title = f"Speed against {', '.join(names)}" if names else "Speed"
    lines = [f"# {title}", "", f"    {command}", ""]
    load = facts["load average before"]
    if float(load.split()[0]) > BUSY:
        lines += [f"**The machine was busy (load average {load}): measure again before quoting this.**", ""]
    lines += [
        "Latency in ms: p50 (p90). Speed-up: median over rounds of the ratio within a round, with its 5th and"
    ]
    lines += [
        "95th percentile. Same token ids, same threads, each engine in its own process, taking turns.",
        "",
    ]
    lines += table(
        ["case", "batch x length", "threads", "obert-edge", *names],
        [
            [
                name,
                f"{report.batch_size} x {report.sequence_length}",
                str(report.threads),
                latency(report.engine),
                *(latency(report.baselines[peer]) if peer in report.baselines else "" for peer in names),
            ]
            for name, report in reports.items()
        ],
    )
    lines += ["", "Speed-up of obert-edge:", ""]
    lines += table(
        ["case", "kernels", *names],
        [
            [
                name,
                report.engine.implementation,
                *(speedup(name, peer, report.ratios.get(peer)) for peer in names),
            ]
            for name, report in reports.items()
        ],
    )
    lines += ["", "Load time in ms, peak memory in MB (of the whole process), file in MB:", ""]
    lines += table(
        ["case", "obert-edge", *names],
        [
            [
                name,
                footprint(report.engine),
                *(footprint(report.baselines[peer]) if peer in report.baselines else "" for peer in names),
            ]
            for name, report in reports.items()
        ],
    )
    lines += ["", "Machine and versions:", ""]
    packages = ", ".join(f"{name} {version}" for name, version in first.environment.packages.items())
    lines += [f"* {key}: {value}" for key, value in facts.items()]
    lines += [f"* CPU features: {' '.join(first.environment.features)}", f"* {first.environment.system}"]
    lines += [f"* Python {first.environment.python}, {packages}"]
    lines += [f"* {key}: {value}" for key, value in FLAGS.items() if key.split()[-1] in " ".join(names)]
    lines += [f"* not measured: {name}: {reason}" for name, reason in first.missing.items()]
    return "\n".join(lines) + "\n"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *rows)]


def latency(measured: Measurement) -> str:
    """p50 (p90)."""
    return f"{milliseconds(measured.latency_ms.p50)} ({milliseconds(measured.latency_ms.p90)})"


def speedup(case: str, peer: str, ratio: Optional[Ratio]) -> str:
    """The ratio, its spread, and the target where there is one."""
    if ratio is None:
        return ""
    target = CASES[case].target.get(peer)
    wanted = f", target {target:g}x: {'met' if ratio.median >= target else 'missed'}" if target else ""
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}){wanted}"


def footprint(measured: Measurement) -> str:
    """Load time, memory, file."""
    memory = f"{measured.peak_memory / 1e6:.0f}" if measured.peak_memory else "?"
    return f"{measured.load_ms:.0f} / {memory} / {measured.model_bytes / 1e6:.0f}"


def parse(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, help="folder to keep the bundles in")
    parser.add_argument(
        "--cases", nargs="+", default=DEFAULT_CASES, metavar="CASE", help="all, or of: " + " ".join(CASES)
    )
    parser.add_argument("--baselines", nargs="*", default=["onnxruntime", "litert"])
    parser.add_argument("--threads", type=int, help="of every engine; default: all CPUs")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds per engine and case")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--name", default="peers", help="of the two files written")
    options = parser.parse_args(arguments)
    if options.cases == ["all"]:
        options.cases = list(CASES)
    return options


def shown_command(options: argparse.Namespace) -> str:
    """The command that repeats the run, without folders of this machine."""
    parts = ["tools/bench_peers.py", "--models", "MODELS", "--cases", *options.cases]
    parts += ["--baselines", *options.baselines, "--duration", f"{options.duration:g}"]
    parts += ["--rounds", str(options.rounds), "--name", options.name]
    return shlex.join(parts if options.threads is None else [*parts, "--threads", str(options.threads)])


def main() -> None:
    options = parse()
    command = shown_command(options)
    facts = machine()
    reports: Dict[str, Report] = {}
    try:
        for name in options.baselines:
            expand_baselines(name)
        unknown = [name for name in options.cases if name not in CASES]
        if unknown:
            raise UsageError(f"there is no case {unknown[0]!r}", hint=f"cases are {', '.join(CASES)}")
        options.models.mkdir(parents=True, exist_ok=True)
        for name in options.cases:
            bundle = ensure_bundle(options.models, CASES[name].spec)
            reports[name] = run(CASES[name], bundle, options)
            print(reports[name].to_text(plain=True), "\n")
    except ObertEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    text = json.dumps(document(reports, facts, command), indent=1)
    with atomic_file(options.output / f"{options.name}.json") as path:
        path.write_text(text + "\n")
    with atomic_file(options.output / f"{options.name}.md") as path:
        path.write_text(markdown(reports, facts, command))
    print(f"wrote {options.output / options.name}.json and .md", file=sys.stderr)


if __name__ == "__main__":
    main()
