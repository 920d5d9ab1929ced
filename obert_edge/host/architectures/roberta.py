"""RoBERTa (Liu et al. 2019): BERT's encoder, positions counted after the padding id, its own heads."""

from __future__ import annotations

from obert_edge.bundle.program import Activation
from obert_edge.host.architectures.base import (
    BERT_LAYER,
    BERT_MODULES,
    Architecture,
    Decoder,
    Dense,
    Head,
    Norm,
)

ROBERTA = Architecture(
    model_type="roberta",
    class_prefix="Roberta",
    prefix="roberta",
    layer=BERT_LAYER,
    modules=BERT_MODULES,
    pooler="pooler.dense",
    positions_after_padding=True,
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
