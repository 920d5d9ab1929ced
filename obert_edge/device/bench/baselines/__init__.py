"""Other engines that run the model of a bundle, dense: what a speed-up is measured against.

Every baseline is made from the bundle alone (no torch, no checkpoint) and has exactly the bundle's weights,
zeros included: the question they answer is how fast the *same* model would be elsewhere.
"""

from __future__ import annotations

from typing import Callable, Dict, List

from obert_edge.device.bench.baselines.base import BaselineRunner, Run
from obert_edge.errors import UsageError

__all__ = ["GROUPS", "NAMES", "BaselineRunner", "Run", "expand_baselines", "get_baseline"]

#: Names that stand for several baselines.
GROUPS: Dict[str, List[str]] = {
    "onnxruntime": ["onnxruntime-fp32", "onnxruntime-int8"],
    "litert": ["litert-fp32", "litert-int8"],
    "openvino": ["openvino-fp32", "openvino-int8"],
}
#: Every baseline.
NAMES: List[str] = [name for names in GROUPS.values() for name in names]


def get_baseline(name: str) -> BaselineRunner:
    """The baseline of that name; its package is not imported yet.

    Raises:
        UsageError: there is none.
    """
    from obert_edge.device.bench.baselines import litert, onnxruntime_cpu, openvino_cpu

    makers: Dict[str, Callable[[], BaselineRunner]] = {
        maker.name: maker
        for maker in (
            onnxruntime_cpu.OnnxRuntimeFp32,
            onnxruntime_cpu.OnnxRuntimeInt8,
            litert.LiteRtFp32,
            litert.LiteRtInt8,
            openvino_cpu.OpenVinoFp32,
            openvino_cpu.OpenVinoInt8,
        )
    }
    if name not in makers:
        raise _unknown(name)
    return makers[name]()


def expand_baselines(name: str) -> List[str]:
    """The baselines a name given by the user stands for.

    Args:
        name: a baseline, or a group such as ``onnxruntime``.

    Raises:
        UsageError: it is neither.
    """
    if name in GROUPS:
        return list(GROUPS[name])
    if name in NAMES:
        return [name]
    raise _unknown(name)


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"there is no baseline {name!r}; known are {', '.join([*GROUPS, *NAMES])}",
        hint="name one of them, for instance `--baseline onnxruntime`",
    )
