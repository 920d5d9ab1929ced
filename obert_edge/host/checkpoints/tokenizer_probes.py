"""Whether a device reads a tokenizer: in plain Python, and with the answers of the `tokenizers` library.

A device may have numpy alone. A tokenizer that it cannot read has to fail where the bundle is built, not at
the first text on the device.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import List

from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import BundleError, CheckpointError, ObertEdgeError, UnsupportedDeviceError

#: Lines that every tokenizer has to cut alike: scripts, emoji, marks, controls, white space, code.
PROBES = (
    "",
    " ",
    "Hello, world! Don't we'll they've said: \"it's 3.14%\"?",
    "  two  spaces \t tab\nnewline\r\nreturn \u00a0nbsp\u3000wide\u2028line ",
    "café cafe\u0301 CAFÉ ÅÄÖ ǅ ẞ ﬁ ½ ² Ⅷ ① ™ ㍿ ﷺ İstanbul ΣΊΣΥΦΟΣ",
    "привет мир Ελλάδα Հայ שלום العربية नमस्ते क्षत्रिय தமிழ் ภาษาไทย น้ำ 한국어 각 \u1100\u1161\u11a8",
    "東京タワー ひらがな ｶﾞｷﾞ 中文分词 漢字kana Ｆｕｌｌ２０２４ \U00020000 \uf900",
    "👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ☃️ ❤️‍🔥 𝒳𝓎 𐍈",
    "a\u0000b\u0007c\u00add\u200be\u200df\ufeffg\ufffdh\u007fi\u0085j\ue000",
    "a\u0301\u0323\u0302 q\u0323\u0307 \u0344\u0958 x\u20d0 \u3099か\u3099 o\u0300\u0301",
    "<div class='x'>&amp;</div> def f(x): return x**2 # C:\\tmp /usr/lib ~/.bashrc http://a.b/c?d=e&f=%20",
    "``quoted'' “curly” ‘single’ «angle» — – … ‐ ▁ ▁▁x ##ing [MASK] <mask> <s></s> [CLS] <unk> <0x41>",
    "unbelievable antidisestablishmentarianism Donaudampfschifffahrtsgesellschaftskapitän",
    "x" * 250 + " " + "ab" * 60 + " " + "é" * 40 + "!" * 30 + " " * 20 + "7" * 40,
)
#: At most so many added tokens are looked for in texts.
_ADDED = 64


def check_device_reads(tokenizer: bytes, folder: Path) -> Tokenizer:
    """The tokenizer as a device with numpy alone reads it.

    Args:
        tokenizer: a ``tokenizer.json``.
        folder: what to call the model in errors.

    Raises:
        CheckpointError: it cannot be read there, or cuts a probe line in another way than the `tokenizers`
            library.
    """
    try:
        python = Tokenizer(tokenizer, backend="python")
        for line in PROBES:
            python.encode(line)
    except UnsupportedDeviceError as error:
        raise CheckpointError(
            f"no device could read the tokenizer of {folder}: {error.message}",
            hint="move its tokenizer files out of the folder to build a bundle that takes token ids, or use "
            "the tokenizer of a model that is built as BERT's, RoBERTa's or XLM-RoBERTa's is",
        ) from error
    except BundleError as error:
        raise CheckpointError(
            f"the tokenizer of {folder} cannot be read: {error.message}",
            hint="copy the tokenizer.json of the checkpoint into the folder again",
        ) from error
    if importlib.util.find_spec("tokenizers") is not None:
        _compare(python, Tokenizer(tokenizer, backend="tokenizers"), folder)
    return python


def _compare(python: Tokenizer, library: Tokenizer, folder: Path) -> None:
    for line in [*PROBES, *_lines_with_added(python)]:
        try:
            expected = library.encode(line)
        except ObertEdgeError:
            raise
        except Exception as error:  # the library raises bare Exception, of which only the text is of use
            raise CheckpointError(
                f"the tokenizer of {folder} cannot cut {line!r}: {error}",
                hint="save the tokenizer with an unknown token (unk_token) that is in its vocabulary",
            ) from error
        if python.encode(line) != expected:
            raise CheckpointError(
                f"a device without the tokenizers library would cut {line!r} in another way than the "
                f"tokenizer of {folder}",
                hint="please report this tokenizer; move its files out of the folder to build a bundle that "
                "takes token ids",
            )


def _lines_with_added(tokenizer: Tokenizer) -> List[str]:
    tokens = [tokenizer.token(id_) for id_ in sorted(tokenizer.added_ids)]
    chosen = tokens if len(tokens) <= _ADDED else [*tokens[: _ADDED // 2], *tokens[-_ADDED // 2 :]]
    return [f"a {token} b{token}c {token}{token.lower()}" for token in chosen]
