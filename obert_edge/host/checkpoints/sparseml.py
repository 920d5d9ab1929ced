"""SparseML's quantization-aware checkpoints: transformers' names back, and the scales they carry.

SparseML trains a quantized BERT by wrapping its modules (torch's eager-mode QAT), so that the keys of
its ``state_dict`` are no longer transformers' (sparseml, ``pytorch/sparsification/quantization/helpers.py``):

=============================================================  ==============================================
key                                                            here
=============================================================  ==============================================
``X.module.weight``, ``X.module.bias``                         ``X.weight``, ``X.bias`` (``QuantWrapper``)
``X.quant.activation_post_process.*``                          quantizer ``X:input``
``X.module.weight_fake_quant.*``                               weight scale of ``X``
``X.weight_fake_quant.*`` (embeddings: U8, any zero point)     ``X.weight`` is read as it was trained
``A.attention_scores_matmul.input_quant_stubs.0.*``, ``.1.*``  ``A:query``, ``A:key`` (``QATWrapper``)
``A.context_layer_matmul.input_quant_stubs.1.*``               quantizer ``A:value``
``*.output_quant_stubs.*``, ``context_layer_matmul...0.*``     nothing: the engine has no such quantizer
=============================================================  ==============================================

The softmax is the one input that is quantized by a rule of the engine's own (``docs/reference/numerics.md``):
its scale, and those of outputs that no linear of ours quantizes, have no counterpart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.checkpoints.quantization_format import input_quantizer, operand_quantizer

Floats = npt.NDArray[np.float32]
Loader = Callable[[], npt.NDArray[Any]]

_QUANTIZER = re.compile(
    r"(?P<owner>.+?)\.(?P<kind>quant|module\.weight_fake_quant|weight_fake_quant|module\.activation_post_process"
    r"|activation_post_process|input_quant_stubs\.\d+|output_quant_stubs\.\d+)\."
    r"(?:activation_post_process\.)*"
    r"(?P<field>scale|zero_point|fake_quant_enabled|observer_enabled|min_val|max_val|min_vals|max_vals|eps)"
)
#: The operand of self-attention that input ``i`` of SparseML's wrapped product is: (product, i) -> operand.
_OPERANDS = {
    ("attention_scores_matmul", 0): "query",
    ("attention_scores_matmul", 1): "key",
    ("context_layer_matmul", 1): "value",
}


@dataclass(frozen=True)
class _FakeQuant:
    """A fake quantizer of torch: codes ``rne(x / scale) + zero_point``, clamped to ``[low, high]``."""

    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def symmetric(self) -> bool:
        """Whether its codes are centered on zero: S8, or U8 around 128 (some versions of torch: 127)."""
        return abs(self.zero_point - (self.low + self.high) / 2) <= 0.5

    def apply(self, value: Floats) -> Floats:
        """The values the network computed with while it trained, float32 of the same shape.

        The formula is that of torch's ``fake_quantize_per_tensor_affine``.
        """
        codes = np.rint(value * np.float32(1 / self.scale) + np.float32(self.zero_point))
        np.clip(codes, self.low, self.high, out=codes)
        return np.asarray((codes - np.float32(self.zero_point)) * np.float32(self.scale), np.float32)


def unwrap(loaders: Mapping[str, Loader], source: str) -> Tuple[Dict[str, Loader], Optional[Dict[str, Any]]]:
    """Split the tensors of a checkpoint into the model's own and those of SparseML's quantizers.

    Args:
        loaders: for each key of the file, a function that reads its tensor.
        source: what to call the file in errors.

    Returns:
        Readers by transformers' names, and the content of a ``quantization.json`` made of the
        scales; ``None`` when the checkpoint has no quantizers. Linears have ``weights`` entries with
        the scale they were trained with; a table (embedding) is read as the values it was trained as.

    Raises:
        CheckpointError: a quantizer lacks its scale, or it is not a number above 0.
    """
    fake_quants: Dict[Tuple[str, str], Dict[str, Loader]] = {}
    tensors: Dict[str, Loader] = {}
    for name, load in loaders.items():
        match = _QUANTIZER.fullmatch(name)
        if match is None:
            tensors[name] = load
        else:
            fake_quants.setdefault((match["owner"], match["kind"]), {})[match["field"]] = load
    if not fake_quants:
        return tensors, None
    tensors = {_unwrapped(name, tensors): load for name, load in tensors.items()}
    quantizers: Dict[str, Any] = {}
    weights: Dict[str, Any] = {}
    for (owner, kind), fields in fake_quants.items():
        quantizer_name = _quantizer_name(owner, kind)
        if quantizer_name is None and not kind.endswith("weight_fake_quant"):
            continue
        fake_quant = _read(f"{owner}.{kind}", fields, source)
        if fake_quant is None:
            continue
        if quantizer_name is not None:
            quantizers[quantizer_name] = _quantization_parameters(quantizer_name, fake_quant)
        elif fake_quant.symmetric and "embeddings" not in owner:
            weights[owner] = {"scale": fake_quant.scale}
        elif f"{owner}.weight" in tensors:
            tensors[f"{owner}.weight"] = _applied(tensors[f"{owner}.weight"], fake_quant)
    _share_inputs(quantizers)
    record = {"format": 2, "method": "qat", "activations": "static", "sites": quantizers, "weights": weights}
    return tensors, record


def _unwrapped(name: str, tensors: Mapping[str, Loader]) -> str:
    """``X.module.weight`` as ``X.weight``, unless that is a name of its own."""
    plain = re.sub(r"\.module\.(weight|bias)$", r".\1", name)
    return name if plain in tensors else plain


def _quantizer_name(owner: str, kind: str) -> Optional[str]:
    """What ``quantization.json`` calls a quantizer of SparseML's; None: the engine has no such quantizer."""
    if kind == "quant":
        return input_quantizer(owner)
    attention, _, product = owner.rpartition(".")
    group, _, index = kind.rpartition(".")
    operand = _OPERANDS.get((product, int(index))) if group == "input_quant_stubs" else None
    return None if operand is None else operand_quantizer(attention, operand)


def _quantization_parameters(quantizer_name: str, fake_quant: _FakeQuant) -> Dict[str, Any]:
    """SparseML's parameters as the engine has them: U8 with a zero point; keys and values S8 around 0."""
    if quantizer_name.endswith((":key", ":value")):
        if fake_quant.symmetric:
            return {"scale": fake_quant.scale, "zero_point": 0}
        # Asymmetric U8 over [low, high]: the S8 range that covers the same values.
        reach = max(fake_quant.high - fake_quant.zero_point, fake_quant.zero_point - fake_quant.low)
        return {"scale": fake_quant.scale * reach / 127, "zero_point": 0}
    return {"scale": fake_quant.scale, "zero_point": fake_quant.zero_point - fake_quant.low}


def _share_inputs(quantizers: Dict[str, Any]) -> None:
    """Give the linears of query, key and value one quantizer, the one with the largest scale.

    They read the same tensor, and the engine quantizes it once; SparseML observed it three times.
    """
    for projections in dict.fromkeys(known.modules.projections for known in ARCHITECTURES.values()):
        first = input_quantizer(f".{projections[0]}")
        for attention in [name[: -len(first)] for name in quantizers if name.endswith(first)]:
            group = [input_quantizer(f"{attention}.{name}") for name in projections]
            found = [quantizers[name] for name in group if name in quantizers]
            widest = max(found, key=lambda parameters: float(parameters["scale"]))
            quantizers.update(dict.fromkeys(group, widest))


def _applied(load: Loader, fake_quant: _FakeQuant) -> Loader:
    """Read a tensor as the values a fake quantizer makes of it."""
    return lambda: fake_quant.apply(np.asarray(load(), np.float32))


def _read(where: str, fields: Mapping[str, Loader], source: str) -> Optional[_FakeQuant]:
    """A fake quantizer from its buffers.

    Returns:
        None where it says nothing: it was switched off, never saw a value, or has a scale per channel.
    """
    if _number(fields, "fake_quant_enabled", 1.0) == 0:
        return None
    lowest = _number(fields, "min_val", _number(fields, "min_vals", -1.0))
    if lowest == np.inf:  # an observer's start value: no batch has passed
        return None
    if "scale" not in fields or "zero_point" not in fields:
        raise CheckpointError(
            f"{source} has a quantizer {where} without its scale or zero point",
            hint="save the whole state_dict of the quantized model again",
        )
    scales = np.asarray(fields["scale"](), np.float32).reshape(-1)
    if scales.size != 1:
        return None  # a scale per output channel is the engine's own rule: max |w| of each row decides
    scale, zero_point = float(scales[0]), int(_number(fields, "zero_point", 0.0))
    signed = zero_point <= 0 and lowest < 0
    low, high = (-128, 127) if signed else (0, 255)
    if not (np.isfinite(scale) and scale > 0 and low <= zero_point <= high):
        raise CheckpointError(
            f"{source} has a quantizer {where} with scale {scale} and zero point {zero_point}",
            hint="the checkpoint is damaged, or its training diverged: use another one",
        )
    return _FakeQuant(scale, zero_point, low, high)


def _number(fields: Mapping[str, Loader], name: str, default: float) -> float:
    """The first element of a buffer; the default where it is absent or empty."""
    if name not in fields:
        return default
    values = np.asarray(fields[name]()).reshape(-1)
    return float(values[0]) if values.size else default
