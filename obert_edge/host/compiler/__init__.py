"""Checkpoint to bundle: import the float graph, fuse, quantize, pack, plan, and write the bundle."""

from __future__ import annotations

from obert_edge.host.compiler.build import build

__all__ = ["build"]
