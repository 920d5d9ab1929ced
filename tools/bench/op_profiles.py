"""Profile the engine: for each kind of op its time and work, the bound it runs against, the part reached.

    python -m tools.bench.op_profiles --models MODELS                # 80 % and 90 % 4x1 at 128 and 384 tokens
    python -m tools.bench.op_profiles --models MODELS --threads 1 --output docs/results/profiles.md

The bundles are those of tools.bench.baselines and kept in the same folder; docs/reference/roofline.md says
what a bound is.

Needs: a quiet machine.
Takes: half a minute, and a minute more to make the two bundles.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from obert_edge.device.bench.benchmark import benchmark
from obert_edge.device.bench.report import Report
from obert_edge.device.roofline.profile import OpTime, Profile
from obert_edge.device.runtime import machine
from obert_edge.device.text_table import milliseconds
from obert_edge.files import atomic_file
from tools import command_line
from tools.bench.models import SHAPES, Spec, ensure_bundle
from tools.markdown import table

HEADERS = ["ops", "ms", "least", "share", "multiply-adds", "GMAC/s", "moved", "bound", "part of the bound"]


def section(title: str, report: Report) -> List[str]:
    """A section of the page: a heading, how long the whole run took, and a row for each kind of op."""
    profile: Optional[Profile] = report.profile
    assert profile is not None
    bound = sum(op.bound_ms for op in profile.ops)
    least = sum(op.least_ms for op in profile.ops)
    threads = f"{report.threads} thread{'s' * (report.threads != 1)}"
    lines = [
        f"## {title}, {report.batch_size} x {report.sequence_length}, {threads}",
        "",
        f"* p50 {milliseconds(report.latency_ms.p50)} ms, p99 {milliseconds(report.latency_ms.p99)}",
        f"* all ops at their least {milliseconds(least)} ms, at their bounds {milliseconds(bound)} ms",
    ]
    if report.interference is not None:
        repeat = "**Measure this again:** " if report.interference.significant else ""
        lines.append(f"* {repeat}{report.interference.to_text()}")
    return [*lines, "", *table(HEADERS, [cells(op) for op in profile.kinds() if op.share >= 0.001]), ""]


def cells(op: OpTime) -> List[str]:
    """The row of one kind of op."""
    return [
        op.name,
        milliseconds(op.ms),
        milliseconds(op.least_ms),
        f"{100 * op.share:.1f} %",
        f"{op.multiply_adds / 1e6:.1f} M" if op.multiply_adds else "",
        f"{op.gmacs:.1f}" if op.multiply_adds else "",
        f"{op.bytes_moved / 1e6:.2f} MB",
        op.bound,
        f"{100 * op.reached:.0f} %" if op.bound else "",
    ]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Profile the models, print the tables and perhaps write the page."""
    parser = command_line.parser("tools.bench.op_profiles", __doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder to keep bundles in")
    parser.add_argument("--shape", choices=list(SHAPES), default="bert-base", help="(default: bert-base)")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.8, 0.9], help="(default: 0.8 0.9)")
    parser.add_argument("--pattern", default="4x1", help="(default: 4x1)")
    parser.add_argument(
        "--sequence-length", type=int, nargs="+", default=[128, 384], help="tokens (default: 128 384)"
    )
    parser.add_argument("--implementation", help="of the kernels (default: the best that runs here)")
    parser.add_argument("--threads", type=int, help="(default: all CPUs)")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds for each table (default: 3)")
    parser.add_argument(
        "--output", type=Path, help="also write a page, for instance docs/results/profiles.md"
    )
    parser.add_argument("--heading", default="Profiles", help="of the page (default: Profiles)")
    options = parser.parse_args(arguments)
    options.models.mkdir(parents=True, exist_ok=True)
    lengths = " ".join(map(str, options.sequence_length))
    shown = ["python", "-m", "tools.bench.op_profiles", "--models", "MODELS", "--shape", options.shape]
    shown += ["--sparsity", *(f"{value:g}" for value in options.sparsity)]
    shown += ["--pattern", options.pattern, "--sequence-length", *lengths.split()]
    for name in ("implementation", "threads", "duration", "heading"):
        value = getattr(options, name)
        if value != parser.get_default(name):
            shown += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    lines = [f"# {options.heading}", "", f"    {shlex.join(shown)}", ""]
    lines += [f"{machine.cpu_model()}; what a bound is: [the roofline](../reference/roofline.md).", ""]
    for sparsity in options.sparsity:
        bundle = ensure_bundle(
            options.models, Spec.of_shape(options.shape, sparsity=sparsity, pattern=options.pattern)
        )
        for length in options.sequence_length:
            report = benchmark(
                bundle,
                sequence_length=length,
                threads=options.threads,
                implementation=options.implementation,
                duration=options.duration,
                profile=True,
            )
            title = f"{options.shape}, {100 * sparsity:.0f} % {options.pattern}"
            if options.implementation:
                title += f", {options.implementation}"
            found = section(title, report)
            print("\n".join(found))
            lines += found
    if options.output:
        with atomic_file(options.output) as path:
            path.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
