"""Self-attention whose scores also multiply with relative positions (DeBERTa), in INT8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Tuple, cast

import torch
from torch import nn

from obert_edge.host.quantization.attention import Positions, int8_attention
from obert_edge.host.quantization.fake_quant import fake_quant_rows


class DisentangledSelfAttention(nn.Module):
    """In the place of DeBERTa's self-attention: the same modules under the same names, attention in INT8.

    What queries and keys are multiplied with by their positions does not depend on the tokens. So it is made
    of the float weights, as the compiler makes it, and its rows alone are rounded to 8 bits.

    Args:
        original: transformers' module, whose submodules this one takes over.
        projections: names of its query, key and value linears.
        own: names of its linears of the positions' keys and queries, where it has them.
    """

    def __init__(self, original: Any, projections: Sequence[str], own: Sequence[str]) -> None:
        super().__init__()
        for name, child in original.named_children():
            self.add_module(name, child)
        self.projections = tuple(projections)
        self.head_dim = int(original.attention_head_size)
        products = tuple(original.pos_att_type)
        self.parts = 1 + sum(product in products for product in ("c2p", "p2c"))
        self.span = int(original.pos_ebd_size) if original.relative_attention else 0
        query, key, _value = self.projections
        shared, named = (key, query), tuple(own)
        sources = shared if original.share_att_key else named
        used = ["c2p" in products, "p2c" in products]
        self.sources = tuple(source if use else "" for source, use in zip(sources, used))
        self.train(original.training)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        output_attentions: bool = False,
        query_states: Optional[torch.Tensor] = None,
        relative_pos: Optional[torch.Tensor] = None,
        rel_embeddings: Optional[torch.Tensor] = None,
    ) -> Tuple[Any, ...]:
        """As transformers' module.

        Args:
            hidden_states: float ``[batch, tokens, hidden]``.
            attention_mask: ``[batch, 1, tokens, tokens]``, 0 where query or key is padding.
            output_attentions: there are none: None takes their place.
            query_states: must be None; it is for steps of pretraining.
            relative_pos: whole numbers ``[1, tokens, tokens]``, the bucket of i - j; None: there are none.
            rel_embeddings: float ``[2 * span, hidden]``; None: there are none.

        Returns:
            Float ``[batch, tokens, hidden]``, and None.
        """
        assert query_states is None, "an encoder's layers read what the layers before them wrote"
        rows = hidden_states.shape[:-1]
        query, key, value = (
            getattr(self, name)(hidden_states).view(*rows, -1, self.head_dim).transpose(1, 2)
            for name in self.projections
        )
        # A key that no query sees is padding. What a query that is padding itself sees matters to nobody.
        mask = attention_mask.bool().any(dim=-2, keepdim=True)
        context, _none = int8_attention(
            self,
            query,
            key,
            value,
            None if bool(mask.all()) else mask,
            scaling=(self.parts * self.head_dim) ** -0.5,
            dropout=float(cast(nn.Dropout, self.dropout).p) if self.training else 0.0,
            positions=self._positions(relative_pos, rel_embeddings),
        )
        return context.reshape(*rows, -1), None

    def _positions(self, bucket: Optional[torch.Tensor], rows: Optional[torch.Tensor]) -> Optional[Positions]:
        if bucket is None or rows is None or not any(self.sources):
            return None
        if self.training:
            rows = cast(torch.Tensor, self.pos_dropout(rows))  # type: ignore[operator]
        key, query = (self._table(rows, source) for source in self.sources)
        return Positions(key, query, (bucket[0] + self.span).clamp(0, 2 * self.span - 1))

    def _table(self, rows: torch.Tensor, source: str) -> Optional[torch.Tensor]:
        """Rows through a linear of the layer, rounded to 8 bits, ``[heads, rows, head_dim]``."""
        if not source:
            return None
        linear = cast(nn.Linear, getattr(self, source))
        values = nn.functional.linear(rows[: 2 * self.span], linear.weight, linear.bias)
        values = values.view(len(values), -1, self.head_dim).transpose(0, 1)
        # While ranges are found, nothing else is rounded either.
        return values if self._is_float() else fake_quant_rows(values)

    def _is_float(self) -> bool:
        mode = str(cast(Any, self.quantizers).query.mode)
        return mode in ("float", "calibrating")
