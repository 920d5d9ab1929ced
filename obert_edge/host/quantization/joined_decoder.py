"""The INT8 twin of MobileBERT's head of a masked language model, whose decoder is two linears in one."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from obert_edge.host.quantization.fake_quant import quantized_linear
from obert_edge.host.quantization.modules import QuantLinear


class JoinedDecoder(nn.Module):
    """``cls.predictions`` of MobileBERT: the word embedding and the columns it lacks make up the decoder.

    transformers multiplies with the weights of both linears without calling them; here the joined weight
    [vocabulary, hidden] is quantized as that of one linear, as in a bundle.

    Args:
        head: the module it replaces; parameters and children stay the same objects under their names.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.transform = cast(Any, head.transform)
        self.dense = cast(nn.Linear, head.dense)
        self.decoder = cast(nn.Linear, head.decoder)
        self.bias = cast(nn.Parameter, head.bias)
        self.train(head.training)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Logits [batch, tokens, vocabulary] of float [batch, tokens, hidden]."""
        decoder = cast(QuantLinear, self.decoder)
        with torch.autocast(hidden_states.device.type, enabled=False):
            codes = decoder.input(self.transform(hidden_states).float())
            weight = torch.cat([decoder.weight, self.dense.weight.t()], dim=1)
            if decoder.quantize_weight:
                return quantized_linear(codes, weight, decoder.bias, decoder.weight_scale)
            return nn.functional.linear(codes.codes * codes.scale, weight, decoder.bias)
