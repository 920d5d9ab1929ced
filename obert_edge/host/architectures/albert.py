"""ALBERT (Lan et al. 2020): BERT's layer, one set of weights for all of them, after narrow embeddings."""

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
    Sharing,
)

ALBERT = Architecture(
    model_type="albert",
    class_prefix="Albert",
    prefix="albert",
    layer="encoder.albert_layer_groups.{i}.albert_layers.{j}",
    modules=LayerModules(
        attention="attention",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        attention_output="attention.dense",
        attention_norm="attention.LayerNorm",
        intermediate="ffn",
        output="ffn_output",
        output_norm="full_layer_layer_norm",
    ),
    sharing=Sharing("num_hidden_groups", "inner_group_num"),
    fields=ConfigFields(embedding="embedding_size", usual_activation="gelu_new"),
    projection="encoder.embedding_hidden_mapping_in",
    pooler="pooler",
    heads={
        "sequence-classification": Head(
            (Dense("{base}pooler", Activation.TANH), Dense("classifier")), first_token=True
        ),
        "question-answering": Head((Dense("qa_outputs"),)),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (
                Dense("predictions.dense", None),
                Norm("predictions.LayerNorm"),
                Decoder("predictions.decoder", "predictions.bias"),
            )
        ),
    },
    class_tasks={"AlbertForPreTraining": "masked-lm"},
    other_heads=("predictions", "sop_classifier"),
)
