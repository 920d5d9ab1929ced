"""Small real bundles without torch: a random sparse classifier that reads English words."""

from __future__ import annotations

import json
from pathlib import Path

from obert_edge.host.compiler.build import build
from tools.dev import make_golden

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "a",
    "film",
    "is",
    "was",
    "good",
    "bad",
    "fun",
    ".",
)


def make_bundle(folder: Path, target: str) -> Path:
    """Build ``tools/dev/make_golden.py``'s model for a target; its embedded cases come from this machine."""
    make_golden.write_model(folder)
    save_tokenizer(folder / "tokenizer.json", make_golden.CONFIG["vocab_size"])
    (folder / "quantization.json").write_text(json.dumps(make_golden.ranges()))
    return build(folder, target, folder / f"{target}.oeb")


def make_random_bundle(folder: Path, target: str, architecture: str) -> Path:
    """Build a random classifier of an architecture for a target; needs torch."""
    from tests.host.compiler.tiny_checkpoints import save_model

    save_model(folder, architecture, "sequence-classification", layers=1)
    save_tokenizer(folder / "tokenizer.json", 120)
    texts = ["the film is good.", "a bad film was fun."]
    return build(folder, target, folder / f"{target}.oeb", calibration=texts)


def save_tokenizer(path: Path, size: int) -> None:
    """BERT's WordPiece over :data:`WORDS`, filled up with word ends."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokens = [*WORDS, *(f"##{chr(97 + i % 26)}{i}" for i in range(size - len(WORDS)))]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(WORDS[:5]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(path))
    # Whatever the architecture, the special tokens are these, and not those of its own tokenizers.
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), WORDS))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (path.parent / "tokenizer_config.json").write_text(json.dumps(config))
