"""Small checkpoints whose answers differ from text to text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
#: Words of the vocabulary; every other word is cut into the letters behind them.
WORDS = """
the a this his her that one my is are was were in on at of and or not great good fine superb lovely nice bad
awful dull poor sad film book song play meal game trip car angela merkel met john new york city lives works
paris berlin who where when what did how many people river bridge on market town . , ? ! ' - : ; ( ) / @ &
0 1 2 3 4 5 6 7 8 9
"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def save_wordpiece(folder: Path, *, lowercase: bool = True, extra: Sequence[str] = ()) -> int:
    """Write a BERT tokenizer as transformers saves one; the size of its vocabulary."""
    words = [
        *SPECIAL,
        *dict.fromkeys([*WORDS.split(), *LETTERS, *extra]),
        *(f"##{letter}" for letter in LETTERS),
    ]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=lowercase)
    tokenizer.save_pretrained(folder)
    return len(words)


def save_byte_bpe(folder: Path, texts: Sequence[str]) -> int:
    """Write a RoBERTa tokenizer trained on ``texts``; the size of its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=126,
    )
    fast.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def save_unigram(folder: Path, texts: Sequence[str]) -> int:
    """Write an XLM-RoBERTa-like tokenizer trained on ``texts``; the size of its vocabulary."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), special))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 126, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return int(tokenizer.get_vocab_size())


def _special(*names: str) -> dict[str, int]:
    """Ids of special tokens that lie in a small vocabulary."""
    return {f"{name}_token_id": 0 for name in names}


#: Further fields of the configurations of some families, by what the names of their classes start with.
_FIELDS: dict[str, dict[str, Any]] = {
    "ModernBert": {"local_attention": 8, **_special("pad", "bos", "eos", "cls", "sep")},
    "NomicBert": _special("pad", "bos", "eos"),
    "Gte": _special("pad", "bos", "eos"),
    "JinaEmbeddingsV3": _special("pad", "bos", "eos"),
    "EuroBert": {"num_key_value_heads": 2, **_special("pad", "bos", "eos", "mask")},
    "Albert": {"embedding_size": 32, "num_hidden_layers": 3},
    "MobileBert": {"embedding_size": 32, "intra_bottleneck_size": 32},
    "DebertaV2": {
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
    },
}


def make_model(class_name: str, vocabulary: int, *, seed: int = 0, scale: float = 4.0, **options: Any) -> Any:
    """A random model of a transformers class such as ``BertForTokenClassification``, in evaluation mode.

    Its weights are larger than transformers' 0.02, so that what it answers differs from text to text.

    Args:
        class_name: a class of transformers.
        vocabulary: rows of its word embeddings.
        seed: of its weights.
        scale: what every matrix is multiplied by.
        options: further fields of its configuration.
    """
    model_class = getattr(transformers, class_name)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 128}
    if class_name.startswith("DistilBert"):
        shape = {"n_layers": 2, "n_heads": 4, "dim": 64, "hidden_dim": 128}
    extra: dict[str, Any] = {"max_position_embeddings": 128}
    if class_name.startswith(("Roberta", "XLMRoberta", "Camembert")):
        extra = {"max_position_embeddings": 128, "type_vocab_size": 1, "pad_token_id": 1}
    if class_name.startswith("MPNet"):
        extra = {"max_position_embeddings": 128, "pad_token_id": 1}
    extra |= next((fields for prefix, fields in _FIELDS.items() if class_name.startswith(prefix)), {})
    torch.manual_seed(seed)
    model = model_class(
        model_class.config_class(vocab_size=vocabulary, **{**shape, **extra, **options})
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
            elif class_name.startswith("MobileBert") and name.endswith("LayerNorm.weight"):
                parameter.uniform_(-2, 2)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.05)
    return model


def labeled(names: Sequence[str]) -> dict[str, Any]:
    """The fields of a configuration that name its classes."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
