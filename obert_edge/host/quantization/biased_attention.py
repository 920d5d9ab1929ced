"""Self-attention with a bias on every score, which transformers computes by its own code, in INT8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Tuple, cast

import torch
from torch import nn

from obert_edge.host.quantization.attention import int8_attention


class BiasedSelfAttention(nn.Module):
    """In the place of MPNet's self-attention: the same modules under the same names, attention in INT8.

    Args:
        original: transformers' module, whose submodules this one takes over.
        projections: names of its query, key and value linears, and of the linear after the heads.
    """

    def __init__(self, original: Any, projections: Sequence[str]) -> None:
        super().__init__()
        for name, child in original.named_children():
            self.add_module(name, child)
        self.projections = tuple(projections)
        self.head_dim = int(original.attention_head_size)
        self.train(original.training)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Optional[torch.Tensor] = None,
        position_bias: Optional[torch.Tensor] = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> Tuple[Any, ...]:
        """As transformers' module.

        Args:
            hidden_states: float ``[batch, tokens, hidden]``.
            attention_mask: None, or what is added to the scores, broadcastable to ``[batch, heads, tokens,
                tokens]``.
            position_bias: float ``[batch, heads, tokens, tokens]``, the same for the whole batch.
            output_attentions: there are none: None takes their place.

        Returns:
            Float ``[batch, tokens, hidden]``, alone or with None.
        """
        rows = hidden_states.shape[:-1]
        *operands, output = (getattr(self, name) for name in self.projections)
        query, key, value = (
            linear(hidden_states).view(*rows, -1, self.head_dim).transpose(1, 2) for linear in operands
        )
        context, _none = int8_attention(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=float(cast(nn.Dropout, self.dropout).p) if self.training else 0.0,
            bias=None if position_bias is None else position_bias[:1],
        )
        attended = output(context.reshape(*rows, -1))
        return (attended, None) if output_attentions else (attended,)
