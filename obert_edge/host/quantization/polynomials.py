"""The engine's polynomials for exp2, GELU and SiLU (``docs/reference/numerics.md``), for models in eval mode.

Torch's own functions differ from them by 1e-5: too little to matter to training, but enough to flip
an 8-bit code here and there, and flipped codes spread. With the same polynomials an evaluated model
answers as the bundle built from it will, mostly to the bit. They take several times as long, so
training does without them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence, Tuple

import torch
from torch import nn
from transformers.activations import (
    FastGELUActivation,
    GELUActivation,
    GELUTanh,
    NewGELUActivation,
    SiLUActivation,
)

#: Elements worked on at a time: a dozen passes over what fits a core's cache, not over memory.
_CHUNK = 1 << 16

#: Coefficients of 2 ** x on [-0.5, 0.5], the highest power first.
_EXP2 = (0.00968571100383997, 0.05592202767729759, 0.2402186542749405, 0.6931210160255432, 1.0)
#: From this |x| on, h(|x|) of GELU = relu(x) - h(|x|) is constant.
_GELU_LIMIT = 4.5
#: Takes |x| from [0, 4.5] to [-1, 1], with -1 added: 2 / 4.5 as float32.
_GELU_SCALE = 0.4444444477558136
#: Coefficients of h over that interval, the constant term first, for the two kinds of GELU.
_GELU = (
    *(0.02749713324010372, -0.13303950428962708, 0.24659240245819092, -0.1472158133983612),
    *(-0.2029682844877243, 0.43478140234947205, -0.20490720868110657, -0.176315039396286),
    *(0.17638038098812103, 0.021782496944069862, -0.04258676618337631),
)
_GELU_TANH = (
    *(0.02719680778682232, -0.13464891910552979, 0.2493198961019516, -0.13996218144893646),
    *(-0.21296827495098114, 0.42198753356933594, -0.18776476383209229, -0.1660359501838684),
    *(0.16257815062999725, 0.01864766515791416, -0.03835925832390785),
)


def exp2_(x: torch.Tensor) -> torch.Tensor:
    """``2 ** x`` of contiguous float32 ``x <= 0``, in place; relative error below 4e-6 down to -126."""
    for part in torch.split(x.view(-1), _CHUNK):
        whole = torch.round(part.clamp_(min=-126))
        power = _horner(_EXP2, part.sub_(whole))
        # Multiply by 2 ** whole: add it to the exponent.
        power.view(torch.int32).add_(whole.to(torch.int32).mul_(1 << 23))
        part.copy_(power)
    return x


def gelu(x: torch.Tensor, coefficients: Sequence[float] = _GELU) -> torch.Tensor:
    """GELU of float32 ``x`` as ``relu(x) - h(|x|)``; absolute error below 1.5e-5.

    Args:
        x: any shape.
        coefficients: of ``h``, constant term first.
    """
    x = x.contiguous()
    y = torch.empty_like(x)
    descending = tuple(reversed(coefficients))
    scale, minus_one = (torch.tensor(value, device=x.device) for value in (_GELU_SCALE, -1.0))
    for source, result in zip(torch.split(x.view(-1), _CHUNK), torch.split(y.view(-1), _CHUNK)):
        v = source.abs().clamp_(max=_GELU_LIMIT)
        torch.addcmul(minus_one, v, scale, out=v)
        torch.sub(torch.relu(source), _horner(descending, v), out=result)
    return y


class EngineGELU(nn.Module):
    """Torch's GELU where gradients are wanted, the engine's in evaluation.

    Args:
        tanh: the tanh approximation (``gelu_new``) instead of the error function.
    """

    def __init__(self, *, tanh: bool) -> None:
        super().__init__()
        self.approximate, self.coefficients = ("tanh", _GELU_TANH) if tanh else ("none", _GELU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The activation of ``x``, any shape."""
        if self.training or x.requires_grad or x.dtype != torch.float32:
            return nn.functional.gelu(x, approximate=self.approximate)
        return gelu(x, self.coefficients)


def silu(x: torch.Tensor) -> torch.Tensor:
    """``x * sigmoid(x)`` of float32 ``x``, any shape, as ``h + h * tanh(h)`` with ``h = x / 2``."""
    half = x * 0.5
    e = exp2_(half.abs().mul_(torch.tensor(-2.885390043258667, device=x.device)).contiguous())
    tanh = torch.copysign((1 - e) / (1 + e), half)
    return torch.addcmul(half, half, tanh)


class EngineSiLU(nn.Module):
    """Torch's SiLU where gradients are wanted, the engine's in evaluation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The activation of ``x``, any shape."""
        if self.training or x.requires_grad or x.dtype != torch.float32:
            return nn.functional.silu(x)
        return silu(x)


def swap_activations(model: nn.Module) -> None:
    """Replace every GELU and SiLU module of ``model`` by its :class:`EngineGELU` or :class:`EngineSiLU`."""
    kinds: Dict[type, Callable[[Any], nn.Module]] = {
        GELUActivation: lambda _: EngineGELU(tanh=False),
        nn.GELU: lambda gelu: EngineGELU(tanh=gelu.approximate == "tanh"),
        NewGELUActivation: lambda _: EngineGELU(tanh=True),
        FastGELUActivation: lambda _: EngineGELU(tanh=True),
        GELUTanh: lambda _: EngineGELU(tanh=True),
        nn.SiLU: lambda _: EngineSiLU(),
        SiLUActivation: lambda _: EngineSiLU(),
    }
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in kinds:
                setattr(parent, name, kinds[type(child)](child).train(child.training))


def _horner(coefficients: Tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    """The polynomial at ``x``, highest coefficient first; a new tensor.

    ``addcmul`` rounds once on CPUs with a fused multiply-add, as the engine does.
    """
    y = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        torch.addcmul(torch.tensor(coefficient, device=x.device), y, x, out=y)
    return y
