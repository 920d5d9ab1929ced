"""The cases of tools.bench.baselines: what is measured, against which baselines, and what it should reach.

Floors and aims are those the engine was specified with; a case with neither is there for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from tools.bench.models import Spec

FP32, INT8, LITERT = "onnxruntime-fp32", "onnxruntime-int8", "litert-int8"
ONE_THREAD = "obert-edge on 1 thread"
DENSE_FP32 = "onnxruntime-fp32 of the dense 12 layers"

#: Tokens of 32 texts of SST-2's dev set, [CLS] and [SEP] included: every 27th of its 872 rows from the first,
#: cut by BERT's uncased WordPiece vocabulary, lengths clipped to 8..128 (they are 9 to 49 here).
SST2_LENGTHS = (
    *(12, 28, 27, 26, 28, 43, 31, 29, 30, 16, 11, 20, 35, 30, 39, 20),
    *(18, 49, 27, 44, 12, 29, 38, 25, 36, 9, 27, 25, 9, 25, 16, 13),
)


@dataclass(frozen=True)
class BaselineSpec:
    """An engine (and model) that a case is measured against.

    Attributes:
        engine: name of a baseline of obert_edge.device.bench.baselines, or ``obert-edge``.
        name: what the results call it; empty: as the engine.
        spec: the model it runs; ``None``: the case's model.
        threads: threads it runs on; ``None``: as many as our engine.
    """

    engine: str
    name: str = ""
    spec: Optional[Spec] = None
    threads: Optional[int] = None

    @property
    def label(self) -> str:
        """The name in the results."""
        return self.name or self.engine


@dataclass(frozen=True)
class Goal:
    """What a case should reach.

    Attributes:
        metric: ``speedup`` (over ``baseline``), or a key of ``METRICS``.
        floor: the value that was promised: the least for a speed-up, the most for other metrics.
        aim: the value that was hoped for, or ``None``.
        baseline: label of the baseline that a speed-up is over; empty for other metrics.
        row: name of the row in the table of goals, for other metrics than a speed-up.
    """

    metric: str
    floor: float
    aim: Optional[float]
    baseline: str = ""
    row: str = ""


#: The metrics other than a speed-up: unit and number format. Of each of them less is better.
METRICS: Dict[str, Tuple[str, str]] = {
    "load": ("ms", ".0f"),
    "memory": ("MB", ".0f"),
    "file": ("MB", ".1f"),
    "p99 / p50": ("", ".2f"),
}


@dataclass(frozen=True)
class Case:
    """One model and input shape.

    Attributes:
        name: key of the case, on the command line and in the results.
        title: what pages call it.
        spec: the model our engine runs.
        batch_size: sequences of a run.
        sequence_length: tokens of each sequence.
        baselines: what is measured beside our engine; the baselines of all goals are among them.
        goals: what the case should reach.
        lengths: tokens of each sequence where they differ; ``None``: all have ``sequence_length``.
        implementation: name of our kernels; ``None``: the best that run.
        avx2_cpu: show every engine a CPU without AVX-512 and VNNI (tools/bench/cpuid_mask.c).
        rounds: rounds at most, for cases in which one run takes seconds; ``None``: as the command says.
        seconds: seconds of timed runs, over all rounds; ``None``: as the command says.
    """

    name: str
    title: str
    spec: Spec
    batch_size: int
    sequence_length: int
    baselines: Tuple[BaselineSpec, ...]
    goals: Tuple[Goal, ...] = ()
    lengths: Optional[Tuple[int, ...]] = None
    implementation: Optional[str] = None
    avx2_cpu: bool = False
    rounds: Optional[int] = None
    seconds: Optional[float] = None


@dataclass
class _Table:
    cases: List[Case] = field(default_factory=list)

    def add(
        self,
        name: str,
        title: str,
        spec: Spec,
        shape: Tuple[int, int],
        floor: float,
        aim: float,
        baseline: BaselineSpec,
        *,
        also: Tuple[str, ...] = (),
        goals: Tuple[Goal, ...] = (),
        lengths: Optional[Tuple[int, ...]] = None,
        implementation: Optional[str] = None,
        avx2_cpu: bool = False,
        rounds: Optional[int] = None,
    ) -> None:
        """Add a case that should reach a speed-up over ``baseline``; those of ``also`` are for comparison."""
        wanted = (Goal("speedup", floor, aim, baseline.label), *goals)
        baselines = (baseline, *(BaselineSpec(engine) for engine in also))
        self.cases.append(
            Case(name, title, spec, *shape, baselines, wanted, lengths, implementation, avx2_cpu, rounds)
        )


def spec(shape: str, sparsity: float, pattern: str, layers: Optional[int] = None) -> Spec:
    """A model of a known shape, in few words."""
    return Spec.of_shape(shape, layers=layers, sparsity=sparsity, pattern=pattern)


def _cases() -> List[Case]:
    base80, base90 = spec("bert-base", 0.8, "4x1"), spec("bert-base", 0.9, "4x1")
    dense = spec("bert-base", 0.0, "dense")
    fp32 = BaselineSpec(FP32)
    rest = (INT8, "litert-fp32", LITERT, "openvino-fp32", "openvino-int8")
    table = _Table()
    load_and_file = (
        Goal("load", 100, 40, row="load of 12 layers, 80 % 4x1"),
        Goal("file", 37, 28, row="bundle of 12 layers, 80 % 4x1"),
    )
    tail = (Goal("p99 / p50", 1.5, None, row="12 layers, 80 % 4x1, 1 x 128, alone: p99 over p50 of a turn"),)
    memory = (Goal("memory", 140, 90, row="peak memory, 12 layers, 80 % 4x1, 1 x 384"),)
    table.add(
        "base-80-4x1-128",
        "12 layers, 80 % 4x1",
        base80,
        (1, 128),
        11,
        16,
        fp32,
        also=rest,
        goals=load_and_file,
    )
    table.add("base-90-4x1-128", "12 layers, 90 % 4x1", base90, (1, 128), 17, 26, fp32)
    table.add("base-80-1x4-128", "12 layers, 80 % 1x4", spec("bert-base", 0.8, "1x4"), (1, 128), 9, 13, fp32)
    table.add(
        "base-90-unstructured-128",
        "12 layers, 90 % unstructured",
        spec("bert-base", 0.9, "unstructured"),
        (1, 128),
        10,
        16,
        fp32,
    )
    table.add(
        "base-80-4x1-384", "12 layers, 80 % 4x1", base80, (1, 384), 8, 13, fp32, also=rest, goals=memory
    )
    table.add("base-90-4x1-384", "12 layers, 90 % 4x1", base90, (1, 384), 10, 18, fp32)
    table.add("base-80-4x1-32", "12 layers, 80 % 4x1", base80, (1, 32), 8, 13, fp32, also=rest)
    table.add("base-80-4x1-16", "12 layers, 80 % 4x1", base80, (1, 16), 8, 13, fp32)
    table.add("base-80-4x1-8", "12 layers, 80 % 4x1", base80, (1, 8), 8, 13, fp32)
    table.add("base-80-4x1-batch32-128", "12 layers, 80 % 4x1", base80, (32, 128), 11, 17, fp32, rounds=4)
    table.add("base-90-4x1-batch32-128", "12 layers, 90 % 4x1", base90, (32, 128), 15, 26, fp32, rounds=4)
    table.add(
        "base-80-4x1-3layers-128",
        "3 layers, 80 % 4x1, against the dense 12 layers",
        spec("bert-base", 0.8, "4x1", 3),
        (1, 128),
        40,
        65,
        BaselineSpec(FP32, DENSE_FP32, dense),
    )
    table.add(
        "base-dense-128",
        "12 layers, dense INT8",
        dense,
        (1, 128),
        1.4,
        1.8,
        BaselineSpec(INT8),
        also=(FP32,),
    )
    table.add(
        "minilm-80-4x1-128",
        "MiniLM-L6, 80 % 4x1",
        spec("minilm-l6", 0.8, "4x1"),
        (1, 128),
        2.5,
        4,
        BaselineSpec(LITERT),
        also=(FP32, INT8),
    )
    table.add(
        "base-80-4x1-128-avx2",
        "12 layers, 80 % 4x1, AVX2 forced, ONNX Runtime with AVX-512",
        base80,
        (1, 128),
        4,
        7,
        fp32,
        implementation="avx2",
    )
    table.add(
        "base-80-4x1-128-avxvnni",
        "12 layers, 80 % 4x1, AVX-VNNI (256 bits) forced, ONNX Runtime with AVX-512",
        base80,
        (1, 128),
        12,
        14,
        fp32,
        implementation="avxvnni",
    )
    table.add(
        "base-80-4x1-128-avx2-cpu",
        "12 layers, 80 % 4x1, AVX2 forced for every engine",
        base80,
        (1, 128),
        4,
        7,
        fp32,
        also=rest,
        avx2_cpu=True,
    )
    table.add(
        "base-80-4x1-128-threads",
        "12 layers, 80 % 4x1, 2 threads over 1",
        base80,
        (1, 128),
        1.65,
        1.85,
        BaselineSpec("obert-edge", ONE_THREAD, threads=1),
    )
    table.add(
        "base-80-4x1-texts32",
        "12 layers, 80 % 4x1, 32 texts of SST-2's lengths",
        base80,
        (len(SST2_LENGTHS), max(SST2_LENGTHS)),
        20,
        40,
        fp32,
        lengths=SST2_LENGTHS,
        rounds=6,
    )
    # The case of the tail is measured alone, so that no other engine interferes, and for long,
    # because a turn needs enough runs for a 99th percentile.
    table.cases.append(
        Case(
            "base-80-4x1-128-alone",
            "12 layers, 80 % 4x1, alone",
            base80,
            1,
            128,
            baselines=(),
            goals=tail,
            seconds=30,
        )
    )
    return table.cases


CASES: Dict[str, Case] = {case.name: case for case in _cases()}
#: The cases that are measured unless the command names others: few enough to try things with.
DEFAULT_CASES = ["base-80-4x1-32", "base-80-4x1-128", "base-80-4x1-384"]
