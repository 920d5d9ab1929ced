"""The stages over model folders: trim, fine-tune, drop layers, transfer, prune, quantize, build.

A stage reads a model folder and writes another (or a bundle), whole or not at all. Each is a class in a
module of its name (``stage_prune``), all are listed in order in ``recipe``, and one ``runner`` gives them
their folders, goes on where they were interrupted, and writes their reports.

Importing this package does not import torch: names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from obert_edge.host.stages.compression import compress as compress
    from obert_edge.host.stages.evaluation import evaluate as evaluate
    from obert_edge.host.stages.planning import describe as describe
    from obert_edge.host.stages.planning import plan as plan
    from obert_edge.host.stages.runner import run_stage as run_stage
    from obert_edge.host.stages.stage_drop import drop_layers as drop_layers
    from obert_edge.host.stages.stage_finetune import finetune as finetune
    from obert_edge.host.stages.stage_prune import prune as prune
    from obert_edge.host.stages.stage_quantize import quantize as quantize
    from obert_edge.host.stages.stage_transfer import transfer as transfer
    from obert_edge.host.stages.stage_trim import trim_vocabulary as trim_vocabulary

# A module must not be called like its function: importing it would hide the function.
_HOMES = {
    "compress": "compression",
    "describe": "planning",
    "drop_layers": "stage_drop",
    "evaluate": "evaluation",
    "finetune": "stage_finetune",
    "plan": "planning",
    "prune": "stage_prune",
    "quantize": "stage_quantize",
    "run_stage": "runner",
    "transfer": "stage_transfer",
    "trim_vocabulary": "stage_trim",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a function from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *_HOMES])
