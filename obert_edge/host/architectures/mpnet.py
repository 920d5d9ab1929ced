"""MPNet (Song et al. 2020): BERT's encoder with a bias of scores, by how far a key is behind the query."""

from __future__ import annotations

from obert_edge.bundle.program import Activation
from obert_edge.host.architectures.base import (
    BERT_LAYER,
    Architecture,
    Decoder,
    Dense,
    Head,
    LayerModules,
    Norm,
)

MPNET = Architecture(
    model_type="mpnet",
    class_prefix="MPNet",
    prefix="mpnet",
    layer=BERT_LAYER,
    modules=LayerModules(
        attention="attention.attn",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        attention_norm="attention.LayerNorm",
        intermediate="intermediate.dense",
        output="output.dense",
        output_norm="output.LayerNorm",
    ),
    token_type=None,
    pooler="pooler.dense",
    positions_after_padding=True,
    padding_id=1,
    relative_bias="encoder.relative_attention_bias",
    heads={
        "sequence-classification": Head(
            (Dense("classifier.dense", Activation.TANH), Dense("classifier.out_proj")), first_token=True
        ),
        "question-answering": Head((Dense("qa_outputs"),)),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (
                Dense("lm_head.dense", Activation.GELU),
                Norm("lm_head.layer_norm"),
                Decoder("lm_head.decoder", "lm_head.bias"),
            )
        ),
    },
    other_heads=("lm_head",),
)
