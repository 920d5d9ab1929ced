"""``quantization.json``: where each activation becomes 8 bit, and with what scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from obert_edge.bundle.program import DType, RowFormat
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import read_json

FILE = "quantization.json"
#: 2 has ``weights``: scales that weights were trained with; a reader of 1 would not know of them.
#: 3 has ``embeddings`` other than ``int8``.
_FORMATS = (1, 2, 3)
#: What the rows of the word embeddings may be quantized to.
EMBEDDINGS = tuple(row_format.name.lower() for row_format in RowFormat)
_HINT = (
    "run `obert-edge quantize` on this model again, or delete quantization.json to calibrate at build time"
)


@dataclass(frozen=True)
class QuantParams:
    """8-bit quantization parameters: the real value of ``q`` is ``scale * (q - zero_point)``."""

    scale: np.float32
    zero_point: int
    dtype: DType = DType.U8

    @property
    def inv_scale(self) -> float:
        """``1 / scale``, one float32 division."""
        return float(np.float32(1) / self.scale)

    @property
    def limits(self) -> Tuple[int, int]:
        """Smallest and largest ``q``."""
        return (0, 255) if self.dtype is DType.U8 else (-127, 127)


@dataclass(frozen=True)
class Scales:
    """The quantization parameters of a model.

    Attributes:
        method: how they were found (``qat``, ``calibrate``, ...).
        dynamic: inputs of linears get parameters per token on the device.
        weights: scale of a linear's weights by module, where it is not by the rule of
            docs/numerics.md (max |w| / 127 of each row).
        embeddings: one of :data:`EMBEDDINGS`.
    """

    method: str
    dynamic: bool
    quantizers: Mapping[str, Tuple[float, int]]
    prefix: str
    source: str
    weights: Mapping[str, float] = field(default_factory=dict)
    embeddings: str = EMBEDDINGS[0]

    @classmethod
    def load(cls, folder: Path, prefix: str) -> Optional[Scales]:
        """From a model folder, or ``None`` when it has no ``quantization.json``.

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
        """From the content of a ``quantization.json``.

        Raises:
            CheckpointError: it is not as docs/architecture.md says.
        """
        if content.get("format") not in _FORMATS:
            raise CheckpointError(
                f"{source} has format {content.get('format')!r}; this obert-edge reads "
                f"{', '.join(map(str, _FORMATS))}",
                hint=_HINT,
            )
        activations, quantizers = content.get("activations"), content.get("sites")
        if activations not in ("static", "dynamic") or not isinstance(quantizers, Mapping):
            raise CheckpointError(
                f"{source} has activations {activations!r}, expected 'static' or 'dynamic', "
                "and an object 'quantizers'",
                hint=_HINT,
            )
        parsed = {name: _quantizer(name, value, source) for name, value in quantizers.items()}
        weights = content.get("weights") or {}
        if not isinstance(weights, Mapping):
            raise CheckpointError(f"{source} has weights {weights!r}, expected an object", hint=_HINT)
        scales = {
            name: _quantizer(
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
        return cls(method, activations == "dynamic", parsed, prefix, source, scales, str(embeddings))

    def linear_input(self, module: str) -> QuantParams:
        """The U8 parameters of a linear's input."""
        scale, zero_point = self._find(f"{module}:input")
        return QuantParams(np.float32(scale), zero_point)

    def weight(self, module: str) -> Optional[np.float32]:
        """The scale a linear's weights were trained with; None: the rule of docs/numerics.md."""
        for name in self._names(module):
            if name in self.weights:
                return np.float32(self.weights[name])
        return None

    def attention(self, module: str) -> Dict[str, QuantParams]:
        """The parameters of ``query`` (U8), ``key`` and ``value`` (S8)."""
        query, zero_point = self._find(f"{module}:query")
        qparams = {"query": QuantParams(np.float32(query), zero_point)}
        for name in ("key", "value"):
            scale, zero_point = self._find(f"{module}:{name}")
            if zero_point != 0:
                raise CheckpointError(
                    f"{self.source} gives {module}:{name} the zero point {zero_point}; it must be 0",
                    hint=_HINT,
                )
            qparams[name] = QuantParams(np.float32(scale), 0, DType.S8)
        return qparams

    def _find(self, quantizer: str) -> Tuple[float, int]:
        for name in self._names(quantizer):
            if name in self.quantizers:
                return self.quantizers[name]
        raise CheckpointError(f"{self.source} has no scale for {quantizer!r}", hint=_HINT)

    def _names(self, name: str) -> Tuple[str, str]:
        """A name as it is, and with the encoder's prefix taken away or put before it."""
        return name, name[len(self.prefix) :] if name.startswith(self.prefix) else self.prefix + name


def _quantizer(name: str, value: Any, source: str) -> Tuple[float, int]:
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
