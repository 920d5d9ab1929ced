"""ELECTRA (Clark et al. 2020): BERT's encoder after a projection of narrower embeddings, no pooler."""

from __future__ import annotations

from obert_edge.bundle.program import Activation
from obert_edge.host.architectures.base import (
    BERT_LAYER,
    BERT_MODULES,
    Architecture,
    ConfigFields,
    Decoder,
    Dense,
    Head,
    Norm,
)

ELECTRA = Architecture(
    model_type="electra",
    class_prefix="Electra",
    prefix="electra",
    layer=BERT_LAYER,
    modules=BERT_MODULES,
    fields=ConfigFields(embedding="embedding_size"),
    projection="embeddings_project",
    heads={
        "sequence-classification": Head(
            (Dense("classifier.dense", Activation.GELU), Dense("classifier.out_proj")), first_token=True
        ),
        "question-answering": Head((Dense("qa_outputs"),)),
        "token-classification": Head((Dense("classifier"),)),
        "masked-lm": Head(
            (
                Dense("generator_predictions.dense", Activation.GELU),
                Norm("generator_predictions.LayerNorm"),
                Decoder("generator_lm_head"),
            )
        ),
    },
    other_heads=("generator_predictions", "generator_lm_head", "discriminator_predictions"),
)
