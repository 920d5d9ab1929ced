"""``QuantLinear`` and ``QuantEmbedding`` in place of torch's, and ``ActivationQuantizer`` for activations."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Tuple

import torch
from torch import nn

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.quantization.fake_quant import (
    Codes,
    dynamic_codes,
    fake_quant_rows,
    quantized_linear,
    static_codes,
)
from obert_edge.host.quantization.observers import MovingAverageObserver, Observer

#: What a quantizer does with the tensors that pass it. ``float``: nothing. ``calibrating``: it observes them.
#: ``collecting``: it observes them (in training mode) and quantizes. ``frozen``: it quantizes with its range.
MODES = ("float", "calibrating", "collecting", "frozen")


class ActivationQuantizer(nn.Module):
    """A quantizer: turns one activation of the model into 8-bit codes, and observes its range.

    Args:
        signed: S8 symmetric (keys, values) instead of U8 with a zero point.
        dynamic: a scale per token, found anew each time; nothing is observed.
        readers: how many linears read the same tensor here, one after the other; where there are several,
            the codes of the last tensor are kept until each has read them, or until :meth:`release`, so that
            it is quantized, and observed, once.

    Attributes:
        name: the quantizer's name in ``quantization.json``; set by ``quantize_model``.
        mode: one of :data:`MODES`.
        valid: bool ``[batch, tokens]``, True for real tokens, or None: padding that observers
            should not see.
    """

    params: torch.Tensor

    def __init__(self, *, signed: bool, dynamic: bool = False, readers: int = 1) -> None:
        super().__init__()
        self.signed = signed
        self.dynamic = dynamic
        self.readers = readers
        self.name = ""
        self.mode = "collecting"
        self.valid: Optional[torch.Tensor] = None
        self.observer: Observer = MovingAverageObserver()
        # Scale (0: no range yet) and zero point, in one buffer so that reading them from a GPU waits once.
        self.register_buffer("params", torch.zeros(2))
        self._memo: Optional[Tuple[torch.Tensor, Codes]] = None
        self._reads = 0  # of the codes that are kept

    @property
    def ready(self) -> bool:
        """Whether the quantizer knows its range; a dynamic one always does."""
        return self.dynamic or float(self.params[0]) > 0

    @property
    def scale(self) -> float:
        """The static scale, a float32 value; 0 before anything was observed."""
        return float(self.params[0])

    @property
    def zero_point(self) -> int:
        """The static zero point, 0..255."""
        return int(self.params[1])

    def set_params(self, scale: float, zero_point: int) -> None:
        """Fix the static scale and zero point.

        Raises:
            UsageError: they are out of range.
        """
        self.params.copy_(torch.tensor([scale, float(zero_point)]))
        low, high = (0, 0) if self.signed else (0, 255)
        if not (torch.isfinite(self.params[0]) and self.params[0] > 0 and low <= zero_point <= high):
            raise UsageError(
                f"{self.name}: scale {scale} and zero point {zero_point} are not valid; expected a finite "
                f"scale above 0 and a zero point in {low}..{high}",
                hint="quantize or calibrate the model again",
            )

    def update_params(self) -> None:
        """Derive scale and zero point from what the observer has seen.

        Raises:
            ObertEdgeError: it has seen nothing, or values that are not finite.
        """
        try:
            self.set_params(*self.observer.quant_params(self.signed))
        except ObertEdgeError as error:
            raise ObertEdgeError(f"{self.name}: {error.message}", hint=error.hint) from error

    def forward(self, x: torch.Tensor) -> Codes:
        """Codes of ``x``; in the modes that do not quantize, ``x`` itself with scale 1.

        Args:
            x: float ``[batch, tokens, channels]``, ``[batch, channels]``, or for queries, keys and
                values ``[batch, heads, tokens, channels]``.

        Raises:
            ObertEdgeError: it has to quantize, and nothing was observed yet.
        """
        if self._memo is not None and self._memo[0] is x:
            codes = self._memo[1]
            self._reads += 1
            if self._reads == self.readers:
                self.release()
            return codes
        codes = self._codes(x)
        if self.readers > 1:
            self._memo, self._reads = (x, codes), 1
        return codes

    def prepare(self, x: torch.Tensor) -> bool:
        """Observe ``x`` if the mode says so; return whether it is to be quantized."""
        if not self.dynamic:
            if self.mode == "calibrating":
                self.observer.observe(self._real_tokens(x.detach()))
            elif self.mode == "collecting" and self.training and not _in_backward():
                self.observer.observe(x)
                self.update_params()
        return self.mode in ("collecting", "frozen")

    def release(self) -> None:
        """Forget the shared codes, so that they do not outlive the forward pass."""
        self._memo = None

    def static_params(self) -> Tuple[float, int]:
        """Scale and zero point, read together.

        Raises:
            ObertEdgeError: nothing was observed yet.
        """
        scale, zero_point = self.params.tolist()
        if scale <= 0:
            raise ObertEdgeError(
                f"{self.name} has no range: nothing was observed there",
                hint="train with QATCallback, or calibrate the model, before using it",
            )
        return scale, int(zero_point)

    def extra_repr(self) -> str:
        """Type, scale and mode, for ``print(model)``."""
        kind = "dynamic" if self.dynamic else f"scale={self.scale:.4g}, zero_point={self.zero_point}"
        return f"{'S8' if self.signed else 'U8'}, {kind}, {self.mode}"

    def _codes(self, x: torch.Tensor) -> Codes:
        if not self.prepare(x):
            return Codes(x, 1.0)
        if self.dynamic:
            return dynamic_codes(x)
        scale, zero_point = self.static_params()
        return static_codes(x, scale, zero_point, signed=self.signed)

    def _real_tokens(self, x: torch.Tensor) -> torch.Tensor:
        if self.valid is None:
            return x
        tokens_first = x.transpose(1, 2) if x.dim() == 4 else x
        if x.dim() >= 3 and tokens_first.shape[:2] == self.valid.shape:
            return tokens_first[self.valid]
        return x


def _in_backward() -> bool:
    """Whether autograd is computing a forward pass once more (gradient checkpointing): it was observed."""
    return int(torch._C._current_graph_task_id()) != -1


def _without_autocast(x: torch.Tensor) -> torch.autocast:
    """Switch autocast off for products of codes: their sums are exact in float32, not in half precision."""
    return torch.autocast(x.device.type, enabled=False)


class QuantLinear(nn.Linear):
    """``nn.Linear`` with INT8 weights per output channel and an 8-bit input.

    ``weight`` and ``bias`` stay the float master parameters under their old names.

    Attributes:
        input: the quantizer of the input; a submodule, unless several linears share it (then it belongs to
            the module that owns them, and this is a plain reference).
        quantize_weight: False leaves the weights float (:mod:`obert_edge.calibration.sensitivity`).
        weight_scale: one scale for all weights, which a checkpoint was trained with; None: each output
            channel's own.
    """

    input: ActivationQuantizer
    quantize_weight: bool
    weight_scale: Optional[float]

    @classmethod
    def from_float(cls, linear: nn.Linear, input: ActivationQuantizer) -> QuantLinear:
        """A quantized twin that holds the very parameters of ``linear``."""
        twin = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        _adopt(twin, linear)
        if input.readers > 1:
            twin.__dict__["input"] = input  # not a submodule: its owner registers it, once
        else:
            twin.input = input
        twin.quantize_weight = True
        twin.weight_scale = None
        return twin

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Float32 ``[..., out_features]`` of a float ``[..., in_features]``."""
        if torch.is_autocast_enabled(input.device.type):
            with _without_autocast(input):
                return self._forward(input.float())
        return self._forward(input)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.input(x)
        if self.quantize_weight:
            return quantized_linear(codes, self.weight, self.bias, self.weight_scale)
        return nn.functional.linear(codes.codes * codes.scale, self.weight, self.bias)


class QuantEmbedding(nn.Embedding):
    """``nn.Embedding`` with INT8 rows, one scale per row, or INT4 rows.

    Attributes:
        quantize_weight: as in :class:`QuantLinear`.
        int4: rows of four bits (``docs/reference/numerics.md``); for word embeddings.
    """

    quantize_weight: bool
    int4: bool

    @classmethod
    def from_float(cls, embedding: nn.Embedding) -> QuantEmbedding:
        """A quantized twin that holds the very parameter of ``embedding``."""
        twin = cls(
            embedding.num_embeddings,
            embedding.embedding_dim,
            padding_idx=embedding.padding_idx,
            device="meta",
        )
        _adopt(twin, embedding)
        twin.quantize_weight = True
        twin.int4 = False
        return twin

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Rows ``[..., embedding_dim]`` of whole-number ids ``[...]``."""
        if not self.quantize_weight:
            return super().forward(input)
        # Quantize whichever is smaller: the rows looked up, or the table.
        if input.numel() < self.num_embeddings:
            return fake_quant_rows(super().forward(input), self.int4)
        return nn.functional.embedding(input, fake_quant_rows(self.weight, self.int4), self.padding_idx)


def _adopt(twin: nn.Module, original: nn.Module) -> None:
    """Give ``twin`` the parameters and the mode of ``original``."""
    for name, parameter in original._parameters.items():
        twin._parameters[name] = parameter
    twin.train(original.training)


def quantized_modules(model: nn.Module) -> Iterator[Tuple[str, Any]]:
    """Every :class:`QuantLinear` and :class:`QuantEmbedding` of ``model`` with its path."""
    for name, module in model.named_modules():
        if isinstance(module, (QuantLinear, QuantEmbedding)):
            yield name, module
