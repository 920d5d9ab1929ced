"""DeBERTa v2 and v3 (He et al., arXiv:2006.03654 and arXiv:2111.09543): scores by relative positions too.

Each layer projects one table of relative positions as it does keys and queries. The models of version 3, and
mDeBERTa, have no absolute positions, share the projections and have buckets of distances.
"""

from __future__ import annotations

from typing import Dict

from obert_edge.bundle.program import Activation
from obert_edge.host.architectures.base import (
    BERT_LAYER,
    Architecture,
    Decoder,
    Dense,
    Head,
    LayerModules,
    Norm,
    RelativePositions,
    Variant,
)

_HEADS: Dict[str, Head] = {
    "sequence-classification": Head(
        (Dense("pooler.dense", None), Dense("classifier", Activation.NONE)),
        first_token=True,
        activation="pooler_hidden_act",
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
}
#: The head that the models were trained with, which reads the word embeddings where it is used.
_TRAINED = Head(
    (
        Dense("lm_predictions.lm_head.dense", None),
        Norm("lm_predictions.lm_head.LayerNorm"),
        Decoder("lm_predictions.lm_head.decoder", "lm_predictions.lm_head.bias"),
    )
)
_POSITION = "embeddings.position_embeddings"

DEBERTA_V2 = Architecture(
    model_type="deberta-v2",
    class_prefix="DebertaV2",
    prefix="deberta",
    layer=BERT_LAYER,
    modules=LayerModules(
        attention="attention.self",
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        attention_output="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        intermediate="intermediate.dense",
        output="output.dense",
        output_norm="output.LayerNorm",
    ),
    position=_POSITION,
    token_type=None,
    relative_positions=RelativePositions(
        table="encoder.rel_embeddings",
        norm="encoder.LayerNorm",
        key="attention.self.pos_key_proj",
        query="attention.self.pos_query_proj",
    ),
    heads=_HEADS,
    other_heads=("pooler", "cls", "lm_predictions", "mask_predictions"),
    variants=(
        # Published weights keep a table of absolute positions, which only their pretraining reads.
        Variant(
            "position_biased_input",
            True,
            {"position": None, "ignored": ("embeddings.position_ids", f"{_POSITION}.weight")},
        ),
        Variant("type_vocab_size", 0, {"token_type": "embeddings.token_type_embeddings"}),
        Variant("legacy", True, {"heads": {**_HEADS, "masked-lm": _TRAINED}}),
    ),
)
