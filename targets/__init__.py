"""Targets: the kinds of machines bundles are built for, each with its kernels beside it."""

from obert_edge.targets.base import (
    FormatCost,
    Source,
    Target,
    available_targets,
    get_target,
    library_path,
)

__all__ = ["FormatCost", "Source", "Target", "available_targets", "get_target", "library_path"]
