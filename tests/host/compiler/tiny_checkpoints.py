"""Tiny random transformers models of every architecture and head, saved as users save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from obert_edge.host.architectures import ARCHITECTURES

#: (architecture, task): every head of every architecture.
CASES = [(known.model_type, task) for known in ARCHITECTURES.values() for task in known.tasks]


def make_model(
    architecture: str, task: str, *, hidden: int = 64, layers: int = 3, heads: int = 4, **options: Any
) -> torch.nn.Module:
    """A random model in float32 whose outputs vary: every weight is drawn anew, biases and norms too.

    ``options`` are further fields of its configuration.
    """
    torch.manual_seed(0)
    known = ARCHITECTURES[architecture]
    fields = known.fields
    sizes: Dict[str, Any] = {
        "vocab_size": 120,
        "max_position_embeddings": 66,
        "num_labels": 2 if task == "question-answering" else 3,
        fields.hidden: hidden,
        fields.intermediate: 4 * hidden,
        fields.layers: layers,
        fields.heads: heads,
    }
    if known.rotary:  # its special tokens lie beyond a tiny vocabulary; its windows are wider than tiny texts
        sizes |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "local_attention": 16}
    if known.relative_positions:  # as version 3 is configured, with buckets shared by distances from 8 on
        sizes |= {
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
        }
    if fields.key_heads:
        sizes[fields.key_heads] = heads // 2
    if fields.embedding != fields.hidden:
        sizes[fields.embedding] = 32
    if known.bottleneck:
        sizes[known.bottleneck.width] = sizes[fields.embedding] = hidden // 2
    config = getattr(transformers, f"{known.class_prefix}Config")(**{**sizes, **options})
    model = getattr(transformers, known.class_name(task))(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.1)
            elif "norm" in name.lower():
                # Without a norm that divides, activations would grow from layer to layer.
                value.normal_(0.5 if known.bottleneck else 1, 0.1)
            else:
                value.normal_(0, value.shape[-1] ** -0.5)
    return model


def save_model(folder: Path, architecture: str, task: str, **options: Any) -> torch.nn.Module:
    """Make a model (see :func:`make_model`) and save it in ``folder``; returns it."""
    model = make_model(architecture, task, **options)
    model.save_pretrained(folder)
    return model


def link_with_tokenizer(folder: Path, target: Path, words: int = 120) -> Path:
    """A new folder ``target`` with the model of ``folder`` and a tokenizer of ``words`` words; returns it."""
    target.mkdir()
    for name in ("config.json", "model.safetensors"):
        (target / name).symlink_to(folder / name)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(words - 5))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    ).save_pretrained(target)
    return target
