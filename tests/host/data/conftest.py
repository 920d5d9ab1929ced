"""A tokenizer of few words, and a folder of SST-2."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

WORDS = [
    "a",
    "good",
    "bad",
    "film",
    "the",
    "is",
    "was",
    "it",
    "red",
    "blue",
    "where",
    "who",
    "lives",
    "in",
    "paris",
    "john",
    "smith",
    ".",
    "?",
    "question",
]


@pytest.fixture
def tokenizer() -> Tokenizer:
    """One token per word, with BERT's special tokens."""
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = Lowercase()
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


@pytest.fixture
def sst2(tmp_path: Path) -> Path:
    """A folder with train (three rows), dev (two) and test (one, without a label), as GLUE has them."""
    (tmp_path / "train.tsv").write_text("sentence\tlabel\na good film\t1\na bad film\t0\nit was bad\t0\n")
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\ngood\t1\nbad\t0\n")
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tgood\n")
    return tmp_path
