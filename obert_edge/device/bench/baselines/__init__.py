"""Baselines: other engines that run the model of a bundle, dense, and that a speed-up is measured against.

Every baseline is made from the bundle alone (no torch, no checkpoint) and has exactly the bundle's weights,
zeros included: the question they answer is how fast the *same* model would be elsewhere.

To add one, write a file beside this one with its classes (see ``base.Baseline``) and give it a row in
:data:`ENGINES`. The command line, its help, ``doctor`` and ``bench`` take everything else from there.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Mapping

from obert_edge.errors import UsageError

if TYPE_CHECKING:
    from obert_edge.device.bench.baselines.base import Baseline


@dataclass(frozen=True)
class Engine:
    """One engine, and the baselines that run on it.

    Args:
        title: what the engine's makers call it.
        module: the file beside this one.
        baselines: name of a baseline -> its class in that file.
    """

    title: str
    module: str
    baselines: Mapping[str, str]

    def create(self, name: str) -> Baseline:
        """The baseline of that name; its packages are not imported yet."""
        module = importlib.import_module(f"{__name__}.{self.module}")
        created: Baseline = getattr(module, self.baselines[name])()
        return created


#: Name of an engine, which on the command line stands for all of its baselines -> the engine.
ENGINES: Dict[str, Engine] = {
    "onnxruntime": Engine(
        "ONNX Runtime",
        "onnxruntime_cpu",
        {"onnxruntime-fp32": "OnnxRuntimeFp32", "onnxruntime-int8": "OnnxRuntimeInt8"},
    ),
    "litert": Engine("LiteRT", "litert", {"litert-fp32": "LiteRtFp32", "litert-int8": "LiteRtInt8"}),
    "openvino": Engine(
        "OpenVINO", "openvino_cpu", {"openvino-fp32": "OpenVinoFp32", "openvino-int8": "OpenVinoInt8"}
    ),
}
#: Every baseline.
NAMES: List[str] = [name for engine in ENGINES.values() for name in engine.baselines]


def get_baseline(name: str) -> Baseline:
    """The baseline of that name; its packages are not imported yet.

    Raises:
        UsageError: there is none.
    """
    for engine in ENGINES.values():
        if name in engine.baselines:
            return engine.create(name)
    raise _unknown(name)


def expand_baselines(name: str) -> List[str]:
    """The baselines that a name given by the user stands for.

    Args:
        name: a baseline such as ``onnxruntime-int8``, or an engine such as ``onnxruntime``.

    Raises:
        UsageError: it is neither.
    """
    if name in ENGINES:
        return list(ENGINES[name].baselines)
    if name in NAMES:
        return [name]
    raise _unknown(name)


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"there is no baseline {name!r}; known are {', '.join([*ENGINES, *NAMES])}",
        hint="name one of them, for instance `--baseline onnxruntime`",
    )
