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

The softmax is the one input that is quantized by a rule of the engine's own (``docs/numerics.md``):
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

Floats = npt.NDArray[np.float32]
Loader = Callable[[], npt.NDArray[Any]]

_QUANTIZER = re.compile(
    r"(?P<owner>.+?)\.(?P<kind>quant|module\.weight_fake_quant|weight_fake_quant|module\.activation_post_process"
    r"|activation_post_process|input_quant_stubs\.\d+|output_quant_stubs\.\d+)\."
    r"(?:activation_post_process\.)*"
    r"(?P<field>scale|zero_point|fake_quant_enabled|observer_enabled|min_val|max_val|min_vals|max_vals|eps)"
)
#: What an attention product's operands are called here.
_OPERANDS = {
    ("attention_scores_matmul", 0): "query",
    ("attention_scores_matmul", 1): "key",
    ("context_layer_matmul", 1): "value",
}


@dataclass(frozen=True)
class _FakeQuant:
    """One fake quantizer: codes ``rne(x / scale) + zero_point`` in ``[low, high]``."""

    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def symmetric(self) -> bool:
        """Whether its codes are centered on zero: S8, or U8 around 128 (some versions of torch: 127)."""
        return abs(self.zero_point - (self.low + self.high) / 2) <= 0.5

    def apply(self, value: Floats) -> Floats:
        """What the network computed with while it trained; torch's ``fake_quantize_per_tensor_affine``."""
        codes = np.rint(value * np.float32(1 / self.scale) + np.float32(self.zero_point))
        np.clip(codes, self.low, self.high, out=codes)
        return np.asarray((codes - np.float32(self.zero_point)) * np.float32(self.scale), np.float32)


def unwrap(loaders: Mapping[str, Loader], source: str) -> Tuple[Dict[str, Loader], Optional[Dict[str, Any]]]:
    """Split the tensors of a checkpoint into a model's own and what quantizers left.

    Args:
        loaders: a reader per key of the file.
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
        quantizer = _quantizer(owner, kind)
        if quantizer is None and not kind.endswith("weight_fake_quant"):
            continue
        fake_quant = _read(f"{owner}.{kind}", fields, source)
        if fake_quant is None:
            continue
        if quantizer is not None:
            quantizers[quantizer] = _qparams(quantizer, fake_quant)
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


def _quantizer(owner: str, kind: str) -> Optional[str]:
    if kind == "quant":
        return f"{owner}:input"
    attention, _, product = owner.rpartition(".")
    group, _, index = kind.rpartition(".")
    operand = _OPERANDS.get((product, int(index))) if group == "input_quant_stubs" else None
    return None if operand is None else f"{attention}:{operand}"


def _qparams(quantizer: str, fake_quant: _FakeQuant) -> Dict[str, Any]:
    """SparseML's fake-quant as our quantizer: U8 with its zero point; keys and values S8 around 0."""
    if quantizer.endswith((":key", ":value")):
        if fake_quant.symmetric:
            return {"scale": fake_quant.scale, "zero_point": 0}
        # Asymmetric U8 over [low, high]: the S8 range that covers the same values.
        reach = max(fake_quant.high - fake_quant.zero_point, fake_quant.zero_point - fake_quant.low)
        return {"scale": fake_quant.scale * reach / 127, "zero_point": 0}
    return {"scale": fake_quant.scale, "zero_point": fake_quant.zero_point - fake_quant.low}


def _share_inputs(quantizers: Dict[str, Any]) -> None:
    """Query, key and value read one tensor: where their observers differ, the widest one serves all."""
    for names in (("query", "key", "value"), ("q_lin", "k_lin", "v_lin")):
        first = f".{names[0]}:input"
        for owner in [quantizer[: -len(first)] for quantizer in quantizers if quantizer.endswith(first)]:
            group = [f"{owner}.{name}:input" for name in names]
            found = [quantizers[quantizer] for quantizer in group if quantizer in quantizers]
            widest = max(found, key=lambda qparams: float(qparams["scale"]))
            quantizers.update(dict.fromkeys(group, widest))


def _applied(load: Loader, fake_quant: _FakeQuant) -> Loader:
    return lambda: fake_quant.apply(np.asarray(load(), np.float32))


def _read(where: str, fields: Mapping[str, Loader], source: str) -> Optional[_FakeQuant]:
    """A quantizer from its buffers; None when it was switched off or never saw a value."""
    if _number(fields, "fake_quant_enabled", 1.0) == 0:
        return None
    lowest = _number(fields, "min_val", _number(fields, "min_vals", -1.0))
    if lowest == np.inf:  # an observer's start value: no batch has passed
        return None
    if "scale" not in fields or "zero_point" not in fields:
        raise CheckpointError(
            f"{source} has a quantizer {where} without its scale or zero point",
            hint="save the whole state_dict of the quantised model again",
        )
    scales = np.asarray(fields["scale"](), np.float32).reshape(-1)
    if scales.size != 1:
        return None  # per channel, as the engine's own rule: max |w| of each row decides
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
