"""Checkpoint to bundle: import, fuse, quantize, pack, plan, write."""

from __future__ import annotations

from obert_edge.host.compiler.build import build

__all__ = ["build"]
