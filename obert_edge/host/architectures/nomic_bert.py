"""NomicBERT (Nussbaum et al. 2024): BERT with rotary positions, gated units and no biases in its linears."""

from __future__ import annotations

from obert_edge.bundle.ops import Activation
from obert_edge.host.architectures.base import (
    Architecture,
    ConfigFields,
    Decoder,
    Dense,
    Head,
    LayerModules,
    Norm,
    Renaming,
    Rotary,
)

NOMIC_BERT = Architecture(
    model_type="nomic_bert",
    class_prefix="NomicBert",
    prefix="nomic_bert",
    layer="layers.{i}",
    modules=LayerModules(
        attention="self_attn",
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        attention_output="self_attn.o_proj",
        attention_norm="post_attention_layernorm",
        intermediate="mlp.gate_proj",
        output="mlp.down_proj",
        output_norm="post_mlp_layernorm",
        gate="mlp.up_proj",
    ),
    fields=ConfigFields(usual_activation="silu"),
    position=None,
    optional_biases=True,
    rotary=Rotary(1000.0),
    heads={
        "sequence-classification": Head(
            (Dense("{base}pooler.dense", Activation.TANH), Dense("classifier")), first_token=True
        ),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (
                Dense("cls.predictions.transform.dense", None),
                Norm("cls.predictions.transform.layer_norm"),
                Decoder("cls.predictions.decoder", "cls.predictions.bias"),
            )
        ),
    },
    renamings=(
        Renaming("encoder.layers.", ("layers.",)),
        Renaming("emb_ln.", ("embeddings.LayerNorm.",)),
        Renaming(".attn.out_proj.", (".self_attn.o_proj.",)),
        Renaming(".attn.Wqkv.", (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj.")),
        Renaming(".mlp.fc11.", (".mlp.up_proj.",)),
        Renaming(".mlp.fc12.", (".mlp.gate_proj.",)),
        Renaming(".mlp.fc2.", (".mlp.down_proj.",)),
        Renaming(".norm1.", (".post_attention_layernorm.",)),
        Renaming(".norm2.", (".post_mlp_layernorm.",)),
    ),
    other_heads=("cls",),
)
