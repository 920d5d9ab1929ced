"""Data sets, features and metrics per task; no torch, no transformers."""

from __future__ import annotations

from obert_edge.host.data.base import Answer, Feature, Task
from obert_edge.host.data.registry import load_task
from obert_edge.host.data.tokenizers import load_tokenizer

__all__ = ["Answer", "Feature", "Task", "load_task", "load_tokenizer"]
