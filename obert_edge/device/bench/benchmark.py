"""Measuring our engine and the baselines, turn by turn, each in its own process.

All engines get the same token ids and the same number of threads. They take turns, round after round, so that
whatever interferes with one interferes with all; a speed-up is the median over rounds of the ratio within a
round, given with its spread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from obert_edge.bundle.container import Bundle
from obert_edge.device.bench.comparison import OUR_ENGINE, Comparison, choose_comparisons
from obert_edge.device.bench.engine_process import EngineProcess
from obert_edge.device.bench.environment import Environment
from obert_edge.device.bench.interference import CpuWatch, Interference
from obert_edge.device.bench.report import Latency, Measurement, Report, paired_ratios
from obert_edge.device.progress import Progress, silent
from obert_edge.device.roofline.peaks import Peaks
from obert_edge.device.roofline.profile import Profile
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.board import default_threads, find_board
from obert_edge.errors import UnsupportedDeviceError, UsageError


@dataclass(frozen=True)
class _Inputs:
    """What every engine gets: token ids [batch, sequence], padded behind each sequence's length."""

    ids: List[List[int]]
    lengths: List[int]


@dataclass
class _Engine:
    """An engine that is loaded in a process of its own, and what was measured of it so far.

    ``facts`` is what the process reported: the implementation, ``load_ms``, ``first_run_ms``, memory in
    bytes; ``rounds`` holds the nanoseconds of every run, by round.
    """

    process: EngineProcess
    model_bytes: int
    facts: Dict[str, Any] = field(default_factory=dict)
    rounds: List[List[int]] = field(default_factory=list)

    def measurement(self, batch_size: int) -> Measurement:
        latency = Latency.from_turns(self.rounds)
        return Measurement(
            name=self.process.name,
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
    baselines: Sequence[Union[str, Comparison]] = (),
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
        threads: of every engine; ``None``: as many CPUs as this process may use, and on a board that the
            bundle knows at most the number it gives.
        implementation: name of our kernels, such as ``"avx2"``; ``None``: the best this CPU runs.
        lengths: tokens of each sequence, in place of ``batch_size`` and ``sequence_length``: all engines get
            the sequences padded to the longest, with the mask that says so.
        baselines: names such as ``"onnxruntime-fp32"``; ``"onnxruntime"`` is both of its baselines. One that
            is not installed is reported as missing, unless it was named exactly. A
            :class:`~obert_edge.device.bench.comparison.Comparison` can have a bundle or threads of its own.
        duration: seconds of timed runs per engine, over all rounds.
        iterations: timed runs per engine instead of a duration.
        rounds: how many turns each engine takes.
        warmup: untimed runs before the timed ones of each turn.
        min_speedup: fail unless ours is this many times faster than the first baseline (or, as a mapping,
            than each named one).
        profile: also measure each op, after all rounds.
        seed: of the random token ids.
        progress: told about each step.

    Returns:
        The report; its ``latency_ms`` holds milliseconds of single runs, its ``speedup`` a ratio by baseline.

    Raises:
        UsageError: an argument out of range, or an unknown baseline.
        BundleError: the bundle is not one.
        UnsupportedDeviceError: this machine cannot run the bundle, or a baseline named exactly.
        VerificationError: the speed-up is less than ``min_speedup``.
    """
    tell = progress or silent
    check_min_speedup(min_speedup, baselines)
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
    wanted, missing = _wanted_comparisons(baselines, environment)
    with contextlib.ExitStack() as stack:
        workdir = stack.enter_context(tempfile.TemporaryDirectory(prefix="obert-edge-bench-"))
        steps = 1 + len(wanted)
        tell(f"loading {OUR_ENGINE}", 0, steps)
        ours = _load_engine(stack, OUR_ENGINE, str(bundle), threads, implementation, inputs)
        engines = [ours]
        for step, (comparison, required) in enumerate(wanted, start=1):
            tell(f"preparing {comparison.label}", step, steps)
            try:
                engines.append(_load_comparison(stack, comparison, bundle, workdir, threads, inputs))
            except UnsupportedDeviceError as error:
                if required:
                    raise
                missing[comparison.label] = f"{error.message}; {error.hint}"
        interference = _take_turns(engines, rounds, duration, iterations, warmup, tell)
        for engine in engines:
            engine.facts.update(engine.process.call("memory"))
        profiled: Optional[Profile] = None
        if program is not None:
            raw = ours.process.call("profile", runs=_profile_runs(ours))
            peaks = Peaks.from_dict(raw["peaks"])
            profiled = Profile.from_nanoseconds(program, raw["nanoseconds"], lengths, peaks)
    others = engines[1:]
    report = Report(
        bundle=facts,
        batch_size=batch_size,
        sequence_length=sequence_length,
        threads=threads,
        engine=ours.measurement(batch_size),
        baselines={engine.process.name: engine.measurement(batch_size) for engine in others},
        ratios=paired_ratios(ours.rounds, {engine.process.name: engine.rounds for engine in others}),
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


def check_min_speedup(
    min_speedup: Optional[Union[float, Mapping[str, float]]], baselines: Sequence[Union[str, Comparison]]
) -> None:
    """Refuse to ask for a speed-up over nothing, before anything is measured.

    Raises:
        UsageError: there is a least speed-up, and no baseline.
    """
    if min_speedup is not None and not baselines:
        raise UsageError(
            "a least speed-up is over a baseline, and none was given", hint="add `--baseline onnxruntime`"
        )


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
            raise UsageError(f"{name} is {value}; expected 1 or more", hint="give 1 or more")
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
        "encoder_sparsity": manifest.encoder_sparsity,
        "quantization": dataclasses.asdict(manifest.quantization),
    }


def _random_ids(vocabulary: int, pad_id: int, lengths: Sequence[int], seed: int) -> List[List[int]]:
    """Ordinary tokens only: the special ones have low ids, and padding would shift RoBERTa's positions."""
    low = min(1000, vocabulary // 2)
    ids = np.random.default_rng(seed).integers(low, vocabulary, (len(lengths), max(lengths)))
    ids[np.arange(max(lengths)) >= np.asarray(lengths)[:, None]] = pad_id
    rows: List[List[int]] = ids.tolist()
    return rows


def _wanted_comparisons(
    wanted: Sequence[Union[str, Comparison]], environment: Environment
) -> Tuple[List[Tuple[Comparison, bool]], Dict[str, str]]:
    """Comparisons to run, each with whether it must run, and those left out with the reason."""
    chosen = choose_comparisons(wanted)
    if environment.emulation and chosen:
        reason = f"not measured: {environment.emulation}, so times cannot be compared"
        return [], {comparison.label: reason for comparison, _ in chosen}
    return chosen, {}


def _load_engine(
    stack: contextlib.ExitStack,
    label: str,
    bundle: str,
    threads: int,
    implementation: Optional[str],
    inputs: _Inputs,
) -> _Engine:
    process = stack.enter_context(EngineProcess(label))
    facts = process.call("load_bundle", path=bundle, threads=threads, implementation=implementation)
    facts.update(process.call("first_run", input_ids=inputs.ids, lengths=inputs.lengths))
    return _Engine(process, Path(bundle).stat().st_size, facts)


def _load_comparison(
    stack: contextlib.ExitStack,
    comparison: Comparison,
    bundle: Union[str, Path],
    workdir: str,
    threads: int,
    inputs: _Inputs,
) -> _Engine:
    source = str(bundle if comparison.bundle is None else comparison.bundle)
    threads = threads if comparison.threads is None else comparison.threads
    if comparison.engine == OUR_ENGINE:
        return _load_engine(stack, comparison.label, source, threads, comparison.implementation, inputs)
    folder = Path(tempfile.mkdtemp(dir=workdir))
    with EngineProcess(comparison.label) as preparer:
        prepared = preparer.call(
            "prepare_baseline",
            name=comparison.engine,
            path=source,
            workdir=str(folder),
            batch_size=len(inputs.ids),
            sequence_length=len(inputs.ids[0]),
        )
    process = stack.enter_context(EngineProcess(comparison.label))
    facts = process.call(
        "load_baseline", name=comparison.engine, artifact=prepared["artifact"], threads=threads
    )
    facts.update(process.call("first_run", input_ids=inputs.ids, lengths=inputs.lengths))
    return _Engine(process, prepared["bytes"], facts)


def _take_turns(
    engines: Sequence[_Engine],
    rounds: int,
    duration: float,
    iterations: Optional[int],
    warmup: int,
    tell: Progress,
) -> Optional[Interference]:
    """Let the engines run in turn; which one begins changes from round to round.

    Returns:
        What else ran meanwhile.
    """
    watch = CpuWatch([os.getpid(), *(engine.process.pid for engine in engines)])
    rounds = rounds if iterations is None else min(rounds, iterations)
    seconds = duration / rounds if iterations is None else 0.0
    for number in range(rounds):
        tell("measuring", number, rounds)
        count = 1 if iterations is None else iterations // rounds + (number < iterations % rounds)
        shift = number % len(engines)
        for engine in [*engines[shift:], *engines[:shift]]:
            turn = engine.process.call("turn", seconds=seconds, iterations=count, warmup=warmup)
            engine.rounds.append(turn["nanoseconds"])
    tell("measuring", rounds, rounds)
    return watch.read()


def _profile_runs(engine: _Engine) -> int:
    """As many runs as take about a second, so that each op has some that nothing interferes with."""
    median = float(np.median([time for turn in engine.rounds for time in turn]))
    return int(np.clip(1e9 / median, 3, 200))


def _with_baselines(environment: Environment, engines: Sequence[_Engine]) -> Environment:
    versions = {engine.process.name: engine.facts["implementation"] for engine in engines}
    return dataclasses.replace(environment, packages={**environment.packages, **versions})
