#!/usr/bin/env python3
"""Instructions that one inference executes on ARM: ours against ONNX Runtime and LiteRT, counted under QEMU.

    tools/emulation/count_instructions.py [--output docs/results/arm_instructions.md] [--work DIR] [--runs 3]

The engines' own aarch64 wheels run one model (MiniLM-L6's shape, random weights, 80 % of the 4x1 blocks
zero) on emulated Cortex-A53, A72 and A76 and on QEMU's "max", with one thread. A plugin of QEMU
(instruction_counter.c) counts; the program marks the beginning and the end of every inference by a system
call, so importing, loading and the first inference are not in the numbers. Counts are exact. They are not
times: instructions differ in cost, and memory does not appear. Needs a C compiler and Debian (its packages
are unpacked into a cache folder).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from obert_edge.device.bench.baselines import get_baseline
from obert_edge.files import atomic_file
from obert_edge.host.compiler import build
from tests.emulation.debian import UnavailableError, unpacked
from tests.emulation.emulated import MACHINES, Emulated, Machine, site_packages
from tools.bench import models as bench_models

SOURCE = Path(__file__).with_name("instruction_counter.c")
OURS = "obert-edge"
#: Of ours: name, pattern, sparsity. The baselines get the first; they compute every zero.
MODELS = (("80 % 4x1", "4x1", 0.8), ("90 % 4x1", "4x1", 0.9), ("dense", "dense", 0.0))
BASELINES = ("onnxruntime-int8", "litert-int8")
ENGINES = {"onnxruntime": "ONNX Runtime", "ai-edge-litert": "LiteRT"}
#: Raspberry Pis 3 to 5; a core with i8mm and nothing newer; everything QEMU has.
CORES = (*MACHINES[:3], dataclasses.replace(MACHINES[3], name="i8mm", cpu="max,sve=off,sme=off"), MACHINES[3])
#: getppid on 64-bit ARM (asm-generic/unistd.h): a call that no engine makes.
MARKER = 173
_HELPERS = (
    "flatbuffers",
    "protobuf",
    "ml_dtypes",
    "backports.strenum",
    "typing-extensions",
    "tqdm",
    "packaging",
)

#: Runs engines in the emulated Python, one after the other. Arguments: a bundle (for its runner), the jobs as
#: JSON ([engine, what it loads]), the sequence length, the number of inferences. Prints what ours run.
GUEST = """
import json, os, sys
from pathlib import Path
bundle, jobs, length, runs = sys.argv[1:]
sys.path.insert(0, bundle)
import numpy as np
from obert_edge.device.runtime.session import load
from obert_edge.device.bench.baselines import get_baseline
ids = np.arange(int(length))[None] % 97 + 5
ones, zeros = np.ones_like(ids), np.zeros_like(ids)
kernels = []
for engine, artifact in json.loads(jobs):
    if engine == "obert-edge":
        session = load(artifact, threads=1)
        run = lambda: session.run(input_ids=ids)["logits"]
        kernels.append(session.implementation)
    else:
        baseline = get_baseline(engine).load(Path(artifact), 1)
        run = lambda: baseline(ids, ones, zeros)[0]
        kernels.append("")
    first = run()
    for _ in range(int(runs)):
        os.getppid()
        again = run()
        os.getppid()
        assert np.array_equal(first, again) and np.isfinite(first).all()
print(json.dumps(kernels))
"""


#: Label, engine, what it loads.
Job = Tuple[str, str, Path]


@dataclass(frozen=True)
class Count:
    """What one engine executed on one core.

    Args:
        kernels: of ours: what runs there.
        instructions: of each inference.
    """

    kernels: str
    instructions: Tuple[int, ...]

    @property
    def millions(self) -> float:
        """Median."""
        return sorted(self.instructions)[len(self.instructions) // 2] / 1e6

    @property
    def spread(self) -> float:
        """Largest less smallest, relative to the median."""
        return (max(self.instructions) - min(self.instructions)) / 1e6 / self.millions


class Counter:
    """A QEMU that counts instructions.

    Debian's ``qemu-user-static`` cannot load plugins, its ``qemu-user`` can; it runs with its own libraries.

    Args:
        folder: for the compiled plugin and what it writes.
        source: of the plugin.

    Raises:
        UnavailableError: the package cannot be had, or there is no C compiler.
    """

    def __init__(self, folder: Path, source: Path = SOURCE) -> None:
        self._folder = folder
        root = unpacked(["qemu-user"], closure=True)
        loader = next(iter(sorted(root.glob("lib*/ld-linux*.so.*"))), None)
        if loader is None:
            raise UnavailableError(f"{root} has no dynamic loader")
        found = (path.parent for kind in ("lib", "usr/lib") for path in root.glob(f"{kind}/*/lib*.so*"))
        paths = ":".join(sorted({str(path) for path in found}))
        self._qemu = [str(loader), "--library-path", paths, str(root / "usr" / "bin" / "qemu-aarch64")]
        said = subprocess.run([*self._qemu, "--version"], capture_output=True, text=True, check=True).stdout
        release = re.search(r"version (\d+)[^\n]*", said)
        if release is None:
            raise UnavailableError(f"this is no QEMU: {said[:100]}")
        #: As QEMU says it.
        self.version = release[0]
        self._plugin = folder / f"{source.stem}.so"
        # Plugins of version 1 load up to QEMU 8, of version 2 from 9 on (its include/qemu/qemu-plugin.h).
        flags = ["-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"]
        flags.append(f"-DPLUGIN_VERSION={1 if int(release[1]) < 9 else 2}")
        try:
            subprocess.run(["cc", *flags, str(source), "-o", str(self._plugin)], check=True)
        except FileNotFoundError as error:
            raise UnavailableError(f"there is no C compiler here: {error}") from error

    def count(
        self, machine: Machine, jobs: Sequence[Job], runner: Path, packages: Path, length: int, runs: int
    ) -> Dict[str, Count]:
        """Count the inferences of engines, by their labels.

        Args:
            machine: to emulate.
            jobs: label, engine (``obert-edge`` or a baseline's name), what it loads.
            runner: a bundle whose code the machine can import.
            packages: the baselines' wheels.
            length: tokens.
            runs: inferences counted, after one that is not.
        """
        listed = [[engine, str(artifact)] for _, engine, artifact in jobs]
        lines, kernels = self.marks(machine, [runner, json.dumps(listed), length, runs], packages)
        if len(lines) != 2 * runs * len(jobs):
            sys.exit(f"on {machine.cpu}: {len(lines)} marks, expected {2 * runs * len(jobs)}")
        marks = [line[0] for line in lines]
        taken = [end - begin for begin, end in zip(marks[::2], marks[1::2])]
        return {
            label: Count(kernels[i], tuple(taken[i * runs : (i + 1) * runs]))
            for i, (label, _, _) in enumerate(jobs)
        }

    def marks(
        self,
        machine: Machine,
        arguments: Sequence[object],
        packages: Optional[Path] = None,
        *,
        program: str = GUEST,
        settings: str = "",
    ) -> Tuple[List[List[int]], List[str]]:
        """Run a Python program there.

        Args:
            machine: to emulate.
            arguments: of the program.
            packages: for it to import.
            program: its text; the last line it prints is a JSON list of names.
            settings: of the plugin, as ``,name=value``.

        Returns:
            The numbers of each line that the plugin wrote, one a marker; and the names.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            counts, guest = folder / "counts", folder / "guest.py"
            plugin = f"{self._plugin},marker={MARKER},output={counts}{settings}"
            emulated = Emulated(machine, folder / "machine", [*self._qemu, "-plugin", plugin])
            guest.write_text(program)
            done = emulated.run(guest, *arguments, packages=packages, timeout=3600)
            if done.returncode:
                sys.exit(
                    f"on {machine.cpu} Python ended with {done.returncode}: {done.stderr.strip()[-1000:]}"
                )
            marks = [[int(number) for number in line.split()] for line in counts.read_text().splitlines()]
        return marks, json.loads(done.stdout.splitlines()[-1])


def prepare(work: Path, length: int) -> Tuple[Dict[str, Path], Dict[str, Path]]:
    """Our bundles by model, and the baselines' models of the first of them; what is there already is kept."""
    bundles, artifacts = {}, {}
    for name, pattern, sparsity in MODELS:
        folder = work / f"minilm-{pattern}-{sparsity:g}"
        if not folder.is_dir():
            layers, hidden, heads, intermediate = bench_models.SHAPES["minilm-l6"]
            bench_models.make_checkpoint(
                folder,
                bench_models.Spec(
                    layers=layers, hidden=hidden, heads=heads, intermediate=intermediate,
                    pattern=pattern, sparsity=sparsity,
                ),
            )  # fmt: skip
        bundles[name] = build(folder, "arm64", work / f"{folder.name}.oeb")
    for name in BASELINES:
        folder = work / "baselines"
        folder.mkdir(exist_ok=True)
        bundle = bundles[MODELS[0][0]]
        if (folder / name).is_dir():
            artifacts[name] = folder / name
        else:
            artifacts[name] = get_baseline(name).prepare(bundle, folder, batch_size=1, sequence_length=length)
    return bundles, artifacts


def page(counts: Dict[str, Dict[str, Count]], versions: Sequence[str], length: int, runs: int) -> str:
    """The results page. ``counts``: by machine and model or baseline."""
    names = [name for name, _, _ in MODELS]
    spread = max(count.spread for row in counts.values() for count in row.values())
    text = f"""# Instructions per inference on ARM

Written by `tools/emulation/count_instructions.py`: MiniLM-L6's shape (6 layers, 384 channels), random weights, 1 x
{length} tokens, one thread, n = {runs} inferences of each after one that is not counted (largest spread
{100 * spread:.2f} %). Counted by a plugin of {versions[0]}. {" and ".join(versions[1:])} are their own
aarch64 wheels and run the same model (they compute its zeros). Counts are exact and **no times**: an SDOT
and a branch count alike, and waiting for memory does not appear. Every engine chooses its kernels by what
the emulated core has.

At 80 % 4x1 the aim is half of the better of the two others, or less. The Raspberry Pi's cores meet it. Where
there is i8mm, an instruction does 32 multiply-adds (ours USMMLA; that the others use SMMLA is inferred from
their counts, their code was not looked at). A dense model gains more by that than a 4x1 one, whose columns
have to be put side by side as before, so the share is larger there. QEMU's `max` is no core on sale: it has
wide SVE and SME, too, for which we have no kernels.

Millions of instructions per inference; *share*: ours at 80 % 4x1 of the better of the two others.
"""
    lines = [
        text,
        f"| core | our kernels | {' | '.join(f'ours, {name}' for name in names)} | "
        f"{' | '.join(BASELINES)} | share |",
        "|---|---|" + "---|" * (len(names) + len(BASELINES) + 1),
    ]
    for machine, row in counts.items():
        best = min(row[name].millions for name in BASELINES)
        cells = [f"{row[name].millions:.1f}" for name in (*names, *BASELINES)]
        share = row[names[0]].millions / best
        lines.append(f"| {machine} | `{row[names[0]].kernels}` | {' | '.join(cells)} | {share:.2f} |")
    return "\n".join([*lines, ""])


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Count, print the page and perhaps write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="write the page there, too")
    parser.add_argument("--work", type=Path, help="keep the models here (default: a temporary folder)")
    parser.add_argument("--runs", type=int, default=3, help="inferences of each engine (default 3)")
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--machine", action="append", choices=[machine.name for machine in CORES])
    parser.add_argument("--ours", action="store_true", help="count only ours")
    options = parser.parse_args(arguments)
    length, runs = options.sequence_length, options.runs
    counts: Dict[str, Dict[str, Count]] = {}
    with tempfile.TemporaryDirectory(prefix="obert-edge-count-") as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        try:
            counter = Counter(Path(name))
            packages = site_packages([*(f"{engine}=={version(engine)}" for engine in ENGINES), *_HELPERS])
            bundles, artifacts = prepare(work, length)
            jobs: List[Job] = [(model, OURS, path) for model, path in bundles.items()]
            if not options.ours:
                jobs += [(baseline, baseline, path) for baseline, path in artifacts.items()]
            runner = next(iter(bundles.values()))
            for machine in CORES:
                if options.machine and machine.name not in options.machine:
                    continue
                row = counter.count(machine, jobs, runner, packages, length, runs)
                counts[machine.cpu] = row
                found = ", ".join(f"{label} {count.millions:.2f}" for label, count in row.items())
                print(f"{machine.cpu}: {found} (millions)", file=sys.stderr, flush=True)
        except UnavailableError as reason:
            print(f"error: instructions cannot be counted here: {reason}", file=sys.stderr)
            return 3
    if options.ours:
        return 0
    versions = [f"QEMU {counter.version}", *(f"{title} {version(name)}" for name, title in ENGINES.items())]
    text = page(counts, versions, length, runs)
    print(text)
    if options.output:
        with atomic_file(options.output) as temporary:
            temporary.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
