"""Checkpoint to bundle: import, fuse, quantise, pack, plan, write."""

from __future__ import annotations

from obert_edge.compiler.build import build

__all__ = ["build"]
