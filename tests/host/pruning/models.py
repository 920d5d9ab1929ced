"""Tiny random transformers models and batches for the pruning tests."""

from __future__ import annotations

import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    EuroBertConfig,
    EuroBertForSequenceClassification,
    GteConfig,
    GteForSequenceClassification,
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3ForSequenceClassification,
    MobileBertConfig,
    MobileBertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    NomicBertConfig,
    NomicBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

_SIZES = {"vocab_size": 50, "max_position_embeddings": 40, "num_labels": 3}
_BERT_SIZES = {
    **_SIZES,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def make_bert(seed: int = 0, **changes):
    torch.manual_seed(seed)
    config = BertConfig(**{**_BERT_SIZES, "hidden_dropout_prob": 0.1, **changes})
    return BertForSequenceClassification(config)


def make_bert_qa():
    torch.manual_seed(0)
    return BertForQuestionAnswering(BertConfig(**{**_BERT_SIZES, "num_labels": 2}))


def make_distilbert():
    torch.manual_seed(0)
    config = DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **_SIZES)
    return DistilBertForSequenceClassification(config)


def make_roberta():
    torch.manual_seed(0)
    return RobertaForSequenceClassification(RobertaConfig(**_BERT_SIZES))


def make_electra():
    torch.manual_seed(0)
    return ElectraForSequenceClassification(ElectraConfig(**_BERT_SIZES, embedding_size=8))


def make_mpnet():
    torch.manual_seed(0)
    return MPNetForSequenceClassification(MPNetConfig(**_BERT_SIZES))


def make_modernbert():
    torch.manual_seed(0)
    return ModernBertForSequenceClassification(
        ModernBertConfig(**_BERT_SIZES, pad_token_id=0, local_attention=4)
    )


def make_nomic_bert():
    torch.manual_seed(0)
    return NomicBertForSequenceClassification(NomicBertConfig(**_BERT_SIZES))


def make_gte():
    torch.manual_seed(0)
    return GteForSequenceClassification(GteConfig(**_BERT_SIZES))


def make_jina_embeddings_v3():
    torch.manual_seed(0)
    return JinaEmbeddingsV3ForSequenceClassification(JinaEmbeddingsV3Config(**_BERT_SIZES))


def make_eurobert():
    """With one head of keys and values for its two of queries."""
    torch.manual_seed(0)
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id"), 0)
    return EuroBertForSequenceClassification(EuroBertConfig(**_BERT_SIZES, num_key_value_heads=1, **special))


def make_albert():
    """Two sets of weights, each for two layers."""
    torch.manual_seed(0)
    sizes = {**_BERT_SIZES, "num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 8}
    return AlbertForSequenceClassification(AlbertConfig(**sizes))


def make_mobilebert():
    """Two feed-forward parts in each layer."""
    torch.manual_seed(0)
    inside = {"intra_bottleneck_size": 8, "embedding_size": 8, "num_feedforward_networks": 2}
    return MobileBertForSequenceClassification(MobileBertConfig(**_BERT_SIZES, **inside))


def make_xlm_roberta():
    torch.manual_seed(0)
    return XLMRobertaForSequenceClassification(XLMRobertaConfig(**_BERT_SIZES))


def make_camembert():
    torch.manual_seed(0)
    return CamembertForSequenceClassification(CamembertConfig(**_BERT_SIZES))


def make_deberta(shared=True):
    torch.manual_seed(0)
    config = DebertaV2Config(
        **_BERT_SIZES,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=shared,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
    )
    return DebertaV2ForSequenceClassification(config)


ARCHITECTURES = {
    "bert": make_bert,
    "distilbert": make_distilbert,
    "roberta": make_roberta,
    "electra": make_electra,
    "mpnet": make_mpnet,
    "modernbert": make_modernbert,
    "nomic_bert": make_nomic_bert,
    "gte": make_gte,
    "jina_embeddings_v3": make_jina_embeddings_v3,
    "eurobert": make_eurobert,
    "albert": make_albert,
    "mobilebert": make_mobilebert,
    "xlm-roberta": make_xlm_roberta,
    "camembert": make_camembert,
    "deberta-v2": make_deberta,
}


def make_batches(count: int = 24, batch_size: int = 4, length: int = 7, seed: int = 1):
    """Batches of random ids (2 and up: Roberta pads with 1) and labels."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "input_ids": torch.randint(2, 50, (batch_size, length), generator=generator),
            "attention_mask": torch.ones(batch_size, length, dtype=torch.long),
            "labels": torch.randint(0, 3, (batch_size,), generator=generator),
        }
        for _ in range(count)
    ]


def make_examples(count: int = 64, length: int = 7):
    """A data set for the Trainer: a list of dictionaries, one per example."""
    batch = make_batches(1, batch_size=count, length=length)[0]
    return [{key: value[i] for key, value in batch.items()} for i in range(count)]


def definition(matrix, w, indices):
    """Equation 3's solution, literally: dw and rho for the group Q = indices."""
    inverse = torch.linalg.inv(matrix[0])
    e_q = torch.eye(w.shape[1], dtype=torch.float64)[list(indices)]
    middle = torch.linalg.inv(e_q @ inverse @ e_q.T)
    dw = -inverse @ e_q.T @ middle @ e_q @ w[0]
    rho = 0.5 * (e_q @ w[0]) @ middle @ (e_q @ w[0])
    return dw[None], float(rho)
