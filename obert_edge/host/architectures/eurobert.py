"""EuroBERT (Boizard et al. 2025): Llama's layer that looks both ways: RMS norms before blocks, gates."""

from __future__ import annotations

from obert_edge.bundle.ops import Activation, NormKind
from obert_edge.host.architectures.base import (
    Architecture,
    ConfigFields,
    Decoder,
    Dense,
    Head,
    LayerModules,
    Rotary,
)

EUROBERT = Architecture(
    model_type="eurobert",
    class_prefix="EuroBert",
    prefix="model",
    layer="layers.{i}",
    modules=LayerModules(
        attention="self_attn",
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        attention_output="self_attn.o_proj",
        attention_norm="input_layernorm",
        intermediate="mlp.gate_proj",
        output="mlp.down_proj",
        output_norm="post_attention_layernorm",
        gate="mlp.up_proj",
    ),
    fields=ConfigFields(
        epsilon="rms_norm_eps",
        key_heads="num_key_value_heads",
        head_pooling="classifier_pooling",
        usual_activation="silu",
        usual_epsilon=1e-5,
    ),
    word="embed_tokens",
    position=None,
    token_type=None,
    embedding_norm=None,
    final_norm="norm",
    norm=NormKind.RMS,
    optional_biases=True,
    rotary=Rotary(10_000.0),
    head_poolings={"late": "late", "bos": "cls", "mean": "mean"},
    heads={
        "sequence-classification": Head((Dense("dense", Activation.GELU), Dense("classifier"))),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head((Decoder("lm_head"),)),
    },
    other_heads=("dense", "classifier", "lm_head"),
)
