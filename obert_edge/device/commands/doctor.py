"""What this machine can run, and the fix for each thing that stands in the way."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

import numpy as np

from obert_edge.bundle.container import TOKENIZER, Bundle
from obert_edge.device.bench.baselines import ENGINES
from obert_edge.device.runtime import machine
from obert_edge.device.runtime.board import default_threads, find_board
from obert_edge.device.runtime.library import find_library, installed_library
from obert_edge.device.runtime.native import Library
from obert_edge.device.runtime.preflight import free_memory, needed_memory, require_memory, throttling
from obert_edge.device.text_table import megabytes
from obert_edge.device.tokenizers import titles
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import ObertEdgeError, UnsupportedDeviceError

#: From harmless to fatal.
SEVERITIES = ("ok", "info", "warning", "error")

#: Instructions the kernels use, by architecture, the most useful first; the last is what they all need.
_USEFUL_FEATURES: Dict[str, Tuple[str, ...]] = {
    "x86_64": ("avx512_vnni", "avx_vnni", "avx2"),
    "aarch64": ("i8mm", "asimddp", "asimd"),
    "armv7l": ("neon",),
}
_OLDEST_PYTHON = (3, 9)
_OLDEST_NUMPY = (1, 19)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        severity: ``ok``, ``info``, ``warning`` (slower, or partly unusable) or ``error`` (does not run).
        subject: what was looked at.
        found: what was found.
        fix: what to do; empty when nothing is wrong.
    """

    severity: str
    subject: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order they were made."""

    findings: List[Finding]

    @property
    def worst(self) -> str:
        """The highest severity."""
        return max((finding.severity for finding in self.findings), key=SEVERITIES.index, default="ok")

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return {"worst": self.worst, "findings": [dataclasses.asdict(finding) for finding in self.findings]}

    def to_text(self) -> str:
        """Lines for people."""
        lines: List[str] = []
        for finding in self.findings:
            lines.append(f"{finding.severity:8}{finding.subject}: {finding.found}")
            if finding.fix:
                lines.append(f"{'':8}fix: {finding.fix}")
        return "\n".join(lines)


def doctor(path: Optional[Union[str, Path]] = None) -> Diagnosis:
    """Examine this machine, and whether it can run a bundle.

    Args:
        path: a bundle, or ``None``: only the machine and what is installed.

    Returns:
        Findings; nothing is raised for what is wrong with the machine or the bundle.
    """
    findings: List[Finding] = []
    checks: List[Callable[[], Iterator[Finding]]] = [
        _check_python,
        _check_cpu,
        _check_clock,
        _check_container,
        _check_tokenizers,
        _check_baselines,
    ]
    for check in checks:
        findings += check()
    findings += _check_library() if path is None else _check_bundle(Path(path))
    return Diagnosis(findings)


def _check_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield Finding("error", "Python", version, "install Python 3.9 or newer")
    else:
        yield Finding("ok", "Python", version)
    numbers = tuple(int(part) for part in np.__version__.split(".")[:2])
    if numbers < _OLDEST_NUMPY:
        yield Finding("error", "numpy", np.__version__, "run `pip install -U numpy`")
    else:
        yield Finding("ok", "numpy", np.__version__)


def _check_cpu() -> Iterator[Finding]:
    architecture, features = machine.architecture(), machine.cpu_features()
    found = f"{machine.cpu_model()} ({architecture}; {' '.join(features) or 'no known features'})"
    useful = _USEFUL_FEATURES.get(architecture)
    if useful is None:
        yield Finding("error", "CPU", found, "use an x86-64 or ARM system; others are not supported")
    elif useful[-1] not in features:
        yield Finding(
            "warning", "CPU", found, f"only scalar kernels run without {useful[-1]}: expect no speed-up"
        )
    elif len(useful) == 1:
        yield Finding(
            "info",
            "CPU",
            f"{found}; 32-bit: a slower engine, and neither ONNX Runtime nor LiteRT to compare with",
            "use a 64-bit system (Raspberry Pi OS 64-bit) where the board has one",
        )
    elif not any(feature in features for feature in useful[:-1]):
        yield Finding("info", "CPU", f"{found}; no 8-bit dot product ({' or '.join(useful[:-1])})")
    else:
        yield Finding("ok", "CPU", found)
    reason = machine.emulation()
    if reason:
        yield Finding(
            "warning", "emulation", reason, "results are right, but measure times on the real device"
        )


def _check_clock() -> Iterator[Finding]:
    governor = machine.governor()
    if governor in ("powersave", "conservative"):
        yield Finding(
            "warning",
            "frequency governor",
            governor,
            "run `echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor`",
        )
    elif governor:
        yield Finding("ok", "frequency governor", governor)
    degrees = machine.temperature()
    if degrees is not None:
        hot = degrees >= 80
        fix = "cool the board: it lowers its clock from about 80 C" if hot else ""
        yield Finding("warning" if hot else "ok", "temperature", f"{degrees:.0f} C", fix)
    word = machine.throttled()
    if word not in (None, "0x0"):
        yield Finding(
            "warning",
            "throttling",
            f"the board reports {word}: {', '.join(throttling(word)) or 'unknown bits'}",
            "use a stronger power supply and a cooler, then restart the board",
        )
    elif word is not None:
        yield Finding("ok", "throttling", "none since the board started")


def _check_container() -> Iterator[Finding]:
    threads, total = machine.available_threads(), os.cpu_count() or 1
    quota = machine.cpu_quota()
    limits = f"{threads} of {total} CPUs" + (f", quota {quota:g}" if quota else "")
    slow = machine.slow_cpus()
    if slow and threads == machine.affinity() - slow:
        yield Finding("ok", "threads", f"{limits}; {slow} slower ones would hold these up")
    elif threads < total:
        yield Finding("info", "threads", limits, "raise the container's or taskset's limit to use more")
    else:
        yield Finding("ok", "threads", limits)
    free = free_memory()
    if free is not None:
        yield Finding("ok", "memory", f"{megabytes(free)} available")


def _check_tokenizers() -> Iterator[Finding]:
    if importlib.util.find_spec("tokenizers") is not None:
        yield Finding("ok", "tokenizers", "installed")
        return
    yield Finding(
        "info",
        "tokenizers",
        f"not installed; {titles()} run in plain Python, more slowly",
        "run `pip install tokenizers`",
    )


def _check_baselines() -> Iterator[Finding]:
    for engine in ENGINES.values():
        needed: Dict[str, str] = {}  # distribution -> the module that bench imports from it
        for name in engine.baselines:
            baseline = engine.create(name)
            for module, distribution in (baseline.engine, baseline.converter):
                needed.setdefault(distribution, module.partition(".")[0])
        missing = {
            distribution: module
            for distribution, module in needed.items()
            if importlib.util.find_spec(module) is None
        }
        if missing:
            yield Finding(
                "info",
                f"baseline {engine.title}",
                f"{' and '.join(missing.values())} not installed: bench cannot compare with it",
                f"run `pip install {' '.join(missing)}`",
            )
        else:
            found = f"{' and '.join(needed.values())} installed"
            yield Finding("ok", f"baseline {engine.title}", found)


def _check_library() -> Iterator[Finding]:
    library = installed_library()
    if library is None:
        yield Finding(
            "info",
            "engine",
            f"none is installed for {machine.architecture()}",
            "name a bundle (it carries its own), or reinstall obert-edge",
        )
    else:
        yield _implementations(library, "installed")


def _implementations(library: Library, where: str) -> Finding:
    names = library.implementations()
    forced = os.environ.get("OBERT_EDGE_IMPLEMENTATION")
    if forced and forced not in names:
        return Finding(
            "error",
            "engine",
            f"OBERT_EDGE_IMPLEMENTATION is {forced!r}; this CPU runs {', '.join(names)}",
            "unset OBERT_EDGE_IMPLEMENTATION",
        )
    chosen = forced or names[0]
    others = f", also {', '.join(name for name in names if name != chosen)}" if len(names) > 1 else ""
    return Finding("ok", "engine", f"{where}; runs {chosen}{others}")


def _check_bundle(path: Path) -> Iterator[Finding]:
    try:
        with Bundle.open(path, "full") as bundle:
            count = len(bundle.manifest.members)
            yield Finding("ok", "bundle", f"{path}: {count} members have the hashes the manifest gives")
            yield _check_memory(bundle)
            yield from _check_board(bundle)
            installed = installed_library()
            library = find_library(bundle)
            yield _implementations(library, "installed" if library is installed else "the bundle's own")
            if TOKENIZER in bundle:
                backend = Tokenizer(bytes(bundle.member(TOKENIZER))).backend
                yield Finding("ok", "bundle's tokenizer", f"runs in {backend}")
            else:
                yield Finding(
                    "info",
                    "bundle's tokenizer",
                    "none: predict() cannot take texts",
                    "build from a folder that has one",
                )
    except ObertEdgeError as error:
        yield Finding("error", type(error).__name__, error.message, error.hint)


def _check_board(bundle: Bundle) -> Iterator[Finding]:
    board = find_board(bundle.manifest.boards)
    if board is None:
        return
    tiles = f"linears in tiles for {board.cache >> 10} KB of cache each" if board.cache else "no tiles"
    yield Finding("ok", "board", f"{machine.board_model()}: {default_threads(board)} threads, {tiles}")


def _check_memory(bundle: Bundle) -> Finding:
    try:
        require_memory(bundle)
    except UnsupportedDeviceError as error:
        return Finding("error", "bundle's memory", error.message, error.hint)
    return Finding("ok", "bundle's memory", f"needs about {megabytes(needed_memory(bundle))}")
