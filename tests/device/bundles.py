"""Makes small real bundles: tiny random models of each task and family."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from obert_edge.host.compiler import build

SENTENCE = "the film is good bad fun hello world new york lives in paris anna bob and a b c . , ? ! ##s ##ny"
WORDS = SENTENCE.split(" ")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["the film is good.", "anna lives in new york", "bob and anna, hello world!", "is paris fun?"] * 2
MAX_LENGTH = 96


def save_bert_tokenizer(folder: Path) -> int:
    """Write a WordPiece ``tokenizer.json``; the size of its vocabulary."""
    vocabulary = {token: index for index, token in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return len(vocabulary)


def save_roberta_tokenizer(folder: Path) -> int:
    """Write a byte-level BPE ``tokenizer.json``; the size of its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer.get_vocab_size()


def _config(config_class, vocabulary, **options):
    return config_class(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_LENGTH,
        **options,
    )


def make_bundle(
    folder: Path, model_class: str, config_class: str = "BertConfig", task: str | None = None, **options
) -> Path:
    """Build the bundle of a random model, named by its transformers classes, in ``folder``."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if config_class == "RobertaConfig":
        vocabulary = save_roberta_tokenizer(folder)
        options.update(pad_token_id=1, type_vocab_size=1)
    else:
        vocabulary = save_bert_tokenizer(folder)
    config = _config(getattr(transformers, config_class), vocabulary, **options)
    model = getattr(transformers, model_class)(config)
    with torch.no_grad():  # spread the activations, so that outputs depend on the input
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.dim() > 1 else None
    model.save_pretrained(folder)
    return build(folder, "x86", folder / "model.oeb", calibration=TEXTS, task=task)
