"""What a benchmark found, as data, as JSON and as text."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from obert_edge.device.bench.environment import Environment
from obert_edge.device.bench.interference import Interference
from obert_edge.device.roofline.profile import Profile
from obert_edge.device.text_table import megabytes, milliseconds, text_table
from obert_edge.errors import UnsupportedDeviceError, UsageError, VerificationError

#: Runs that a turn must have for its 99th percentile to be more than its slowest run.
TAIL_RUNS = 100


@dataclass(frozen=True)
class Latency:
    """Times of single runs, in milliseconds.

    Args:
        p50: 50th percentile, the median, of all runs.
        p90: 90th percentile of all runs.
        p99: 99th percentile of all runs.
        min: the fastest run.
        mean: over all runs.
        runs: how many there were.
        tail: p99 over p50 within a turn, the median over turns: what delays single runs, however fast the
            machine was in each turn. ``None`` where turns have less than ``TAIL_RUNS`` runs.
    """

    p50: float
    p90: float
    p99: float
    min: float
    mean: float
    runs: int
    tail: Optional[float] = None

    @classmethod
    def from_turns(cls, turns: Sequence[Sequence[int]]) -> Latency:
        """Summarize the times of all runs.

        Args:
            turns: nanoseconds of the runs of each turn.
        """
        times = np.concatenate([np.asarray(turn, np.float64) for turn in turns]) / 1e6
        p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
        tail = None
        if min(len(turn) for turn in turns) >= TAIL_RUNS:
            tail = float(np.median([np.percentile(turn, 99) / np.median(turn) for turn in turns]))
        return cls(p50, p90, p99, float(times.min()), float(times.mean()), len(times), tail)


@dataclass(frozen=True)
class Measurement:
    """One engine's part of a benchmark.

    Args:
        name: ``obert-edge`` or a baseline's name.
        implementation: what ran: the kernels of ours, the version of another.
        latency_ms: of single runs.
        throughput: sequences per second at the median.
        load_ms: from the file to an engine ready to run, imports not counted.
        first_run_ms: the first run, which may still compile or allocate.
        peak_memory: bytes resident at most, in its own process, Python and libraries included.
        start_memory: bytes resident at most before loading (Python, numpy and the engine's own package).
        model_bytes: size of the file it loads.
    """

    name: str
    implementation: str
    latency_ms: Latency
    throughput: float
    load_ms: float
    first_run_ms: float
    peak_memory: Optional[int]
    start_memory: Optional[int]
    model_bytes: int


@dataclass(frozen=True)
class Ratio:
    """Time of a baseline over the time of ours, paired round by round.

    Args:
        median: over rounds of (median of the baseline's runs) / (median of ours).
        low: 5th percentile over rounds.
        high: 95th percentile.
        rounds: how many there were.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def significant(self) -> bool:
        """Whether the spread leaves no doubt about which is faster."""
        return self.low > 1.0 or self.high < 1.0

    @classmethod
    def from_rounds(cls, ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> Ratio:
        """Pair the rounds of two engines.

        Args:
            ours: nanoseconds of the runs of each round.
            theirs: the same of the baseline.
        """
        ratios = [float(np.median(b)) / float(np.median(a)) for a, b in zip(ours, theirs)]
        low, middle, high = (float(value) for value in np.percentile(ratios, [5, 50, 95]))
        return cls(middle, low, high, len(ratios))


@dataclass(frozen=True)
class Report:
    """The result of :func:`obert_edge.device.bench.benchmark.benchmark`.

    Args:
        bundle: facts of the bundle: path, bytes, target, shape; sparsity (0..1) of all linears and
            of those of the encoder's layers.
        batch_size: sequences per run.
        sequence_length: tokens per sequence; of the longest where ``lengths`` differ.
        threads: of every engine.
        engine: what was measured of ours.
        baselines: what was measured of each baseline, by name.
        ratios: time of each baseline over ours, by name; empty under emulation.
        missing: names of the baselines that did not run, each with why.
        environment: what the machine was like before the first round.
        temperature_after_c: of the hottest thermal zone after the last round, degrees Celsius.
        throttled_after: a Raspberry Pi's throttling word after the last round.
        profile: time per op of ours, when asked for.
        lengths: tokens of each sequence, where they differ.
        interference: what else ran during the rounds; ``None`` where the system does not tell.
    """

    bundle: Dict[str, Any]
    batch_size: int
    sequence_length: int
    threads: int
    engine: Measurement
    baselines: Dict[str, Measurement]
    ratios: Dict[str, Ratio]
    missing: Dict[str, str]
    environment: Environment
    temperature_after_c: Optional[float] = None
    throttled_after: Optional[str] = None
    profile: Optional[Profile] = field(default=None)
    lengths: Optional[List[int]] = None
    interference: Optional[Interference] = None

    @property
    def latency_ms(self) -> Latency:
        """Latency of our engine."""
        return self.engine.latency_ms

    @property
    def speedup(self) -> Dict[str, float]:
        """Median ratio by baseline: how many times faster ours is."""
        return {name: ratio.median for name, ratio in self.ratios.items()}

    def require(self, min_speedup: Union[float, Mapping[str, float]]) -> None:
        """Fail unless ours is as many times faster as asked.

        Args:
            min_speedup: for the first baseline that ran; or by baseline.

        Raises:
            VerificationError: a speed-up is smaller.
            UnsupportedDeviceError: this machine is emulated.
            UsageError: the baseline it is about did not run.
        """
        if self.environment.emulation:
            raise UnsupportedDeviceError(
                f"speed-up cannot be measured: {self.environment.emulation}", hint="run bench on the device"
            )
        if not isinstance(min_speedup, Mapping):
            if not self.ratios:
                raise UsageError(
                    "a least speed-up needs a baseline, and none ran", hint="add `--baseline onnxruntime`"
                )
            min_speedup = {next(iter(self.ratios)): min_speedup}
        for name, least in min_speedup.items():
            if name not in self.ratios:
                raise UsageError(
                    f"no speed-up over {name!r} was measured; measured: {', '.join(self.ratios) or 'none'}",
                    hint=self.missing.get(name) or f"add `--baseline {name}`",
                )
            if self.ratios[name].median < least:
                raise VerificationError(
                    f"the speed-up over {name} is {self.ratios[name].median:.2f}, less than {least:g}",
                    hint="prune further, choose 4x1 blocks, or look at `bench --profile`",
                )

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON; besides the fields, ``latency_ms`` and ``speedup``."""
        values = dataclasses.asdict(self)
        values["profile"] = self.profile.to_dict() if self.profile else None
        values["latency_ms"] = dataclasses.asdict(self.latency_ms)
        values["speedup"] = self.speedup
        for name, ratio in self.ratios.items():
            values["ratios"][name]["significant"] = ratio.significant
        return values

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), indent=1)

    def to_text(self, *, plain: bool = False) -> str:
        """Tables and remarks for people.

        Args:
            plain: do not use rich even where it is installed.
        """
        lines = [self._title(), "", self._table(plain), ""]
        lines += [f"{name}: {reason}" for name, reason in self.missing.items()]
        lines += self._environment()
        if self.profile is not None:
            lines += ["", self.profile.to_text(plain=plain)]
        return "\n".join(lines)

    def _title(self) -> str:
        facts = self.bundle
        return (
            f"{facts['path']}: {facts['layers']} layers, H={facts['hidden']}, "
            f"{100 * facts['encoder_sparsity']:.0f} % sparse in the linears of the layers, "
            f"target {facts['target']}\n"
            f"batch size {self.batch_size}, sequence length {self._length()}, "
            f"{self.threads} thread{'s' * (self.threads != 1)}, {self.engine.latency_ms.runs} runs"
        )

    def _length(self) -> str:
        if self.lengths is None:
            return str(self.sequence_length)
        return f"{min(self.lengths)} to {max(self.lengths)} ({sum(self.lengths)} tokens in all)"

    def _table(self, plain: bool) -> str:
        headers = ["", "p50 ms", "p90", "p99", "min", "seq/s", "load ms", "memory", "file", "we are faster"]
        rows = [
            [
                f"{measured.name} {measured.implementation}".strip(),
                milliseconds(measured.latency_ms.p50),
                milliseconds(measured.latency_ms.p90),
                milliseconds(measured.latency_ms.p99),
                milliseconds(measured.latency_ms.min),
                f"{measured.throughput:.1f}",
                f"{measured.load_ms:.0f}",
                megabytes(measured.peak_memory) if measured.peak_memory else "?",
                megabytes(measured.model_bytes),
                self._ratio(measured.name),
            ]
            for measured in [self.engine, *self.baselines.values()]
        ]
        return text_table(headers, rows, plain=plain)

    def _ratio(self, name: str) -> str:
        if name not in self.ratios:
            return ""
        ratio = self.ratios[name]
        spread = f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"
        return spread if ratio.significant else f"{spread}, not significant"

    def _environment(self) -> List[str]:
        env = self.environment
        lines = [f"{env.cpu}, {env.cpus} CPUs, {' '.join(env.features) or env.architecture}", env.system]
        lines.append(
            f"Python {env.python}, "
            + ", ".join(f"{name} {version}" for name, version in env.packages.items())
        )
        lines.append(f"governor {env.governor or 'unknown'}, temperature {self._temperature()}")
        if self.interference is not None:
            repeat = "WARNING: repeat this on a quiet machine: " if self.interference.significant else ""
            lines.append(repeat + self.interference.to_text())
        if self.throttled_after not in (None, "0x0"):
            lines.append(
                f"WARNING: the board reports throttling ({self.throttled_after}); cool it and repeat"
            )
        if env.emulation:
            lines.append(f"WARNING: {env.emulation}: these times say nothing, and no speed-up is given")
        return lines

    def _temperature(self) -> str:
        def degrees(value: Optional[float]) -> str:
            return "unknown" if value is None else f"{value:.0f} C"

        return f"{degrees(self.environment.temperature_c)} before, {degrees(self.temperature_after_c)} after"


def paired_ratios(
    ours: Sequence[Sequence[int]], others: Mapping[str, Sequence[Sequence[int]]]
) -> Dict[str, Ratio]:
    """The ratio of every baseline's rounds to ours."""
    return {name: Ratio.from_rounds(ours, rounds) for name, rounds in others.items()}
