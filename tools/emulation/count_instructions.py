"""Count the instructions of one inference on ARM: obert-edge beside ONNX Runtime and LiteRT, under QEMU.

    python -m tools.emulation.count_instructions --output docs/results/arm_instructions.md
    python -m tools.emulation.count_instructions --machine pi5 --ours        # one core, our engine alone

The engines' own aarch64 wheels run one model (MiniLM-L6's shape, random weights, 80 % of the 4x1 blocks zero)
with one thread, on emulated Cortex-A53, A72 and A76, on a core with i8mm and on QEMU's "max".
A plugin of QEMU (instruction_counter.c) counts. The program marks the beginning and the end of every
inference by a system call, so that importing, loading and the first inference are not in the numbers.
Counts are exact, and they are not times: instructions differ in cost, and waiting for memory does not appear.

Needs: a C compiler and a Debian system, whose packages are unpacked into a cache folder; pip's access to
PyPI.
Takes: a minute with --machine pi5 --ours, a quarter of an hour for everything.
"""

from __future__ import annotations

import dataclasses
import itertools
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
from tools import command_line
from tools.bench.models import Spec, make_checkpoint
from tools.emulation.debian import UnavailableError, unpacked
from tools.emulation.emulated import MACHINES, Emulated, Machine, engine_wheels

INTRODUCTION = """# Instructions per inference on ARM

    python -m tools.emulation.count_instructions --runs {runs} --output docs/results/arm_instructions.md

The numbers are millions of instructions per inference: exact, but **not times**, since an SDOT and a \
branch count alike and waiting for memory does not appear.
*Share* is ours at 80 % 4x1 over the better of the two others; the aim is 0.5 or less.

| | |
|---|---|
| model | MiniLM-L6's shape, random weights; the others run that of 80 % 4x1 and compute its zeros |
| inferences | one sequence, one thread, n = {runs} of each engine after one that is not counted |
| largest spread | {spread:.2f} % |
| the others | {engines}, their own aarch64 wheels |
| counted by | a plugin of {emulator} |

With i8mm an instruction does 32 multiply-adds instead of 16.
A dense model gains more by that than a 4x1 one, whose columns still have to be put side by side.
That the others use SMMLA there is inferred from their counts.

QEMU's `max` is no core on sale: it has wide SVE and SME, too, for which obert-edge has no kernels.
"""

SOURCE = Path(__file__).with_name("instruction_counter.c")
OURS = "obert-edge"
#: The models our engine runs: name, pattern, sparsity. The baselines run the first, and compute its zeros.
MODELS = (("80 % 4x1", "4x1", 0.8), ("90 % 4x1", "4x1", 0.9), ("dense", "dense", 0.0))
BASELINES = ("onnxruntime-int8", "litert-int8")
ENGINES = {"onnxruntime": "ONNX Runtime", "ai-edge-litert": "LiteRT"}
#: Raspberry Pis 3 to 5; a core with i8mm and nothing newer; everything QEMU has.
CORES = (*MACHINES[:3], dataclasses.replace(MACHINES[3], name="i8mm", cpu="max,sve=off,sme=off"), MACHINES[3])
#: getppid on 64-bit ARM (asm-generic/unistd.h): a call that no engine makes.
MARKER = 173

#: The program for the emulated Python: it runs engines one after the other. Its arguments are a bundle (whose
#: copy of obert-edge it imports), the jobs as JSON ([engine, file to load]), the sequence length in tokens
#: and the number of inferences. It prints the names of the kernels as a JSON list, empty for other engines
#: than ours.
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


#: What an engine is called in the page, the engine (``obert-edge`` or a baseline's name), the file it loads.
Job = Tuple[str, str, Path]


@dataclass(frozen=True)
class Count:
    """The instructions that one engine executed on one core.

    Args:
        kernels: the kernels that our engine chose there; empty for other engines.
        instructions: the number of instructions of each inference.
    """

    kernels: str
    instructions: Tuple[int, ...]

    @property
    def millions(self) -> float:
        """The median over the inferences, in millions of instructions."""
        return sorted(self.instructions)[len(self.instructions) // 2] / 1e6

    @property
    def spread(self) -> float:
        """The largest number less the smallest, relative to the median."""
        return (max(self.instructions) - min(self.instructions)) / 1e6 / self.millions


class Counter:
    """A QEMU that counts instructions.

    Debian's ``qemu-user-static`` cannot load plugins, its ``qemu-user`` can; it runs with its own libraries.

    Args:
        folder: an existing folder for the compiled plugin and the files it writes.
        source: the plugin's C file.

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
        #: QEMU's version, in its own words.
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
        """Count the instructions of each job's inferences; return them by the jobs' labels.

        Args:
            machine: the machine to emulate.
            jobs: the engines and what they load.
            runner: a bundle whose copy of obert-edge the machine imports.
            packages: the folder with the baselines' wheels.
            length: tokens of the one sequence.
            runs: inferences that are counted, after one that is not.
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
        """Run a Python program on an emulated machine while the plugin counts.

        Args:
            machine: the machine to emulate.
            arguments: the program's command line.
            packages: a folder of wheels for it to import.
            program: its text; the last line it prints must be a JSON list of names.
            settings: further settings of the plugin, each as ``,name=value``.

        Returns:
            The numbers of each line that the plugin wrote, a line for each marker; and the names.
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


def prepare(work: Path, lengths: Sequence[int]) -> Tuple[Dict[str, Path], Dict[Tuple[str, int], Path]]:
    """Make our bundles and, of the first model, the baselines' files; keep what an earlier run made.

    Returns:
        Bundles by the models' names, and what a baseline loads by its name and the sequence length.
    """
    bundles, artifacts = {}, {}
    for name, pattern, sparsity in MODELS:
        folder = work / f"minilm-{pattern}-{sparsity:g}"
        if not folder.is_dir():
            make_checkpoint(folder, Spec.of_shape("minilm-l6", pattern=pattern, sparsity=sparsity))
        bundles[name] = build(folder, "arm64", work / f"{folder.name}.oeb", min_cosine=-1.0)
    bundle = bundles[MODELS[0][0]]
    for length in lengths:
        folder = work / f"baselines-{length}"
        folder.mkdir(exist_ok=True)
        for name in BASELINES:
            artifact = folder / name
            if not artifact.is_dir():
                artifact = get_baseline(name).prepare(bundle, folder, batch_size=1, sequence_length=length)
            artifacts[name, length] = artifact
    return bundles, artifacts


def page(counts: Dict[Tuple[str, int], Dict[str, Count]], versions: Sequence[str], runs: int) -> str:
    """The results page.

    Args:
        counts: by the core's name and the tokens of the sequence, then by our model's name or the baseline's.
        versions: of QEMU and the other engines, as the page should name them.
        runs: inferences that were counted.
    """
    names = [name for name, _, _ in MODELS]
    spread = max(count.spread for row in counts.values() for count in row.values())
    lines = [
        INTRODUCTION.format(
            runs=runs,
            spread=100 * spread,
            emulator=versions[0],
            engines=" and ".join(versions[1:]),
        ),
        f"| core | our kernels | tokens | {' | '.join(f'ours, {name}' for name in names)} | "
        f"{' | '.join(BASELINES)} | share |",
        "|---|---|---|" + "---|" * (len(names) + len(BASELINES) + 1),
    ]
    for (core, length), row in counts.items():
        best = min(row[name].millions for name in BASELINES)
        cells = [f"{row[name].millions:.1f}" for name in (*names, *BASELINES)]
        share = row[names[0]].millions / best
        kernels = row[names[0]].kernels
        lines.append(f"| {core} | `{kernels}` | {length} | {' | '.join(cells)} | {share:.2f} |")
    return "\n".join([*lines, ""])


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Count, print the page and perhaps write it."""
    parser = command_line.parser("tools.emulation.count_instructions", __doc__)
    parser.add_argument("--output", type=Path, help="also write the page to this file")
    parser.add_argument("--work", type=Path, help="keep the models here (default: a temporary folder)")
    parser.add_argument(
        "--runs", type=int, default=3, help="inferences of each engine that are counted (default 3)"
    )
    parser.add_argument(
        "--sequence-length",
        type=int,
        nargs="+",
        default=[8, 16, 32, 128],
        help="tokens (default: 8 16 32 128)",
    )
    parser.add_argument(
        "--machine",
        action="append",
        choices=[machine.name for machine in CORES],
        help="a core to count on; may be given several times (default: all)",
    )
    parser.add_argument("--ours", action="store_true", help="count our engine alone, and write no page")
    options = parser.parse_args(arguments)
    lengths, runs = options.sequence_length, options.runs
    counts: Dict[Tuple[str, int], Dict[str, Count]] = {}
    with tempfile.TemporaryDirectory(prefix="obert-edge-count-") as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        try:
            counter = Counter(Path(name))
            packages = engine_wheels(list(ENGINES))
            bundles, artifacts = prepare(work, [] if options.ours else lengths)
            runner = next(iter(bundles.values()))
            cores = [core for core in CORES if not options.machine or core.name in options.machine]
            for core, length in itertools.product(cores, lengths):
                jobs: List[Job] = [(model, OURS, path) for model, path in bundles.items()]
                if not options.ours:
                    jobs += [(baseline, baseline, artifacts[baseline, length]) for baseline in BASELINES]
                row = counter.count(core, jobs, runner, packages, length, runs)
                counts[core.cpu, length] = row
                found = ", ".join(f"{label} {count.millions:.2f}" for label, count in row.items())
                print(f"{core.cpu}, {length} tokens: {found} (millions)", file=sys.stderr, flush=True)
        except UnavailableError as reason:
            print(f"error: instructions cannot be counted here: {reason}", file=sys.stderr)
            return 3
    if options.ours:
        return 0
    versions = [f"QEMU {counter.version}", *(f"{title} {version(name)}" for name, title in ENGINES.items())]
    text = page(counts, versions, runs)
    print(text)
    if options.output:
        with atomic_file(options.output) as temporary:
            temporary.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
