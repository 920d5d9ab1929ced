"""Measure the speed-ups over other engines: random-weight models, each engine in its own process, in turns.

    python -m tools.bench.baselines --models MODELS                          # 80 % 4x1 at 32, 128, 384 tokens
    python -m tools.bench.baselines --models MODELS --cases all              # all: docs/results/baselines.md
    python -m tools.bench.baselines --models MODELS --cases all --resume     # those not measured yet
    python -m tools.bench.baselines --models MODELS --cases base-90-4x1-128  # measure one again

What a case found is written at once to MODELS/measured/CASE.json, and what all cases found to
docs/results/NAME.json, NAME.md and two plots: a campaign can be stopped at any time and repeated in parts.
The bundles (tools.bench.models) are kept for the next run. The measuring itself is that of
obert_edge.benchmark; the cases are in tools/bench/baseline_cases.py.

Needs: a quiet machine, and the packages of the baselines (pip install 'obert-edge[baselines,openvino]').
Takes: 4 minutes for the default cases, 11 for all of them at --duration 3, and a few more to make the
bundles.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

from obert_edge.device.bench.baselines import expand_baselines
from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.comparison import Comparison
from obert_edge.device.bench.interference import INTERFERENCE_LIMIT
from obert_edge.device.bench.report import Report
from obert_edge.errors import UsageError
from obert_edge.files import atomic_file
from tools import command_line
from tools.bench.baseline_cases import CASES, DEFAULT_CASES, Case
from tools.bench.baseline_page import markdown, plots
from tools.bench.models import ensure_bundle
from tools.machine import speed_facts

ROOT = Path(__file__).resolve().parent.parent.parent
CPUID_MASK = Path(__file__).with_name("cpuid_mask.c")
CPUINFO = Path("/proc/cpuinfo")
#: How each engine is set up, as the page says it.
FLAGS = {
    "onnxruntime": "ORT_ENABLE_ALL, intra_op_num_threads as given, inter_op_num_threads 1, CPU provider",
    "litert": "XNNPACK (the default delegate), num_threads as given, one fixed shape",
    "openvino": "one stream, INFERENCE_NUM_THREADS as given, latency hint, float32 hint, one fixed shape",
    "AVX2 forced for every engine": (
        "CPUID shows no AVX-512 and no VNNI to any process (tools/bench/cpuid_mask.c)"
    ),
    "int8 of onnxruntime": "weights per output channel, activations dynamic per tensor",
    "int8 of litert": "FULLY_CONNECTED alone, static, weights per output channel",
    "int8 of openvino": "linears alone, static, FakeQuantize as NNCF writes it, weights per output channel",
}


def baselines_of(case: Case, options: argparse.Namespace) -> List[Union[str, Comparison]]:
    """The baselines of a case: those of its goals as objects, those for comparison by name."""
    needed = {goal.baseline for goal in case.goals}
    found: List[Union[str, Comparison]] = []
    for wanted in case.baselines:
        if wanted.label in needed:
            bundle = None if wanted.spec is None else ensure_bundle(options.models, wanted.spec)
            found.append(Comparison(wanted.engine, bundle=bundle, threads=wanted.threads, name=wanted.label))
        elif options.baselines is None:
            found.append(wanted.engine)
    return [*found, *(options.baselines or [])]


def run(case: Case, options: argparse.Namespace) -> Report:
    """Measure one case.

    Raises:
        UsageError: the case asks for a CPU with AVX2 alone, and this machine cannot show one.
    """

    def tell(what: str, done: int, total: int) -> None:
        print(f"\r{case.name}: {what} {done}/{total}".ljust(90), end="", file=sys.stderr, flush=True)

    bundle = ensure_bundle(options.models, case.spec)
    with avx2_cpu(options.models) if case.avx2_cpu else contextlib.nullcontext():
        report = benchmark(
            bundle,
            batch_size=case.batch_size,
            sequence_length=case.sequence_length,
            lengths=case.lengths,
            threads=options.threads,
            implementation=case.implementation,
            baselines=installed(baselines_of(case, options)),
            duration=case.seconds or options.duration,
            rounds=min(options.rounds, case.rounds or options.rounds),
            warmup=1 if case.rounds else 2,
            progress=tell,
        )
    print("\r" + " " * 90 + "\r", end="", file=sys.stderr)
    if case.avx2_cpu and report.engine.implementation != "avx2":
        raise UsageError(
            f"the engine runs {report.engine.implementation} kernels where CPUID should show AVX2 alone",
            hint="LD_PRELOAD did not reach the measured process: run it without a wrapper that clears it",
        )
    # Results are published: the bundle's folder on this machine is left out.
    return replace(report, bundle={**report.bundle, "path": bundle.name})


@contextlib.contextmanager
def avx2_cpu(folder: Path) -> Iterator[None]:
    """Within this context, new processes see a CPU with AVX2 and without AVX-512 and VNNI.

    Args:
        folder: an existing folder for the compiled library.

    Raises:
        UsageError: this machine cannot make CPUID fault.
    """
    flags = CPUINFO.read_text().split() if CPUINFO.exists() else []
    if "cpuid_fault" not in flags or "avx2" not in flags:
        raise UsageError(
            "/proc/cpuinfo shows no cpuid_fault or no avx2: CPUID cannot be masked here",
            hint="leave out the case base-80-4x1-128-avx2-cpu",
        )
    library = folder.resolve() / "cpuid_mask.so"
    compiler = [sys.executable, "-P", "-m", "ziglang", "cc"]  # -P: not a module of the working directory
    subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(CPUID_MASK)], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"]


def installed(named: Sequence[Union[str, Comparison]]) -> List[Union[str, Comparison]]:
    """Leave out the baselines for comparison whose package is not installed; those of goals must run."""
    modules = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino"}

    def there(name: Union[str, Comparison]) -> bool:
        return (
            isinstance(name, Comparison) or importlib.util.find_spec(modules[name.split("-")[0]]) is not None
        )

    return [name for name in named if there(name)]


def measure(case: Case, options: argparse.Namespace, command: str) -> Dict[str, Any]:
    """Measure a case, and write what was found to its file in one step, so that it is never half there."""
    begin = time.monotonic()
    report = run(case, options)
    result = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": speed_facts(),
        "model": asdict(case.spec),
        "interference_above": INTERFERENCE_LIMIT,
        "wall_seconds": round(time.monotonic() - begin, 1),
        "report": report.to_dict(),
    }
    part(case.name, options).parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(part(case.name, options)) as path:
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(report.to_text(plain=True), "\n")
    return result


def part(name: str, options: argparse.Namespace) -> Path:
    """The file that keeps what a case found."""
    folder: Path = options.models / "measured"
    return folder / f"{name}.json"


def merge(options: argparse.Namespace) -> Dict[str, Any]:
    """What all cases measured so far found, in the order of :data:`CASES`: the content of the JSON file."""
    found = {name: part(name, options) for name in CASES if part(name, options).exists()}
    cases = {name: json.loads(path.read_text()) for name, path in found.items()}
    seconds = sum(result["wall_seconds"] for result in cases.values())
    heading = {"heading": options.heading} if options.heading else {}
    return {**heading, "wall_seconds": round(seconds, 1), "flags": FLAGS, "cases": cases}


def write(document: Dict[str, Any], options: argparse.Namespace) -> None:
    """Write the JSON file, the page and the plots."""
    pictures = {f"{options.name}_{name}": svg for name, svg in plots(document).items()}
    texts = {
        f"{options.name}.json": json.dumps(document, indent=1) + "\n",
        f"{options.name}.md": markdown(document, list(pictures)),
        **pictures,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_file(options.output / name) as path:
            path.write_text(text)
    print(f"wrote {', '.join(str(options.output / name) for name in texts)}", file=sys.stderr)


def parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.bench.baselines", __doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder to keep bundles and results in")
    parser.add_argument(
        "--cases", nargs="*", default=DEFAULT_CASES, metavar="CASE", help="all, or of: " + " ".join(CASES)
    )
    parser.add_argument("--resume", action="store_true", help="leave out cases that were measured already")
    parser.add_argument(
        "--baselines",
        nargs="*",
        help="what to compare with, in place of the cases' own; the baselines of goals always run",
    )
    parser.add_argument("--threads", type=int, help="of every engine (default: all CPUs)")
    parser.add_argument(
        "--duration", type=float, default=6.0, help="seconds per engine and case (default: 6)"
    )
    parser.add_argument("--rounds", type=int, default=12, help="turns of every engine (default: 12)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results", help="folder for the pages")
    parser.add_argument("--name", default="baselines", help="of the files written (default: baselines)")
    parser.add_argument("--heading", help="of the page, for instance with the machine's name")
    options = parser.parse_args(arguments)
    if options.cases == ["all"]:
        options.cases = list(CASES)
    return options


def shown_command(options: argparse.Namespace) -> str:
    """The command that repeats the run, with MODELS in place of a folder of this machine."""
    cases = ["all"] if options.cases == list(CASES) else options.cases
    parts = ["python", "-m", "tools.bench.baselines", "--models", "MODELS", "--cases", *cases]
    if options.baselines is not None:
        parts += ["--baselines", *options.baselines]
    parts += ["--duration", f"{options.duration:g}", "--rounds", str(options.rounds), "--name", options.name]
    if options.heading:
        parts += ["--heading", options.heading]
    return shlex.join(parts if options.threads is None else [*parts, "--threads", str(options.threads)])


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure the cases and write the pages.

    Raises:
        UsageError: there is no such case or baseline, or nothing was measured.
    """
    options = parse(arguments)
    command = shown_command(options)
    for name in options.baselines or []:
        expand_baselines(name)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        raise UsageError(f"there is no case {unknown[0]!r}", hint=f"cases are {', '.join(CASES)}")
    options.models.mkdir(parents=True, exist_ok=True)
    for name in options.cases:
        if not (options.resume and part(name, options).exists()):
            measure(CASES[name], options, command)
            write(merge(options), options)
    if not any(part(name, options).exists() for name in CASES):
        raise UsageError("nothing was measured", hint="name cases to measure, for instance --cases all")
    write(merge(options), options)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
