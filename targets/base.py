"""What a target is, and the registry of targets.

A target is a kind of machine a bundle is built for: its engine library, compiled beforehand, and what the
compiler needs to know to choose weight formats for it. Third parties add their own with an entry point::

    [project.entry-points."obert_edge.targets"]
    my-board = "my_package.target:TARGET"
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from obert_edge.bundle.manifest import BoardFacts, Manifest
from obert_edge.bundle.program import WeightFormat
from obert_edge.device.roofline.format_cost import FormatCost as FormatCost
from obert_edge.errors import UsageError

ENTRY_POINT_GROUP = "obert_edge.targets"

#: Our own targets: name -> module with a TARGET.
_OWN = {
    "x86": "obert_edge.targets.x86_avx",
    "arm64": "obert_edge.targets.arm_neon",
    "rpi": "obert_edge.targets.raspberry_pi",
    "armhf": "obert_edge.targets.armhf",
}


@dataclass(frozen=True)
class Source:
    """One C++ file of a target's library.

    Args:
        path: relative to ``targets/``, or ``engine/...`` for a file of the engine.
        flags: compiler flags beyond the common ones, such as the instruction set.
    """

    path: str
    flags: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A kind of machine to build bundles for.

    Args:
        name: what ``--target`` takes.
        description: one line for people.
        triple: zig's name of the machine, with the oldest glibc the library runs on.
        library: path of the compiled engine library.
        sources: what the library is compiled from.
        implementations: names of its kernel implementations, best first.
        format_costs: time of each weight format; the packer uses only formats named here.
        reference: numbers of one thread of the machine the costs were measured on, for estimates: its
            peaks (``Peaks.to_dict`` of ``device/roofline/peaks.py``, units per nanosecond) and
            ``reached_KIND``, the part of its bound that an op of that kind reached.
            ``tools/bench/target.py`` prints them.
        boards: kinds of boards it may run on, and the threads and the cache to plan for on each; the bundle
            carries them.
        outlook: what to tell people of a new bundle, such as what its boards can do at best.
    """

    name: str
    description: str
    triple: str
    library: Path
    sources: Tuple[Source, ...]
    implementations: Tuple[str, ...]
    format_costs: Mapping[WeightFormat, FormatCost]
    reference: Mapping[str, float] = field(default_factory=dict)
    boards: Tuple[BoardFacts, ...] = ()
    outlook: Optional[Callable[[Manifest], str]] = None


def available_targets() -> Tuple[str, ...]:
    """Names of all targets, ours first."""
    return tuple(_OWN) + tuple(sorted(name for name in _entry_points() if name not in _OWN))


def get_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: there is no such target, or its package does not provide one.
    """
    if name in _OWN:
        found = importlib.import_module(_OWN[name]).TARGET
    else:
        entry_points = _entry_points()
        if name not in entry_points:
            raise UsageError(
                f"there is no target {name!r}; there are: {', '.join(available_targets())}",
                hint="pass one of them to --target, or install the package that provides it",
            )
        try:
            found = entry_points[name].load()
        except Exception as error:
            raise UsageError(
                f"the target {name!r} could not be loaded from {entry_points[name].value}: {error}",
                hint="repair or reinstall the package that provides it",
            ) from error
    if not isinstance(found, Target):
        raise UsageError(
            f"the target {name!r} is a {type(found).__name__}, not an obert_edge.targets.Target",
            hint="report this to the package that provides it",
        )
    return found


def library_path(target: Target) -> Path:
    """The target's compiled engine library.

    Raises:
        UsageError: it was not compiled.
    """
    if not target.library.is_file():
        raise UsageError(
            f"the engine library of target {target.name!r} is not there: {target.library}",
            hint="reinstall obert-edge, or in a checkout run `python targets/build.py`",
        )
    return target.library


def _entry_points() -> Dict[str, Any]:
    if sys.version_info >= (3, 10):
        found = metadata.entry_points(group=ENTRY_POINT_GROUP)
    else:
        found = metadata.entry_points().get(ENTRY_POINT_GROUP, [])
    return {entry_point.name: entry_point for entry_point in found}
