"""ModernBERT (Warner et al. 2024): rotary positions, gated units, norms before blocks, local attention."""

from __future__ import annotations

from obert_edge.host.architectures.base import (
    Architecture,
    ConfigFields,
    Decoder,
    Dense,
    Head,
    LayerModules,
    Norm,
    Rotary,
)

_PREDICTION = (Dense("head.dense", None), Norm("head.norm"))

MODERNBERT = Architecture(
    model_type="modernbert",
    class_prefix="ModernBert",
    prefix="model",
    layer="layers.{i}",
    modules=LayerModules(
        attention="attn",
        query="attn.Wqkv",
        key="attn.Wqkv",
        value="attn.Wqkv",
        attention_output="attn.Wo",
        attention_norm="attn_norm",
        intermediate="mlp.Wi",
        output="mlp.Wo",
        output_norm="mlp_norm",
        gate="mlp.Wi",
    ),
    fields=ConfigFields(
        activation="hidden_activation",
        epsilon="norm_eps",
        head_activation="classifier_activation",
        head_pooling="classifier_pooling",
        usual_epsilon=1e-5,
    ),
    word="embeddings.tok_embeddings",
    position=None,
    token_type=None,
    embedding_norm="embeddings.norm",
    final_norm="final_norm",
    bare_first_layer=True,
    optional_biases=True,
    rotary=Rotary(160_000.0, local_base=10_000.0),
    heads={
        "sequence-classification": Head((*_PREDICTION, Dense("classifier"))),
        "question-answering": Head((*_PREDICTION, Dense("classifier"))),
        "token-classification": Head((*_PREDICTION, Dense("classifier"))),
        "masked-lm": Head((*_PREDICTION, Decoder("decoder"))),
    },
    other_heads=("head", "classifier", "decoder"),
)
