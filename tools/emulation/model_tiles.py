"""Model what tiles of weights save on a Raspberry Pi: the bytes that an inference reads from memory.

    python -m tools.emulation.model_tiles --output docs/results/arm_tiles.md
    python -m tools.emulation.model_tiles --board "4 B" --model "MiniLM-L6, 80 % 4x1"

No board is timed. One encoder layer runs on an emulated core, on one thread, and a plugin of QEMU
(cache_counter.c) lets every load and store pass through two caches: the core's L1, and its share of the L2 (a
quarter of a shared L2, all of an L2 of its own). One thread with a quarter of the cache stands for four
threads that share nothing; on a board they also find what the others fetched.

Needs: a C compiler and a Debian system, whose packages are unpacked into a cache folder.
Takes: half a minute for one board and MiniLM-L6, by estimate a quarter of an hour for everything.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from obert_edge.files import atomic_file
from obert_edge.host.compiler import build
from obert_edge.targets.raspberry_pi.boards import BOARDS, Board
from tools import command_line
from tools.bench.models import Spec, make_checkpoint
from tools.emulation.count_instructions import Counter
from tools.emulation.debian import UnavailableError
from tools.emulation.emulated import MACHINES, Machine

SOURCE = Path(__file__).with_name("cache_counter.c")
KIB = 1 << 10
CACHES = (0, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB)
#: The models, of which one layer runs: what the page calls it, shape, pattern, sparsity.
MODELS = (
    ("BERT-base, 80 % 4x1", "bert-base", "4x1", 0.8),
    ("BERT-base, dense", "bert-base", "dense", 0.0),
    ("MiniLM-L6, 80 % 4x1", "minilm-l6", "4x1", 0.8),
)
#: Bytes of a cache line.
LINE = 64
#: ARM's number of each board's core, the ``CPU part`` of ``/proc/cpuinfo``.
PARTS = {"Cortex-A53": "0xd03", "Cortex-A72": "0xd08", "Cortex-A76": "0xd0b"}
INTRODUCTION = """# Tiles of weights on the Raspberry Pi

    python -m tools.emulation.model_tiles --output docs/results/arm_tiles.md

**Modeled, not measured**: no board was at hand.
The logits were equal to the bit for all tiles of a model.

| | |
|---|---|
| model | one encoder layer, random weights |
| inferences | 1 x {length} tokens, one thread, n = 1 after one that is not counted |
| cores | emulated, {version} |
| caches | a core's L1 and its share of L2, least recently used, not prefetched; a Pi 5's L3 is memory |
| *tiles for* | the cache that the engine is told a thread has |
| *from L2*, *from memory* | what missed L1, and L2 |
| *reading* | the time of what came from memory, at the board's (estimated) bandwidth |
| **bold** | the board's own setting (`targets/raspberry_pi/boards.py`); the 3 B+ is as the Zero 2 W |

Without tiles a kernel passes over all weights of a linear four times, once for each stripe of 16 of a \
panel's 64 tokens; with them, over a tile at a time.
A linear whose panel (64 bytes for each input channel) leaves too little of the cache is not cut: \
BERT-base's second feed-forward linear on all boards but the 5.
"""

#: The program for the emulated Python: it runs every bundle with every size of cache twice, the second time
#: between two marks. Its arguments are the bundles and the sizes as JSON, and the sequence length in tokens.
#: It prints the bits of the logits, as a JSON list of hexadecimal texts.
GUEST = """
import json, os, sys
bundles, caches, length = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, bundles[0])
import numpy as np
from obert_edge.device.runtime.session import load
ids = np.arange(length)[None] % 97 + 5
bits = []
for bundle in bundles:
    for cache in caches:
        with load(bundle, threads=1, cache_bytes=cache) as session:
            os.getppid()
            first = session.run(input_ids=ids)["logits"]
            os.getppid()
            again = session.run(input_ids=ids)["logits"]
            os.getppid()
        assert np.array_equal(first, again)
        bits.append(first.tobytes().hex())
print(json.dumps(bits))
"""


@dataclass(frozen=True)
class Traffic:
    """What one inference of one layer executed and fetched.

    Args:
        instructions: instructions executed.
        from_l2: cache lines that missed L1.
        from_memory: cache lines that missed L2.
        results: the bits of the logits, as hexadecimal text.
    """

    instructions: int
    from_l2: int
    from_memory: int
    results: str


def measure(
    counter: Counter,
    machine: Machine,
    board: Board,
    bundles: Sequence[Path],
    caches: Sequence[int],
    length: int,
) -> List[Traffic]:
    """Count one inference of each bundle with each size of cache told to the engine.

    Args:
        counter: a counter made with this program's plugin.
        machine: the machine to emulate.
        board: the board whose caches are modeled.
        bundles: bundles for 64-bit ARM.
        caches: cache sizes in bytes that linears are cut for; 0: no tiles.
        length: tokens of the one sequence.
    """
    settings = f",l1={board.l1_data}:{board.l1_ways},l2={board.cache}:{board.l2_ways}"
    arguments = [json.dumps([str(bundle) for bundle in bundles]), json.dumps(list(caches)), length]
    marks, bits = counter.marks(machine, arguments, program=GUEST, settings=settings)
    found = []
    for before, after, results in zip(marks[1::3], marks[2::3], bits):
        instructions, _, from_l2, from_memory, _ = (end - begin for begin, end in zip(before, after))
        found.append(Traffic(instructions, from_l2, from_memory, results))
    return found


def prepare(work: Path) -> Dict[str, Path]:
    """Make the bundles, by model; keep those that an earlier run made."""
    bundles = {}
    for label, shape, pattern, sparsity in MODELS:
        folder = work / f"{shape}-{pattern}"
        if not folder.is_dir():
            make_checkpoint(folder, Spec.of_shape(shape, layers=1, pattern=pattern, sparsity=sparsity))
        bundles[label] = build(folder, "rpi", work / f"{folder.name}.oeb", min_cosine=-1.0)
    return bundles


def page(found: Dict[str, Dict[str, List[Traffic]]], caches: Sequence[int], version: str, length: int) -> str:
    """The results page.

    Args:
        found: by board and model, in the order of ``caches``.
        caches: cache sizes in bytes.
        version: of QEMU, as the page should name it.
        length: tokens of the one sequence.
    """
    lines = [INTRODUCTION.format(version=version, length=length)]
    boards = {board.name: board for board in BOARDS}
    for name, rows in found.items():
        board = boards[name]
        lines += [
            f"## {name} ({board.core}: L1 {board.l1_data // KIB} KB, L2 {board.cache // KIB} KB a core)",
            "",
            "| layer of | tiles for, KB | instructions, millions | from L2, MB | from memory, MB |"
            " reading, ms |",
            "|---|---|---|---|---|---|",
        ]
        for model, row in rows.items():
            for cache, traffic in zip(caches, row):
                memory = traffic.from_memory * LINE
                cells = [
                    f"{cache // KIB}" if cache else "none",
                    f"{traffic.instructions / 1e6:.1f}",
                    f"{traffic.from_l2 * LINE / 1e6:.1f}",
                    f"{memory / 1e6:.1f}",
                    f"{memory / board.bandwidth * 1e3:.1f}",
                ]
                bold = "**" if cache == board.cache else ""
                lines.append(f"| {model} | " + " | ".join(f"{bold}{cell}{bold}" for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Count, print the page and perhaps write it."""
    parser = command_line.parser("tools.emulation.model_tiles", __doc__)
    parser.add_argument("--output", type=Path, help="also write the page to this file")
    parser.add_argument("--work", type=Path, help="keep the models here (default: a temporary folder)")
    parser.add_argument("--sequence-length", type=int, default=128, help="tokens (default 128)")
    parser.add_argument(
        "--board",
        action="append",
        choices=[board.name for board in BOARDS],
        help="may be given several times (default: all but the 3 B+, whose caches are the Zero 2 W's)",
    )
    parser.add_argument(
        "--model",
        action="append",
        choices=[label for label, *_ in MODELS],
        help="may be given several times (default: all)",
    )
    options = parser.parse_args(arguments)
    machines = {machine.part: machine for machine in MACHINES}
    found: Dict[str, Dict[str, List[Traffic]]] = {}
    with tempfile.TemporaryDirectory(prefix="obert-edge-tiles-") as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        try:
            counter = Counter(Path(name), SOURCE)
            bundles = prepare(work)
            if options.model:
                bundles = {model: path for model, path in bundles.items() if model in options.model}
            for board in BOARDS:
                if board.name not in (options.board or ("Zero 2 W", "4 B", "5")):
                    continue
                machine = machines[PARTS[board.core]]
                row = measure(
                    counter, machine, board, list(bundles.values()), CACHES, options.sequence_length
                )
                parts = [row[i : i + len(CACHES)] for i in range(0, len(row), len(CACHES))]
                found[board.name] = dict(zip(bundles, parts))
                for model, part in found[board.name].items():
                    print(f"{board.name}, {model}: {part}", file=sys.stderr, flush=True)
                    if len({traffic.results for traffic in part}) != 1:
                        sys.exit(f"{model} gives other bits for other tiles on {board.core}")
        except UnavailableError as reason:
            print(f"error: nothing can be counted here: {reason}", file=sys.stderr)
            return 3
    text = page(found, CACHES, f"QEMU {counter.version}", options.sequence_length)
    print(text)
    if options.output:
        with atomic_file(options.output) as temporary:
            temporary.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(command_line.run(main))
