"""What a benchmark compares our engine with: a baseline, or our engine again, under stated conditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from obert_edge.device.bench.baselines import expand_baselines

#: What our own engine is called in a report.
OUR_ENGINE = "obert-edge"


@dataclass(frozen=True)
class Comparison:
    """One engine to compare with, and what is different about how it runs.

    Args:
        engine: the name of a baseline, or :data:`OUR_ENGINE`.
        bundle: the ``.oeb`` file it runs; ``None``: the one that is measured.
        threads: how many it may use; ``None``: as many as ours.
        implementation: name of the kernels, when it is our engine; ``None``: the best.
        name: what to call it in the report; default: the engine with what is different about it.
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


def choose_comparisons(wanted: Sequence[Union[str, Comparison]]) -> List[Tuple[Comparison, bool]]:
    """What the user asked to compare with, each once, in order.

    Args:
        wanted: names of baselines, names of engines such as ``onnxruntime`` (all of its baselines), or
            comparisons.

    Returns:
        Each comparison, and whether it must run: a baseline that only the name of its engine stands for may
        be missing.

    Raises:
        UsageError: an unknown baseline.
    """
    found: Dict[str, Tuple[Comparison, bool]] = {}
    for item in wanted:
        if isinstance(item, Comparison):
            if item.engine != OUR_ENGINE:
                expand_baselines(item.engine)
            found[item.label] = (item, True)
            continue
        for name in expand_baselines(item):
            required = name == item or (name in found and found[name][1])
            found[name] = (Comparison(name), required)
    return list(found.values())
