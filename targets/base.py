"""What a target is, and the registry of targets.

A target is a kind of machine a bundle is built for: the path of its engine library, which was compiled
beforehand, and what the compiler needs to know to choose a weight format for every layer. Another package
adds a target of its own with an entry point::

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

#: The targets of this package: name -> the module whose ``TARGET`` it is.
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
        path: the file, relative to ``targets/``; ``engine/...`` for a file of the engine.
        flags: compiler flags of this file alone, such as its instruction set.
    """

    path: str
    flags: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A kind of machine to build bundles for.

    Args:
        name: what ``--target`` takes.
        description: one line about it, for people.
        triple: zig's name of the machine, with the oldest glibc that the library runs on.
        library: path of the compiled engine library.
        sources: the files that the library is compiled from.
        implementations: names of its kernel implementations (rows of
            ``engine/kernels/implementations.inc``), the best first.
        format_costs: what each weight format costs here. The compiler uses only the formats named.
        reference: what one thread of a reference machine of this target can do, measured. ``inspect``
            predicts with it how fast a bundle will be, on a machine that need not be at hand: an op takes at
            least its roofline bound by these peaks, divided by the part of it that such ops reach. The
            bundle's manifest carries it; empty: no prediction. ``tools/bench/target.py`` prints it. Keys:

            * those of ``Peaks.to_dict`` (``device/roofline/peaks.py``): peak rates, in multiply-adds or
              bytes per nanosecond;
            * ``reached_KIND`` for each kind of op, such as ``reached_Linear``: the part of its bound, 0 to 1,
              that ops of this kind reached in a whole model.
        boards: the boards it may run on that differ in cores or caches, with the threads and the bytes of
            cache to plan for on each. The bundle carries them, and the runner looks up its own.
        outlook: gives the lines that ``build`` prints of a new bundle, such as the least time that each
            board can need; ``None``: nothing to say.
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
    """Names of all targets, those of this package first."""
    return tuple(_OWN) + tuple(sorted(name for name in _entry_points() if name not in _OWN))


def get_target(name: str) -> Target:
    """The target called ``name``, of this package or of an installed one.

    Raises:
        UsageError: no target has that name, its package cannot be imported, or the entry point does not give
            a :class:`Target`.
    """
    if name in _OWN:
        found = importlib.import_module(_OWN[name]).TARGET
    else:
        entry_points = _entry_points()
        if name not in entry_points:
            raise UsageError(
                f"there is no target {name!r}; there are: {', '.join(available_targets())}",
                hint="pass one of them to --target (in Python target=), or install the package that provides "
                "it",
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
    """The path of a target's compiled engine library, which is there.

    Raises:
        UsageError: the library was not compiled.
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
