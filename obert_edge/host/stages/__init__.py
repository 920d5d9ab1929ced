"""The stages over model folders: trim, fine-tune, drop layers, transfer, prune, quantize, evaluate, compress.

A stage reads a model folder and writes a model folder, whole or not at all. Importing this
package does not import torch: names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from obert_edge.host.stages.compression import compress as compress
    from obert_edge.host.stages.dropping import drop_layers as drop_layers
    from obert_edge.host.stages.evaluation import evaluate as evaluate
    from obert_edge.host.stages.finetuning import finetune as finetune
    from obert_edge.host.stages.finetuning import transfer as transfer
    from obert_edge.host.stages.planning import describe as describe
    from obert_edge.host.stages.planning import plan as plan
    from obert_edge.host.stages.pruning import prune as prune
    from obert_edge.host.stages.quantizing import quantize as quantize
    from obert_edge.host.stages.trimming import trim_vocabulary as trim_vocabulary

# Modules are not called like their functions: importing one would hide the function.
_HOMES = {
    "compress": "compression",
    "describe": "planning",
    "drop_layers": "dropping",
    "evaluate": "evaluation",
    "finetune": "finetuning",
    "plan": "planning",
    "prune": "pruning",
    "quantize": "quantizing",
    "transfer": "finetuning",
    "trim_vocabulary": "trimming",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a stage's function from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *_HOMES])
