"""INT8 self-attention for transformers' models, plugged in through its public interfaces.

``AttentionInterface.register`` makes ``obert_edge_int8`` an attention implementation like ``sdpa``;
models call it with float queries, keys and values. It computes the Attention section of
``docs/reference/numerics.md``; in training with ``torch.exp``, which is 4e-6 from the engine's polynomial.
"""

from __future__ import annotations

import math
from typing import Any, Callable, List, NamedTuple, Optional, Tuple, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface

from obert_edge.host.quantization.fake_quant import WEIGHT_MAX, clip_bounds, pass_unclipped, to_codes
from obert_edge.host.quantization.modules import ActivationQuantizer
from obert_edge.host.quantization.polynomials import exp2_

NAME = "obert_edge_int8"

#: Added to the integer scores of masked keys: far below any score, far from overflow.
MASKED = -1e30

_LOG_255 = math.log(255.0)
_LOG2_E = math.log2(math.e)


class AttentionQuantizers(nn.Module):
    """The quantizers of one self-attention module: the input that linears share, and the operands.

    Args:
        dynamic: whether the input is quantized per token.
        readers: how many linears share it: q, k and v, or the first two.
    """

    def __init__(self, *, dynamic: bool, readers: int = 3) -> None:
        super().__init__()
        self.input = ActivationQuantizer(signed=False, dynamic=dynamic, readers=readers)
        self.query = ActivationQuantizer(signed=False)
        self.key = ActivationQuantizer(signed=True)
        self.value = ActivationQuantizer(signed=True)


class _Params(NamedTuple):
    """The numbers that the attention function takes beside its tensors."""

    query_scale: float
    query_zero_point: int
    key_scale: float
    value_scale: float
    scaling: float
    dropout: float
    training: bool

    @property
    def score_scale(self) -> float:
        return self.query_scale * self.key_scale * self.scaling


class Positions(NamedTuple):
    """What queries and keys are also multiplied with (docs/reference/numerics.md, Attention).

    Attributes:
        key: float ``[heads, rows, head_dim]``, of queries; None: they are multiplied with nothing.
        query: the same of keys.
        row: whole numbers ``[tokens, tokens]``: the row of query i and key j.
    """

    key: Optional[torch.Tensor]
    query: Optional[torch.Tensor]
    row: torch.Tensor

    def scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """``query_i . key_row + key_j . query_row``, float ``[batch, heads, tokens, tokens]``.

        Args:
            query: float ``[batch, heads, tokens, head_dim]``.
            key: of the same shape.
        """
        row = self.row.expand(*query.shape[:2], *self.row.shape)
        parts = []
        if self.key is not None:
            parts.append(torch.matmul(query, self.key.transpose(-1, -2)).gather(-1, row))
        if self.query is not None:
            products = torch.matmul(key, self.query.transpose(-1, -2))
            parts.append(products.gather(-1, row.transpose(-1, -2)).transpose(-1, -2))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def gradients(
        self, to_scores: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> Tuple[Any, Any, Any, Any]:
        """Gradients of :meth:`scores`, of query, key and the two tables; 0 or None where there is no table.

        Args:
            to_scores: gradient of what it returned.
            query: as it was given.
            key: as it was given.
        """
        row = self.row.expand_as(to_scores)
        to_query: Any = 0
        to_key: Any = 0
        to_tables: List[Optional[torch.Tensor]] = [None, None]
        if self.key is not None:
            products = to_scores.new_zeros((*to_scores.shape[:-1], self.key.shape[1]))
            products.scatter_add_(-1, row, to_scores)
            to_query = torch.matmul(products, self.key)
            to_tables[0] = torch.matmul(products.transpose(-1, -2), query).sum(0)
        if self.query is not None:
            products = to_scores.new_zeros((*to_scores.shape[:-1], self.query.shape[1]))
            products.scatter_add_(-1, row.transpose(-1, -2), to_scores.transpose(-1, -2))
            to_key = torch.matmul(products, self.query)
            to_tables[1] = torch.matmul(products.transpose(-1, -2), key).sum(0)
        return to_query, to_key, to_tables[0], to_tables[1]


class _Attention(torch.autograd.Function):
    """Self-attention on 8-bit operands, with forward and backward written by hand.

    The score matrix is the largest tensor of the model; autograd over single operations would read and write
    it several times more, and keep several copies of it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Optional[torch.Tensor],
        bias: Optional[torch.Tensor],
        position_key: Optional[torch.Tensor],
        position_query: Optional[torch.Tensor],
        row: Optional[torch.Tensor],
        params: _Params,
    ) -> torch.Tensor:
        zero_point = params.query_zero_point
        q = to_codes(query, params.query_scale, -zero_point, 255 - zero_point)
        k = to_codes(key, params.key_scale, -WEIGHT_MAX, WEIGHT_MAX)
        v = to_codes(value, params.value_scale, -WEIGHT_MAX, WEIGHT_MAX)
        scores = torch.matmul(q, k.transpose(-1, -2))  # exact integers
        positions = None
        if row is not None:
            positions = Positions(position_key, position_query, row)
            # The compiler finds the tables once, and the engine multiplies codes; here values are as exact.
            beside = positions.scores(q * params.query_scale, k * params.key_scale).mul_(params.scaling)
            bias = beside if bias is None else beside.add_(bias)
        if bias is not None:
            scores = _add_bias(scores, bias, params)
        if mask is not None:
            scores.add_(mask)
        p = _probabilities(scores, params, biased=bias is not None)
        inverse_sum = p.sum(-1, keepdim=True).clamp_(min=1).reciprocal_()
        dropped = torch.dropout(p, params.dropout, True) if params.dropout > 0 else p
        context = torch.matmul(dropped, v)
        batch, heads, tokens, channels = context.shape
        output = torch.empty((batch, tokens, heads, channels), dtype=context.dtype, device=context.device)
        torch.mul(context.transpose(1, 2), (inverse_sum * params.value_scale).transpose(1, 2), out=output)
        ctx.save_for_backward(query, key, value, q, k, v, p, dropped, inverse_sum, output)
        ctx.params = params
        ctx.positions = positions
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        query, key, value, q, k, v, p, dropped, inverse_sum, output = ctx.saved_tensors
        params: _Params = ctx.params
        # Softmax's backward pass with P = p / sum(p); row sums of P * dP are those of gradient * output.
        normalized = gradient.transpose(1, 2) * inverse_sum
        row = (gradient * output).sum(-1, keepdim=True).transpose(1, 2) * inverse_sum
        to_value = torch.matmul(dropped.transpose(-1, -2), normalized)
        to_scores = torch.matmul(normalized, (v * params.value_scale).transpose(-1, -2))
        to_scores.mul_(dropped).addcmul_(p, row, value=-1)
        to_query = torch.matmul(to_scores, k * (params.key_scale * params.scaling))
        to_key = torch.matmul(to_scores.transpose(-1, -2), q * (params.query_scale * params.scaling))
        to_position_key = to_position_query = None
        if ctx.positions is not None:
            more_query, more_key, to_position_key, to_position_query = ctx.positions.gradients(
                to_scores * params.scaling, q * params.query_scale, k * params.key_scale
            )
            to_query, to_key = to_query + more_query, to_key + more_key
        zero_point = params.query_zero_point
        query_bounds = clip_bounds(params.query_scale, -zero_point, 255 - zero_point)
        return (
            pass_unclipped(to_query, query, query_bounds),
            pass_unclipped(to_key, key, clip_bounds(params.key_scale, -WEIGHT_MAX, WEIGHT_MAX)),
            pass_unclipped(to_value, value, clip_bounds(params.value_scale, -WEIGHT_MAX, WEIGHT_MAX)),
            None,
            to_scores.sum(0, keepdim=True) if ctx.needs_input_grad[4] else None,
            to_position_key,
            to_position_query,
            None,
            None,
        )


def _add_bias(scores: torch.Tensor, bias: torch.Tensor, params: _Params) -> torch.Tensor:
    """``score * scale + bias`` of whole-number scores, which may be overwritten; in evaluation in base 2.

    There float64 holds the product exactly, so that the sum is rounded once, as the engine's is.
    """
    if params.training:
        return scores.mul_(params.score_scale).add_(bias)
    scale = torch.tensor(params.score_scale * _LOG2_E, dtype=torch.float32).item()
    in_bits = (bias.double() * _LOG2_E).float()
    return scores.double().mul_(scale).add_(in_bits).float()


def _probabilities(scores: torch.Tensor, params: _Params, *, biased: bool) -> torch.Tensor:
    """``rne(255 * exp(scale * (score - max)))`` of whole-number scores; float32, of the same shape.

    The scores may be overwritten; ``max`` is each row's largest (docs/reference/numerics.md, Attention).
    Those with a bias are what :func:`_add_bias` gives: they have their scale.
    """
    scale = 1.0 if biased else params.score_scale
    # A query all of whose keys are masked (padding far from the text, in a window) gets zeros and no NaN.
    largest = scores.amax(-1, keepdim=True).clamp_(min=MASKED / 2)
    if not params.training:
        exponents = scores.sub_(largest)
        return exp2_(exponents if biased else exponents.mul_(scale * _LOG2_E)).mul_(255).round_()
    # As exp(scale * score + offset): one pass and the exponential.
    offset = largest.mul_(-scale).add_(_LOG_255)
    return torch.add(offset, scores, alpha=scale, out=scores).exp_().round_()


def int8_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Optional[torch.Tensor],
    scaling: Optional[float] = None,
    dropout: float = 0.0,
    bias: Optional[torch.Tensor] = None,
    sliding_window: Optional[int] = None,
    positions: Optional[Positions] = None,
    **_: Any,
) -> Tuple[torch.Tensor, None]:
    """Self-attention on 8-bit queries, keys, values and probabilities.

    The rule is in docs/reference/numerics.md (Attention).

    Args:
        module: the self-attention module; ``quantize_model`` gave it ``quantizers``.
        query: float ``[batch, heads, tokens, head_dim]``.
        key: of the same shape, or with fewer heads, each of which several heads of queries share.
        value: of the shape of ``key``.
        attention_mask: None, or broadcastable to ``[batch, heads, tokens, tokens]``: bool (True: attend)
            or float (0: attend, a large negative number: do not).
        scaling: factor of the scores; default ``1 / sqrt(head_dim)``.
        dropout: probability of dropping a probability (training).
        bias: None, or float ``[1, heads, tokens, tokens]``, added to the scaled scores.
        sliding_window: keys so many tokens from the query, and further, do not count; None: all do.
        positions: what queries and keys are also multiplied with; None: with each other alone.

    Returns:
        Context ``[batch, tokens, heads, head_dim]``, and no attention weights.
    """
    quantizers = cast(AttentionQuantizers, module.quantizers)
    quantizers.input.release()
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    operands = (quantizers.query, quantizers.key, quantizers.value)
    quantize = [quantizer.prepare(x) for quantizer, x in zip(operands, (query, key, value))]
    if key.shape[1] != query.shape[1]:
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    if sliding_window is not None:
        attention_mask = _in_window(attention_mask, sliding_window, query)
    is_bool = attention_mask is not None and attention_mask.dtype == torch.bool
    has_more = bias is not None or positions is not None
    if attention_mask is not None and is_bool and (has_more or all(quantize)):
        attention_mask = additive_mask(attention_mask)
    if not all(quantize):
        if positions is not None:
            beside = positions.scores(query, key) * scaling
            bias = beside if bias is None else beside + bias
        if bias is not None:
            attention_mask = bias if attention_mask is None else attention_mask + bias
        context = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
        )
        return context.transpose(1, 2).contiguous(), None
    query_scale, query_zero_point = quantizers.query.static_params()
    params = _Params(
        query_scale,
        query_zero_point,
        quantizers.key.static_params()[0],
        quantizers.value.static_params()[0],
        scaling,
        dropout,
        module.training,
    )
    with torch.autocast(query.device.type, enabled=False):
        tables = (None, None, None) if positions is None else positions
        output = _Attention.apply(  # type: ignore[no-untyped-call]
            query, key, value, attention_mask, bias, *tables, params
        )
    return cast(torch.Tensor, output), None


def _in_window(mask: Optional[torch.Tensor], window: int, query: torch.Tensor) -> Optional[torch.Tensor]:
    """A mask that also leaves out the keys ``window`` tokens away and further."""
    tokens = query.shape[-2]
    if window >= tokens:
        return mask
    places = torch.arange(tokens, device=query.device)
    near = (places[None] - places[:, None]).abs() < window
    if mask is not None and mask.dtype == torch.bool:
        return mask & near
    band = additive_mask(near)
    return band[None, None] if mask is None else torch.minimum(mask, band)


def additive_mask(attend: torch.Tensor) -> torch.Tensor:
    """0 where ``attend`` is True and :data:`MASKED` elsewhere; float32 of the same shape."""
    return torch.zeros(attend.shape, device=attend.device).masked_fill_(~attend, MASKED)


def padding_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    attention_mask: Optional[torch.Tensor] = None,
    **_: Any,
) -> Optional[torch.Tensor]:
    """The mask of a bidirectional encoder: float ``[batch, 1, 1, tokens]``, or None without padding.

    An :class:`AttentionMaskInterface` function; ``attention_mask`` is bool ``[batch, tokens]``.
    """
    if attention_mask is None or bool(attention_mask.all()):
        return None
    return additive_mask(attention_mask[:, None, None, :].bool())


def _register(register: Callable[[str, Callable[..., Any]], None], function: Callable[..., Any]) -> None:
    register(NAME, function)


_register(AttentionInterface.register, int8_attention)
_register(AttentionMaskInterface.register, padding_mask)
