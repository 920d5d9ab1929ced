"""Tiny random transformers models, one per architecture and head, saved as users save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import torch
import transformers

HEADS = {
    "sequence-classification": "ForSequenceClassification",
    "question-answering": "ForQuestionAnswering",
    "token-classification": "ForTokenClassification",
    "masked-lm": "ForMaskedLM",
    "encoder": "Model",
}
CLASS_PREFIXES = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "electra": "Electra"}
CASES = [(architecture, task) for architecture in CLASS_PREFIXES for task in HEADS]


def make_model(
    architecture: str, task: str, *, hidden: int = 64, layers: int = 3, heads: int = 4, **options: Any
) -> torch.nn.Module:
    """A random model in float32 whose outputs vary: every weight is drawn anew, biases and norms too."""
    torch.manual_seed(0)
    prefix = CLASS_PREFIXES[architecture]
    sizes: Dict[str, Any] = {"vocab_size": 120, "max_position_embeddings": 66, "num_labels": 3}
    if architecture == "distilbert":
        sizes.update(dim=hidden, hidden_dim=4 * hidden, n_layers=layers, n_heads=heads)
    else:
        sizes.update(
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
        )
    if architecture == "electra":
        sizes["embedding_size"] = 32
    if task == "question-answering":
        sizes["num_labels"] = 2
    config = getattr(transformers, f"{prefix}Config")(**{**sizes, **options})
    model = getattr(transformers, f"{prefix}{HEADS[task]}")(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.1)
            elif "norm" in name.lower():
                value.normal_(1, 0.1)
            else:
                value.normal_(0, value.shape[-1] ** -0.5)
    return model


def save_model(folder: Path, architecture: str, task: str, **options: Any) -> torch.nn.Module:
    """Make and save one; returns the model."""
    model = make_model(architecture, task, **options)
    model.save_pretrained(folder)
    return model
