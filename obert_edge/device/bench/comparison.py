"""What a benchmark compares our engine with: a baseline, or our engine under other conditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

#: How our own engine is called in a report.
ENGINE = "obert-edge"


@dataclass(frozen=True)
class Baseline:
    """One engine to compare with.

    Args:
        engine: a baseline's name, or :data:`ENGINE`: ours.
        bundle: what it runs; ``None``: the same bundle.
        threads: it may use; ``None``: as many as ours.
        implementation: of the kernels, when it is ours; ``None``: the best.
        name: what to call it; default: the engine with what is different about it.
    """

    engine: str
    bundle: Optional[Path] = None
    threads: Optional[int] = None
    implementation: Optional[str] = None
    name: str = ""

    @property
    def label(self) -> str:
        """What it is called in a report."""
        if self.name:
            return self.name
        parts = [self.engine]
        if self.bundle is not None:
            parts.append(f"of {self.bundle.stem}")
        if self.implementation is not None:
            parts.append(f"with {self.implementation}")
        if self.threads is not None:
            parts.append(f"on {self.threads} thread{'s' * (self.threads != 1)}")
        return " ".join(parts)


def choose_baselines(names: Sequence[Union[str, Baseline]]) -> List[Tuple[Baseline, bool]]:
    """Baselines by what the user named, each once, in order.

    Args:
        names: baselines, groups such as ``onnxruntime``, or baselines.

    Returns:
        Each baseline, and whether it must run: one that a group stands for may be missing.

    Raises:
        UsageError: an unknown baseline.
    """
    found: Dict[str, Tuple[Baseline, bool]] = {}
    for name in names:
        if isinstance(name, Baseline):
            if name.engine != ENGINE:
                _expand(name.engine)
            found[name.label] = (name, True)
            continue
        for full in _expand(name):
            required = full == name or (full in found and found[full][1])
            found[full] = (Baseline(full), required)
    return list(found.values())


def _expand(name: str) -> List[str]:
    # A device that only runs bundles never gets here, and need not read the baselines' modules.
    from obert_edge.device.bench.baselines import expand_baselines

    return expand_baselines(name)
