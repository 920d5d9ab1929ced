"""Measuring: our engine and the baselines, turn by turn, each in its own process.

All engines get the same token ids and the same number of threads. They take turns, round after round, so that
whatever disturbs the machine disturbs all; a speed-up is the median over rounds of the ratio within a round,
given with its spread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.bundle.container import Bundle
from obert_edge.device.bench.comparison import ENGINE, Baseline, choose_baselines
from obert_edge.device.bench.environment import Environment
from obert_edge.device.bench.interference import CpuWatch, Interference
from obert_edge.device.bench.processes import EngineProcess
from obert_edge.device.bench.report import Latency, Measurement, Report, paired_ratios
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.profile import Profile
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.board import default_threads, find_board
from obert_edge.errors import UnsupportedDeviceError, UsageError

#: Called with what is being done, how many steps are done, and how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Inputs:
    """What every engine gets: token ids [batch, sequence], padded behind each sequence's length."""

    ids: List[List[int]]
    lengths: List[int]


@dataclass
class _Entry:
    """A engine_process and what is known of it so far."""

    engine_process: EngineProcess
    model_bytes: int
    facts: Dict[str, Any] = field(default_factory=dict)
    rounds: List[List[int]] = field(default_factory=list)

    def measurement(self, batch_size: int) -> Measurement:
        latency = Latency.from_turns(self.rounds)
        return Measurement(
            name=self.engine_process.name,
            implementation=self.facts["implementation"],
            latency_ms=latency,
            throughput=batch_size * 1e3 / latency.p50,
            load_ms=self.facts["load_ms"],
            first_run_ms=self.facts["first_run_ms"],
            peak_memory=self.facts["peak_memory"],
            start_memory=self.facts["start_memory"],
            model_bytes=self.model_bytes,
        )


def benchmark(
    bundle: Union[str, Path],
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: Optional[int] = None,
    implementation: Optional[str] = None,
    lengths: Optional[Sequence[int]] = None,
    baselines: Sequence[Union[str, Baseline]] = (),
    duration: float = 3.0,
    iterations: Optional[int] = None,
    rounds: int = 15,
    warmup: int = 2,
    min_speedup: Optional[Union[float, Mapping[str, float]]] = None,
    profile: bool = False,
    seed: int = 0,
    progress: Optional[Progress] = None,
) -> Report:
    """Measure a bundle, and baselines beside it.

    Args:
        bundle: the ``.oeb`` file.
        batch_size: sequences per run.
        sequence_length: tokens per sequence, none masked.
        threads: of every engine; ``None``: as many as this process may use, and on a board that the bundle
            knows no more than it says.
        implementation: of our kernels; ``None``: the best.
        lengths: tokens of each sequence, in place of ``batch_size`` and ``sequence_length``: all engines get
            the sequences padded to the longest, with the mask that says so.
        baselines: names such as ``"onnxruntime-fp32"``; ``"onnxruntime"`` is both of its baselines. One that
            is not installed is reported as missing, unless it was named exactly. A
            :class:`~obert_edge.device.bench.comparison.Baseline` can have a bundle or threads of its own.
        duration: seconds of timed runs per engine, over all rounds.
        iterations: timed runs per engine instead of a duration.
        rounds: how many turns each engine takes.
        warmup: untimed runs before each turn.
        min_speedup: fail unless ours is this many times faster than the first baseline (or, as a mapping,
            than each named one).
        profile: also measure each op, after the rounds.
        seed: of the random token ids.
        progress: told about each step.

    Returns:
        The report.

    Raises:
        UsageError: an argument out of range, or an unknown baseline.
        BundleError: the bundle is not one.
        UnsupportedDeviceError: this machine cannot run the bundle, or a baseline named exactly.
        VerificationError: the speed-up is less than ``min_speedup``.
    """
    tell = progress or (lambda what, done, total: None)
    environment = Environment.current()
    with Bundle.open(bundle) as opened:
        facts = _bundle_facts(opened)
        program = opened.program if profile else None
        model = opened.manifest.model
        threads = default_threads(find_board(opened.manifest.boards)) if threads is None else threads
    if lengths is not None:
        batch_size, sequence_length = len(lengths), max([0, *lengths])
    lengths = [sequence_length] * batch_size if lengths is None else list(lengths)
    _check_arguments(batch_size, lengths, model.max_length, threads, rounds, duration, iterations)
    inputs = _Inputs(_random_ids(model.vocabulary, model.pad_id, lengths, seed), lengths)
    wanted, missing = _wanted_baselines(baselines, environment)
    with contextlib.ExitStack() as stack:
        workdir = stack.enter_context(tempfile.TemporaryDirectory(prefix="obert-edge-bench-"))
        steps = 1 + len(wanted)
        tell(f"loading {ENGINE}", 0, steps)
        ours = _load_engine(stack, ENGINE, str(bundle), threads, implementation, inputs)
        entries = [ours]
        for step, (baseline, required) in enumerate(wanted, start=1):
            tell(f"preparing {baseline.label}", step, steps)
            try:
                entries.append(_load_baseline(stack, baseline, bundle, workdir, threads, inputs))
            except UnsupportedDeviceError as error:
                if required:
                    raise
                missing[baseline.label] = f"{error.message}; {error.hint}"
        interference = _take_turns(entries, rounds, duration, iterations, warmup, tell)
        for entry in entries:
            entry.facts.update(entry.engine_process.call("memory"))
        profiled: Optional[Profile] = None
        if program is not None:
            raw = ours.engine_process.call("profile", runs=_profile_runs(ours))
            peaks = Peaks.from_dict(raw["peaks"])
            profiled = Profile.from_nanoseconds(program, raw["nanoseconds"], lengths, peaks)
    others = entries[1:]
    report = Report(
        bundle=facts,
        batch_size=batch_size,
        sequence_length=sequence_length,
        threads=threads,
        engine=ours.measurement(batch_size),
        baselines={entry.engine_process.name: entry.measurement(batch_size) for entry in others},
        ratios=paired_ratios(ours.rounds, {entry.engine_process.name: entry.rounds for entry in others}),
        missing=missing,
        environment=_with_baselines(environment, others),
        temperature_after_c=machine.temperature(),
        throttled_after=machine.throttled(),
        profile=profiled,
        lengths=lengths if len(set(lengths)) > 1 else None,
        interference=interference,
    )
    if min_speedup is not None:
        report.require(min_speedup)
    return report


def _check_arguments(
    batch_size: int,
    lengths: Sequence[int],
    longest: int,
    threads: int,
    rounds: int,
    duration: float,
    iterations: Optional[int],
) -> None:
    for name, value in (
        ("batch_size", batch_size),
        ("sequence_length", min(lengths, default=1)),
        ("threads", threads),
        ("rounds", rounds),
        ("iterations", 1 if iterations is None else iterations),
    ):
        if value < 1:
            raise UsageError(f"{name} is {value}; expected 1 or more", hint=f"give a positive {name}")
    if duration <= 0:
        raise UsageError(f"duration is {duration}; expected more than 0", hint="give seconds, for instance 3")
    if max(lengths) > longest:
        raise UsageError(
            f"sequence_length is {max(lengths)}; this model takes up to {longest} tokens",
            hint=f"use a sequence length of at most {longest}",
        )


def _bundle_facts(bundle: Bundle) -> Dict[str, Any]:
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "target": manifest.target,
        "architecture": manifest.model.architecture,
        "layers": manifest.model.layers,
        "hidden": manifest.model.hidden,
        "task": manifest.task.type,
        "sparsity": manifest.sparsity,
        "quantization": dataclasses.asdict(manifest.quantization),
    }


def _random_ids(vocabulary: int, pad_id: int, lengths: Sequence[int], seed: int) -> List[List[int]]:
    """Ordinary tokens only: the special ones have low ids, and padding would shift RoBERTa's positions."""
    low = min(1000, vocabulary // 2)
    ids = np.random.default_rng(seed).integers(low, vocabulary, (len(lengths), max(lengths)))
    ids[np.arange(max(lengths)) >= np.asarray(lengths)[:, None]] = pad_id
    rows: List[List[int]] = ids.tolist()
    return rows


def _wanted_baselines(
    names: Sequence[Union[str, Baseline]], environment: Environment
) -> Tuple[List[Tuple[Baseline, bool]], Dict[str, str]]:
    """Baselines to run, each with whether it was named exactly, and those left out with the reason."""
    wanted = choose_baselines(names)
    if environment.emulation and wanted:
        reason = f"not measured: {environment.emulation}, so times cannot be compared"
        return [], {baseline.label: reason for baseline, _ in wanted}
    return wanted, {}


def _load_engine(
    stack: contextlib.ExitStack,
    label: str,
    bundle: str,
    threads: int,
    implementation: Optional[str],
    inputs: _Inputs,
) -> _Entry:
    engine_process = stack.enter_context(EngineProcess(label))
    facts = engine_process.call("load_bundle", path=bundle, threads=threads, implementation=implementation)
    facts.update(engine_process.call("first_run", input_ids=inputs.ids, lengths=inputs.lengths))
    return _Entry(engine_process, Path(bundle).stat().st_size, facts)


def _load_baseline(
    stack: contextlib.ExitStack,
    baseline: Baseline,
    bundle: Union[str, Path],
    workdir: str,
    threads: int,
    inputs: _Inputs,
) -> _Entry:
    source = str(bundle if baseline.bundle is None else baseline.bundle)
    threads = threads if baseline.threads is None else baseline.threads
    if baseline.engine == ENGINE:
        return _load_engine(stack, baseline.label, source, threads, baseline.implementation, inputs)
    folder = Path(tempfile.mkdtemp(dir=workdir))
    with EngineProcess(baseline.label) as preparer:
        prepared = preparer.call(
            "prepare_baseline",
            name=baseline.engine,
            path=source,
            workdir=str(folder),
            batch_size=len(inputs.ids),
            sequence_length=len(inputs.ids[0]),
        )
    engine_process = stack.enter_context(EngineProcess(baseline.label))
    facts = engine_process.call(
        "load_baseline", name=baseline.engine, artifact=prepared["artifact"], threads=threads
    )
    facts.update(engine_process.call("first_run", input_ids=inputs.ids, lengths=inputs.lengths))
    return _Entry(engine_process, prepared["bytes"], facts)


def _take_turns(
    entries: Sequence[_Entry],
    rounds: int,
    duration: float,
    iterations: Optional[int],
    warmup: int,
    tell: Progress,
) -> Optional[Interference]:
    """Let the engines run in turn; who begins changes from round to round.

    Returns:
        What else ran meanwhile.
    """
    watch = CpuWatch([os.getpid(), *(entry.engine_process.pid for entry in entries)])
    rounds = rounds if iterations is None else min(rounds, iterations)
    seconds = duration / rounds if iterations is None else 0.0
    for number in range(rounds):
        tell("measuring", number, rounds)
        count = 1 if iterations is None else iterations // rounds + (number < iterations % rounds)
        shift = number % len(entries)
        for entry in [*entries[shift:], *entries[:shift]]:
            turn = entry.engine_process.call("turn", seconds=seconds, iterations=count, warmup=warmup)
            entry.rounds.append(turn["nanoseconds"])
    tell("measuring", rounds, rounds)
    return watch.read()


def _profile_runs(entry: _Entry) -> int:
    """About a second's worth, so that each op has some runs that nothing disturbs."""
    median = float(np.median([time for turn in entry.rounds for time in turn]))
    return int(np.clip(1e9 / median, 3, 200))


def _with_baselines(environment: Environment, entries: Sequence[_Entry]) -> Environment:
    versions = {entry.engine_process.name: entry.facts["implementation"] for entry in entries}
    return dataclasses.replace(environment, packages={**environment.packages, **versions})
