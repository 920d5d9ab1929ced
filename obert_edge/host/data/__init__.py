"""Tasks: data sets, the features a model reads, and metrics of its answers; no torch, no transformers.

``load_tokenizer`` makes the tokenizer that :meth:`Task.features` takes; it belongs to ``host/checkpoints``.
"""

from __future__ import annotations

from obert_edge.host.checkpoints.tokenizer_files import load_tokenizer
from obert_edge.host.data.base import Answer, Feature, Task
from obert_edge.host.data.registry import load_task

__all__ = ["Answer", "Feature", "Task", "load_task", "load_tokenizer"]
