#!/usr/bin/env python3
"""The table of speed-ups over other engines: random-weight models, each engine in its own process, in turns.

    tools/bench/baselines.py --models /tmp/models                  # BERT-base, 80 % 4x1, lengths 32, 128, 384
    tools/bench/baselines.py --models /tmp/models --cases all      # every case: docs/results/baselines.md
    tools/bench/baselines.py --models /tmp/models --cases all --resume       # those not measured yet
    tools/bench/baselines.py --models /tmp/models --cases base-90-4x1-128    # measure one again

What one case found is written at once to DIR/measured/CASE.json in the models folder, and all of them
together to docs/results/NAME.json, NAME.md and two plots: a campaign can be stopped
at any time and repeated in parts. Bundles come from tools/bench_models and are kept for the next run. The
measuring itself is that of obert_edge.device.bench.benchmark; the cases are in tools/bench/baseline_cases.py.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from obert_edge.device.bench.baselines import expand_baselines
from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.comparison import Comparison
from obert_edge.device.bench.interference import INTERFERENCE_LIMIT
from obert_edge.device.bench.report import Report
from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.files import atomic_file
from obert_edge.host.compiler import build
from tools.bench.baseline_cases import CASES, DEFAULT_CASES, Case
from tools.bench.baseline_page import markdown, plots
from tools.bench.models import Spec, make_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
CPUID_MASK = Path(__file__).with_name("cpuid_mask.c")
CPUINFO = Path("/proc/cpuinfo")
FLAGS = {
    "onnxruntime": "ORT_ENABLE_ALL, intra_op_num_threads as given, inter_op_num_threads 1, CPU provider",
    "litert": "XNNPACK (the default delegate), num_threads as given, one fixed shape",
    "openvino": "one stream, INFERENCE_NUM_THREADS as given, latency hint, float32 hint, one fixed shape",
    "AVX2 forced for every engine": "CPUID shows no AVX-512 and no VNNI to any process (tools/bench/cpuid_mask.c)",
    "int8 of onnxruntime": "weights per output channel, activations dynamic per tensor",
    "int8 of litert": "FULLY_CONNECTED alone, static, weights per output channel",
    "int8 of openvino": "linears alone, static, FakeQuantize as NNCF writes it, weights per output channel",
}


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


def baselines(case: Case, options: argparse.Namespace) -> List[Any]:
    """Whom to measure beside ours: the peers of the goals must run, the others where they are installed."""
    needed = {goal.peer for goal in case.goals}
    found: List[Any] = []
    for peer in case.peers:
        if peer.label in needed:
            bundle = None if peer.spec is None else ensure_bundle(options.models, peer.spec)
            found.append(Comparison(peer.engine, bundle=bundle, threads=peer.threads, name=peer.label))
        elif options.baselines is None:
            found.append(peer.engine)
    return [*found, *(options.baselines or [])]


def run(case: Case, options: argparse.Namespace) -> Report:
    """Measure one case."""

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
            baselines=installed(baselines(case, options)),
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
    # Where the bundle lay on this machine is nobody's business.
    return replace(report, bundle={**report.bundle, "path": bundle.name})


@contextlib.contextmanager
def avx2_cpu(folder: Path) -> Iterator[None]:
    """Programs that begin meanwhile see a CPU with AVX2, without AVX-512 and VNNI.

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
    compiler = [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(CPUID_MASK)], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"]


def installed(named: List[Any]) -> List[Any]:
    """Without the baselines for comparison whose package is not there; baselines stay: they must run."""
    modules = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino"}

    def there(name: Any) -> bool:
        if isinstance(name, Comparison):
            return True
        return importlib.util.find_spec(modules[name.split("-")[0]]) is not None

    return [name for name in named if there(name)]


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
    return facts


def measure(case: Case, options: argparse.Namespace, command: str) -> Dict[str, Any]:
    """Measure a case and write down what was found, whole or not at all."""
    begin = time.monotonic()
    report = run(case, options)
    result = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
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
    """Where what a case found is kept."""
    folder: Path = options.models / "measured"
    return folder / f"{name}.json"


def merge(options: argparse.Namespace) -> Dict[str, Any]:
    """All cases measured so far, in the order of the table."""
    found = {name: part(name, options) for name in CASES if part(name, options).exists()}
    cases = {name: json.loads(path.read_text()) for name, path in found.items()}
    seconds = sum(result["wall_seconds"] for result in cases.values())
    return {"wall_seconds": round(seconds, 1), "flags": FLAGS, "cases": cases}


def write(document: Dict[str, Any], options: argparse.Namespace) -> None:
    """The JSON, the page and the plots."""
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


def parse(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, help="folder to keep bundles and results in")
    parser.add_argument(
        "--cases", nargs="*", default=DEFAULT_CASES, metavar="CASE", help="all, or of: " + " ".join(CASES)
    )
    parser.add_argument("--resume", action="store_true", help="leave out cases that were measured already")
    parser.add_argument(
        "--baselines", nargs="*", help="in place of the baselines for comparison; peers of goals always run"
    )
    parser.add_argument("--threads", type=int, help="of every engine; default: all CPUs")
    parser.add_argument("--duration", type=float, default=6.0, help="seconds per engine and case")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--name", default="peers", help="of the files written")
    options = parser.parse_args(arguments)
    if options.cases == ["all"]:
        options.cases = list(CASES)
    return options


def shown_command(options: argparse.Namespace) -> str:
    """The command that repeats the run, without folders of this machine."""
    cases = ["all"] if options.cases == list(CASES) else options.cases
    parts = ["tools/bench/baselines.py", "--models", "MODELS", "--cases", *cases]
    if options.baselines is not None:
        parts += ["--baselines", *options.baselines]
    parts += ["--duration", f"{options.duration:g}", "--rounds", str(options.rounds), "--name", options.name]
    return shlex.join(parts if options.threads is None else [*parts, "--threads", str(options.threads)])


def main() -> None:
    options = parse()
    command = shown_command(options)
    try:
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
    except ObertEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
