"""A small tokenizer of each family, with the parts that published ``tokenizer.json`` files have.

Training the same tokenizer twice gives other pieces with other ids, because the library asks hash maps with a
random order. So that a test says the same today and tomorrow, they were trained once:

    python -m tests.device.tokenizers.families      # trains all anew, and writes families.json.xz
"""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.device.tokenizers.corpus import WORDS, hard_lines

#: SentencePiece's own table of the rule ``nmt_nfkc``, which XLM-RoBERTa, ALBERT, DeBERTa and T5 carry.
CHARSMAP = lzma.decompress(Path(__file__).with_name("nmt_nfkc.charsmap.xz").read_bytes())
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _texts() -> list[str]:
    return [*(" ".join(WORDS[i : i + 9]) for i in range(0, len(WORDS), 3)), *hard_lines()[:300]]


def _bert_template(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )


def _template(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )


def _add(tokenizer: Tokenizer) -> None:
    """Added tokens of every flag."""
    tokenizer.add_tokens([AddedToken("newtok", single_word=True, normalized=True)])
    tokenizer.add_tokens(
        [AddedToken("Ünit", rstrip=True, normalized=True), AddedToken("🫠", lstrip=True, normalized=False)]
    )


def wordpiece(lowercase: bool = True, strip_accents: bool | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=BERT_SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    _bert_template(tokenizer)
    return tokenizer


def mpnet() -> Tokenizer:
    """BERT's WordPiece between RoBERTa's special tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=700, special_tokens=[*SPECIAL, "[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def byte_bpe(add_prefix_space: bool = False, trim_offsets: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    _train_bpe(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim_offsets, add_prefix_space=add_prefix_space
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def _train_bpe(tokenizer: Tokenizer, alphabet: Sequence[str] = (), **options: Any) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=list(alphabet),
        special_tokens=SPECIAL,
        show_progress=False,
        **options,
    )
    tokenizer.train_from_iterator(_texts(), trainer)


def modernbert() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    _train_bpe(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    _template(tokenizer)
    tokenizer.add_tokens([AddedToken("  ", normalized=True), AddedToken("|||IP|||", normalized=False)])
    return tokenizer


def llama3() -> Tokenizer:
    """A Split by regular expression before the bytes, and both post-processors."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    _train_bpe(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)]
            ),
        ]
    )
    return tokenizer


def gemma() -> Tokenizer:
    """BPE on characters that spells unknown ones in bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        limit_alphabet=250,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    _template(tokenizer)
    return _without_byte_tokens(tokenizer)


def _without_byte_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Byte pieces belong to the vocabulary alone: as added tokens they would be found in texts."""
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = [
        t for t in description["added_tokens"] if not t["content"].startswith("<0x")
    ]
    return Tokenizer.from_str(json.dumps(description))


def clip() -> Tokenizer:
    """BPE whose words end in a suffix; unknown characters are lost or fused."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _train_bpe(tokenizer, limit_alphabet=120, end_of_word_suffix="</w>")
    return tokenizer


def lossy_bpe() -> Tokenizer:
    """BPE without an unknown token, behind digits and punctuation."""
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.Digits(True),
        ]
    )
    _train_bpe(tokenizer, limit_alphabet=100, continuing_subword_prefix="##")
    return tokenizer


def _unigram(normalizer: Any, pre_tokenizer: Any, **options: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=700, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False, **options
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    _template(tokenizer)
    return tokenizer


def xlm_roberta() -> Tokenizer:
    tokenizer = _unigram(
        normalizers.Precompiled(CHARSMAP),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def camembert() -> Tokenizer:
    return _unigram(
        normalizers.Sequence(
            [
                normalizers.Replace("\n", " "),
                normalizers.Precompiled(CHARSMAP),
                normalizers.Strip(left=False, right=True),
                normalizers.Replace(Regex(" {2,}"), "▁"),
            ]
        ),
        pre_tokenizers.Metaspace(),
    )


def deberta() -> Tokenizer:
    return _unigram(
        normalizers.Sequence(
            [
                normalizers.Replace(Regex("[\n\r\t]"), " "),
                normalizers.NFC(),
                normalizers.Precompiled(CHARSMAP),
                normalizers.Strip(),
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        ),
        pre_tokenizers.Sequence(
            [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
        ),
    )


def deberta_v2() -> Tokenizer:
    """As transformers makes it of SentencePiece's vocabulary."""
    from transformers import DebertaV2Tokenizer

    pieces = json.loads(deberta().to_str())["model"]["vocab"][len(SPECIAL) :]
    special = [(token, 0.0) for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    vocabulary = [*special, *((piece, score) for piece, score in pieces), ("[MASK]", 0.0)]
    made = DebertaV2Tokenizer(vocab=vocabulary)
    return Tokenizer.from_str(made.backend_tokenizer.to_str())


def albert() -> Tokenizer:
    return _unigram(
        normalizers.Sequence(
            [
                normalizers.Replace("``", '"'),
                normalizers.Replace("''", '"'),
                normalizers.NFKD(),
                normalizers.StripAccents(),
                normalizers.Lowercase(),
                normalizers.Precompiled(CHARSMAP),
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        ),
        pre_tokenizers.Metaspace(),
    )


def byte_unigram() -> Tokenizer:
    """Unigram that spells unknown characters in bytes, over the whole text at once."""
    tokenizer = _unigram(
        normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFD(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        ),
        pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
    )
    description = json.loads(tokenizer.to_str())
    rare = {piece for piece, _ in description["model"]["vocab"] if len(piece) == 1 and piece > "\u3000"}
    description["model"]["vocab"] = [p for p in description["model"]["vocab"] if p[0] not in rare]
    description["model"]["vocab"] += [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    description["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(description))


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(False)]
    )
    trainer = trainers.WordLevelTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    _template(tokenizer)
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "bert-uncased": wordpiece,
    "bert-cased": lambda: wordpiece(lowercase=False),
    "bert-lower-with-accents": lambda: wordpiece(strip_accents=False),
    "mpnet": mpnet,
    "roberta": byte_bpe,
    "roberta-prefix-space": lambda: byte_bpe(add_prefix_space=True),
    "roberta-untrimmed": lambda: byte_bpe(trim_offsets=False),
    "modernbert": modernbert,
    "llama3": llama3,
    "gemma": gemma,
    "clip": clip,
    "lossy-bpe": lossy_bpe,
    "xlm-roberta": xlm_roberta,
    "camembert": camembert,
    "deberta": deberta,
    "deberta-v2": deberta_v2,
    "albert": albert,
    "byte-unigram": byte_unigram,
    "word-level": word_level,
}


#: The ``tokenizer.json`` of every family, by name.
_TRAINED = Path(__file__).with_name("families.json.xz")


def description_of(family: str) -> str:
    """The ``tokenizer.json`` of a family, with added tokens of every kind."""
    return _descriptions()[family]


@cache
def _descriptions() -> dict[str, str]:
    return dict(json.loads(lzma.decompress(_TRAINED.read_bytes())))


def charsmap_text() -> str:
    """The table as a ``tokenizer.json`` holds it."""
    return base64.b64encode(CHARSMAP).decode()


def trained_anew(family: str) -> str:
    """What :func:`description_of` gives, of a tokenizer that is trained now."""
    tokenizer = FAMILIES[family]()
    _add(tokenizer)
    return str(tokenizer.to_str())


def main() -> None:
    """Train every family, and write all of them."""
    trained = json.dumps({family: trained_anew(family) for family in FAMILIES}, ensure_ascii=False)
    _TRAINED.write_bytes(lzma.compress(trained.encode(), preset=9))


if __name__ == "__main__":
    main()
