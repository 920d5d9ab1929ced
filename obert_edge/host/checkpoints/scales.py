"""The quantization parameters of a model, read from ``quantization.json`` and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from obert_edge.bundle.program import DType
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import read_json
from obert_edge.host.checkpoints.quantization_format import (
    ACTIVATIONS,
    EMBEDDINGS,
    FILE,
    FORMATS,
    MIXED,
    OPERANDS,
    RECORDED_ACTIVATIONS,
    input_quantizer,
    operand_quantizer,
)

_HINT = (
    "run `obert-edge quantize` on this model again, or delete quantization.json to calibrate at build time"
)


@dataclass(frozen=True)
class QuantParams:
    """8-bit quantization parameters (docs/reference/numerics.md, Quantization).

    The real value of code ``q`` is ``scale * (q - zero_point)``.

    Attributes:
        scale: a float32 above 0.
        zero_point: the code of real 0: 0..255 for U8, 0 for S8.
        dtype: U8 or S8.
    """

    scale: np.float32
    zero_point: int
    dtype: DType = DType.U8

    @property
    def inv_scale(self) -> float:
        """``1 / scale``, one float32 division."""
        return float(np.float32(1) / self.scale)

    @property
    def limits(self) -> Tuple[int, int]:
        """Smallest and largest code."""
        return (0, 255) if self.dtype is DType.U8 else (-127, 127)


@dataclass(frozen=True)
class Scales:
    """The quantization parameters of a model.

    Attributes:
        method: how they were found (``qat``, ``calibrate``, ...).
        activations: how inputs of linears are quantized, one of
            :data:`~obert_edge.host.checkpoints.quantization_format.RECORDED_ACTIVATIONS`; see
            :meth:`per_token`.
        quantizers: scale and zero point by quantizer name.
        prefix: of the encoder's modules in its full model (``"bert."``).
        source: what to call the file in errors.
        weights: the scale of all weights of a linear, by module path, where it is not by the rule of
            docs/reference/numerics.md (max |w| / 127 of each row).
        embeddings: one of :data:`~obert_edge.host.checkpoints.quantization_format.EMBEDDINGS`.
    """

    method: str
    activations: str
    quantizers: Mapping[str, Tuple[float, int]]
    prefix: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    embeddings: str = EMBEDDINGS[0]

    @classmethod
    def load(cls, folder: Path, prefix: str) -> Optional[Scales]:
        """Read a model folder's ``quantization.json``; ``None``: it has none.

        Args:
            folder: the model folder.
            prefix: of the encoder's modules in its full model (``"bert."``); a quantizer is found with or
                without it, as the same encoder may be quantized alone or with a head.

        Raises:
            CheckpointError: the file is not as docs/architecture.md says.
        """
        content = read_json(Path(folder) / FILE)
        return None if content is None else cls.from_mapping(content, prefix, str(Path(folder) / FILE))

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], prefix: str, source: str = "the ranges") -> Scales:
        """Check and take over the content of a ``quantization.json``.

        Args:
            content: as docs/architecture.md says.
            prefix: see :meth:`load`.
            source: what to call the content in errors.

        Raises:
            CheckpointError: it is not as docs/architecture.md says.
        """
        if content.get("format") not in FORMATS:
            raise CheckpointError(
                f"{source} has format {content.get('format')!r}; this obert-edge reads "
                f"{', '.join(map(str, FORMATS))}",
                hint=_HINT,
            )
        activations, quantizers = content.get("activations"), content.get("sites")
        if activations not in RECORDED_ACTIVATIONS or not isinstance(quantizers, Mapping):
            raise CheckpointError(
                f"{source} has activations {activations!r} and sites of type {type(quantizers).__name__}; "
                f"expected one of {', '.join(RECORDED_ACTIVATIONS)}, and an object 'sites' that holds the "
                "quantizers",
                hint=_HINT,
            )
        parsed = {name: _parse_quantizer(name, value, source) for name, value in quantizers.items()}
        weights = content.get("weights") or {}
        if not isinstance(weights, Mapping):
            raise CheckpointError(f"{source} has weights {weights!r}, expected an object", hint=_HINT)
        scales = {
            name: _parse_quantizer(
                name, {"zero_point": 0, **value} if isinstance(value, Mapping) else value, source
            )[0]
            for name, value in weights.items()
        }
        embeddings = content.get("embeddings", EMBEDDINGS[0])
        if embeddings not in EMBEDDINGS:
            raise CheckpointError(
                f"{source} has embeddings {embeddings!r}, expected one of {', '.join(EMBEDDINGS)}", hint=_HINT
            )
        method = str(content.get("method", "unknown"))
        return cls(method, str(activations), parsed, prefix, source, scales, str(embeddings))

    def quantizer(self, name: str) -> Optional[Tuple[float, int]]:
        """Scale and zero point of a quantizer; None: there are none."""
        return next((self.quantizers[known] for known in self._names(name) if known in self.quantizers), None)

    def per_token(self, module: str) -> bool:
        """Whether the input of a linear gets its parameters per token on the device."""
        if self.activations == MIXED:
            return self.quantizer(input_quantizer(module)) is None
        return self.activations == ACTIVATIONS[1]

    def linear_input(self, module: str) -> QuantParams:
        """The U8 parameters of a linear's input.

        Raises:
            CheckpointError: there are none for this module.
        """
        scale, zero_point = self._find(input_quantizer(module))
        return QuantParams(np.float32(scale), zero_point)

    def weight(self, module: str) -> Optional[np.float32]:
        """The scale a linear's weights were trained with; None: the rule of docs/reference/numerics.md."""
        for name in self._names(module):
            if name in self.weights:
                return np.float32(self.weights[name])
        return None

    def attention(self, module: str) -> Dict[str, QuantParams]:
        """The parameters of a self-attention's operands: ``query`` (U8), ``key`` and ``value`` (S8).

        Raises:
            CheckpointError: one of them is missing, or a key or value has a zero point other than 0.
        """
        operands: Dict[str, QuantParams] = {}
        for operand in OPERANDS:
            quantizer_name = operand_quantizer(module, operand)
            scale, zero_point = self._find(quantizer_name)
            dtype = DType.U8 if operand == "query" else DType.S8
            if dtype is DType.S8 and zero_point != 0:
                raise CheckpointError(
                    f"{self.source} gives {quantizer_name} the zero point {zero_point}; it must be 0",
                    hint=_HINT,
                )
            operands[operand] = QuantParams(np.float32(scale), zero_point, dtype)
        return operands

    def _find(self, quantizer_name: str) -> Tuple[float, int]:
        found = self.quantizer(quantizer_name)
        if found is None:
            raise CheckpointError(f"{self.source} has no scale for {quantizer_name!r}", hint=_HINT)
        return found

    def _names(self, name: str) -> Tuple[str, str]:
        """A name as it is, and with the encoder's prefix taken away (or put before it, where it lacks it)."""
        return name, name[len(self.prefix) :] if name.startswith(self.prefix) else self.prefix + name


def _parse_quantizer(name: str, value: Any, source: str) -> Tuple[float, int]:
    """The scale and zero point of one quantizer, an entry of ``sites``."""
    scale = value.get("scale") if isinstance(value, Mapping) else None
    zero_point = value.get("zero_point") if isinstance(value, Mapping) else None
    good_scale = isinstance(scale, (int, float)) and math.isfinite(scale) and np.float32(scale) > 0
    good_zero = isinstance(zero_point, int) and not isinstance(zero_point, bool) and 0 <= zero_point <= 255
    if not good_scale or not good_zero:
        raise CheckpointError(
            f"{source} gives the quantizer {name!r} {value!r}; it takes a positive scale and a zero point "
            "of 0..255",
            hint=_HINT,
        )
    assert isinstance(scale, (int, float)) and isinstance(zero_point, int)
    return float(scale), zero_point
