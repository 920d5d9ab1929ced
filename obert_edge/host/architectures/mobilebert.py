"""MobileBERT (Sun et al. 2020): thin layers between bottlenecks, several feed-forward parts, trigrams."""

from __future__ import annotations

from obert_edge.bundle.ops import Activation, NormKind
from obert_edge.host.architectures.base import (
    BERT_LAYER,
    BERT_MODULES,
    Architecture,
    Bottleneck,
    ConfigFields,
    Decoder,
    Dense,
    Head,
    Norm,
    Variant,
)

_HEADS = {
    "question-answering": Head((Dense("qa_outputs"),)),
    "token-classification": Head((Dense("classifier"),)),
    "masked-lm": Head(
        (
            Dense("cls.predictions.transform.dense", None),
            Norm("cls.predictions.transform.LayerNorm"),
            Decoder("cls.predictions.decoder", "cls.predictions.bias", columns="cls.predictions.dense"),
        )
    ),
}
_POOLED = Head((Dense("{base}pooler.dense", Activation.TANH), Dense("classifier")), first_token=True)
_FIRST = Head((Dense("classifier"),), first_token=True)

MOBILEBERT = Architecture(
    model_type="mobilebert",
    class_prefix="MobileBert",
    prefix="mobilebert",
    layer=BERT_LAYER,
    modules=BERT_MODULES,
    bottleneck=Bottleneck(
        width="intra_bottleneck_size",
        entry="bottleneck.input.dense",
        entry_norm="bottleneck.input.LayerNorm",
        shared="bottleneck.attention.dense",
        shared_norm="bottleneck.attention.LayerNorm",
        exit="output.bottleneck.dense",
        exit_norm="output.bottleneck.LayerNorm",
        count="num_feedforward_networks",
        intermediate="ffn.{k}.intermediate.dense",
        output="ffn.{k}.output.dense",
        output_norm="ffn.{k}.output.LayerNorm",
        epsilon=1e-5,
    ),
    fields=ConfigFields(embedding="embedding_size", usual_activation="relu"),
    trigrams=True,
    projection="embeddings.embedding_transformation",
    pooler="pooler.dense",
    norm=NormKind.NONE,
    heads={"sequence-classification": _POOLED, **_HEADS},
    class_tasks={"MobileBertForPreTraining": "masked-lm"},
    other_heads=("cls",),
    variants=(
        Variant("normalization_type", "no_norm", {"norm": NormKind.LAYER}),
        Variant(
            "classifier_activation",
            True,
            {"pooler": None, "heads": {"sequence-classification": _FIRST, **_HEADS}},
        ),
    ),
)
