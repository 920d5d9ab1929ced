"""GTE (Zhang et al. 2024, mGTE): BERT with rotary positions and gated units."""

from __future__ import annotations

import dataclasses

from obert_edge.bundle.ops import Activation
from obert_edge.host.architectures.base import ConfigFields, Decoder, Dense, Head, Norm, Renaming, Rotary
from obert_edge.host.architectures.nomic_bert import NOMIC_BERT

GTE = dataclasses.replace(
    NOMIC_BERT,
    model_type="gte",
    class_prefix="Gte",
    prefix="gte",
    fields=ConfigFields(),
    rotary=Rotary(160_000.0),
    heads={
        "sequence-classification": Head(
            (Dense("{base}pooler.dense", Activation.TANH), Dense("classifier")), first_token=True
        ),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (
                Dense("lm_head.dense", Activation.GELU),
                Norm("lm_head.layer_norm"),
                Decoder("lm_head.decoder"),
            )
        ),
    },
    renamings=(
        Renaming("new.", ("",)),
        Renaming("encoder.layer.", ("layers.",)),
        Renaming(".attention.o_proj.", (".self_attn.o_proj.",)),
        Renaming(".attention.qkv_proj.", (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj.")),
        Renaming(".mlp.up_gate_proj.", (".mlp.up_proj.", ".mlp.gate_proj.")),
        Renaming(".attn_ln.", (".post_attention_layernorm.",)),
        Renaming(".mlp_ln.", (".post_mlp_layernorm.",)),
        Renaming("lm_head.norm.", ("lm_head.layer_norm.",)),
    ),
    other_heads=("lm_head",),
)
