"""DistilBERT (Sanh et al. 2019): no token types, no pooler, its own names."""

from __future__ import annotations

from obert_edge.bundle.program import Activation
from obert_edge.host.architectures.base import (
    Architecture,
    ConfigFields,
    Decoder,
    Dense,
    Head,
    LayerModules,
    Norm,
)

DISTILBERT = Architecture(
    model_type="distilbert",
    class_prefix="DistilBert",
    prefix="distilbert",
    layer="transformer.layer.{i}",
    modules=LayerModules(
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        intermediate="ffn.lin1",
        output="ffn.lin2",
        output_norm="output_layer_norm",
    ),
    fields=ConfigFields("dim", "n_layers", "n_heads", "hidden_dim", "activation", "dim"),
    token_type=None,
    epsilon=1e-12,
    heads={
        "sequence-classification": Head(
            (Dense("pre_classifier", Activation.RELU), Dense("classifier")), first_token=True
        ),
        "question-answering": Head((Dense("qa_outputs"),)),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (Dense("vocab_transform", None), Norm("vocab_layer_norm"), Decoder("vocab_projector"))
        ),
    },
    other_heads=("vocab_transform", "vocab_layer_norm", "vocab_projector"),
)
