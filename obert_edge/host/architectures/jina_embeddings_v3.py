"""Jina embeddings v3 (Sturua et al. 2024): XLM-RoBERTa with rotary positions in place of a table of them."""

from __future__ import annotations

import dataclasses

from obert_edge.host.architectures.base import ConfigFields, LayerModules, Renaming, Rotary
from obert_edge.host.architectures.xlm_roberta import XLM_ROBERTA

JINA_EMBEDDINGS_V3 = dataclasses.replace(
    XLM_ROBERTA,
    model_type="jina_embeddings_v3",
    class_prefix="JinaEmbeddingsV3",
    layer="layers.{i}",
    modules=LayerModules(
        attention="self_attn",
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        attention_output="self_attn.o_proj",
        attention_norm="post_attention_layernorm",
        intermediate="mlp.fc1",
        output="mlp.fc2",
        output_norm="post_mlp_layernorm",
    ),
    fields=ConfigFields(usual_epsilon=1e-5),
    position=None,
    positions_after_padding=False,
    rotary=Rotary(20_000.0),
    renamings=(
        Renaming("encoder.layers.", ("layers.",)),
        Renaming("emb_ln.", ("embeddings.LayerNorm.",)),
        Renaming(".mixer.out_proj.", (".self_attn.o_proj.",)),
        Renaming(".mixer.Wqkv.", (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj.")),
        Renaming(".norm1.", (".post_attention_layernorm.",)),
        Renaming(".norm2.", (".post_mlp_layernorm.",)),
    ),
)
