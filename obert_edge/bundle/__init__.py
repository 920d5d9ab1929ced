"""The bundle format: compiled graph, packed weights, manifest and the file that holds them."""

from __future__ import annotations

from obert_edge.bundle.container import Bundle, write_bundle
from obert_edge.bundle.manifest import Manifest
from obert_edge.bundle.packing import pack_linear, unpack_linear
from obert_edge.bundle.program import Program

__all__ = ["Bundle", "Manifest", "Program", "pack_linear", "unpack_linear", "write_bundle"]
