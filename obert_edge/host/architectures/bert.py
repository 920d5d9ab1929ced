"""BERT (Devlin et al. 2018), and whatever has its shape: MiniLM, TinyBERT."""

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

BERT = Architecture(
    model_type="bert",
    class_prefix="Bert",
    prefix="bert",
    layer=BERT_LAYER,
    modules=BERT_MODULES,
    pooler="pooler.dense",
    heads={
        "sequence-classification": Head(
            (Dense("{base}pooler.dense", Activation.TANH), Dense("classifier")), first_token=True
        ),
        "question-answering": Head((Dense("qa_outputs"),)),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (
                Dense("cls.predictions.transform.dense", None),
                Norm("cls.predictions.transform.LayerNorm"),
                Decoder("cls.predictions.decoder", "cls.predictions.bias"),
            )
        ),
    },
    class_tasks={"BertForPreTraining": "masked-lm"},
    other_heads=("cls",),
)
