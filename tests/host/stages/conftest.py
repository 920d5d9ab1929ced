"""A tiny encoder and a task it can learn in seconds: which of two word lists a text is from."""

from __future__ import annotations

import json
import random

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from obert_edge.host.data import load_task
from obert_edge.host.stages.recipe import Training

GOOD, BAD, OTHER = (
    ["warm", "bright", "gentle", "clever"],
    ["dull", "cold", "harsh", "empty"],
    ["film", "plot", "scene", "actor", "music", "line"],
)
FAST = Training(
    max_steps=60, learning_rate=3e-3, batch_size=16, dropout=0.0, max_length=16, save_steps=20, warmup=0.1
)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A random two-layer BERT with a tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *OTHER]
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    chance = random.Random(0)
    for split, count in (("train", 240), ("dev", 60)):
        rows = []
        for index in range(count):
            label = index % 2
            words = chance.choices(OTHER, k=chance.randint(2, 8)) + [chance.choice((BAD, GOOD)[label])]
            chance.shuffle(words)
            rows.append(json.dumps({"text": " ".join(words), "label": ("bad", "good")[label]}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def task(data):
    return load_task("text", data)


@pytest.fixture(scope="session")
def dense(encoder, task, tmp_path_factory):
    """The encoder, fine-tuned on the task."""
    from obert_edge.host.stages import finetune

    folder = tmp_path_factory.mktemp("stages") / "dense"
    finetune(encoder, task, folder, training=FAST, progress=False)
    return folder
