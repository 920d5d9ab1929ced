"""The format of ``quantization.json``: its version, and what its quantizers are called.

``scales.py`` reads the file, ``host/quantization/checkpoint.py`` writes it, ``sparseml.py`` makes its content
from another tool's checkpoint. docs/architecture.md describes it; its key ``"sites"`` holds the quantizers.
"""

from __future__ import annotations

from typing import Tuple

from obert_edge.bundle.program import RowFormat

FILE = "quantization.json"
#: Version 2 added ``weights``: scales that linears were trained with, in place of the rule's.
#: Version 3 added ``embeddings`` other than ``int8``.
#: Version 4 added the activations ``mixed``. A writer uses the oldest that says all it has to say,
#: since a reader of an older version would pass over what it does not know.
FORMATS = (1, 2, 3, 4)
#: How the inputs of linears are quantized: with one scale from a file, or with one per token on the device.
ACTIVATIONS = ("static", "dynamic")
#: Some linears in one way, some in the other: those without a quantizer in the file have a scale per token.
MIXED = "mixed"
#: What a file may say of its activations.
RECORDED_ACTIVATIONS = (*ACTIVATIONS, MIXED)
#: Asked of a calibration: the way that each linear needs, by measurement.
AUTO = "auto"
ACTIVATION_CHOICES = (*ACTIVATIONS, AUTO)
#: What the rows of the word embeddings may be quantized to; the first is the default.
EMBEDDINGS: Tuple[str, ...] = tuple(row_format.name.lower() for row_format in RowFormat)
#: The operands of the two products of self-attention, each with a quantizer of its own.
OPERANDS = ("query", "key", "value")


def input_quantizer(linear: str) -> str:
    """The name of the quantizer of a linear's input, from the linear's module path."""
    return f"{linear}:input"


def operand_quantizer(attention: str, operand: str) -> str:
    """The name of the quantizer of one of :data:`OPERANDS`, from the self-attention's module path."""
    return f"{attention}:{operand}"
