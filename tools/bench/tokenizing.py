"""Measure tokenizing: tokens per second of the `tokenizers` library and of plain Python, by kind of model.

    python -m tools.bench.tokenizing --text valid.txt.gz --text test.txt.gz --models MODELS

Vocabularies of real sizes are trained on the texts (a line each; the page's are WikiText-2's), and the first
4,000 lines of at least 20 characters are cut one by one, as a device does it, by both.
Then a text of 20 and one of 128 tokens go through `predict` of a bundle in MODELS (a random MiniLM-L6, 80 %
4x1, made where it is not there), once with each. Lines with other ids are counted.

Needs: a quiet machine and the host's packages (torch, transformers).
Takes: about four minutes on two cores.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import obert_edge
from obert_edge.device.runtime import machine
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import DataError
from obert_edge.files import atomic_file
from tools import command_line
from tools.bench.models import Spec, ensure_bundle
from tools.markdown import table

ROOT = Path(__file__).resolve().parent.parent.parent
BACKENDS = ("tokenizers", "python")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LINES = 4000
ROUNDS = 5

INTRODUCTION = """# How long tokenizing takes

    {command}

{machine}, one thread; {lines:,} lines of WikiText-2 ({characters:,} characters) one by one, cut once before.
Rates are medians of {rounds} rounds, with the slowest and the fastest in brackets.
"Differing" counts lines that got other ids from plain Python than from the library.
"""
PREDICTING = """
## A text through `predict`

A random MiniLM-L6, 80 % 4x1, with the WordPiece above, kernels {implementation}, {threads} threads.
Times are medians of {runs} runs.
"Engine alone" is `run` with the same ids.
"""


def wordpiece(lines: List[str]) -> Library:
    """BERT's: 30,522 words without accents or capitals."""
    tokenizer = Library(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _trained(tokenizer, trainers.WordPieceTrainer, 30522, lines)


def byte_level_bpe(lines: List[str]) -> Library:
    """RoBERTa's and ModernBERT's: 50,265 pieces of bytes."""
    tokenizer = Library(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizer, trainers.BpeTrainer, 50265, lines, initial_alphabet=alphabet)


def byte_fallback_bpe(lines: List[str]) -> Library:
    """SentencePiece's BPE: 32,000 pieces of text, and bytes for what is in none of them."""
    tokenizer = Library(models.BPE(unk_token="[UNK]", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    found = _trained(tokenizer, trainers.BpeTrainer, 32000, lines)
    description = json.loads(found.to_str())
    vocabulary = description["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    return Library.from_str(json.dumps(description))


def unigram(lines: List[str]) -> Library:
    """XLM-RoBERTa's and the multilingual embedders': here 32,000 pieces with a score each."""
    tokenizer = Library(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _trained(tokenizer, trainers.UnigramTrainer, 32000, lines, unk_token="[UNK]")


FAMILIES: Dict[str, Tuple[str, Callable[[List[str]], Library]]] = {
    "WordPiece": ("BERT, MiniLM, MPNet", wordpiece),
    "byte-level BPE": ("RoBERTa, ModernBERT", byte_level_bpe),
    "BPE with byte fallback": ("SentencePiece's BPE", byte_fallback_bpe),
    "Unigram": ("XLM-RoBERTa, multilingual E5", unigram),
}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Measure, print and write the page."""
    parser = command_line.parser("tools.bench.tokenizing", __doc__)
    parser.add_argument("--text", type=Path, action="append", required=True, help="file of lines; repeatable")
    parser.add_argument("--models", type=Path, required=True, help="folder to keep the bundle in")
    output = ROOT / "docs" / "results" / "tokenizing.json"
    parser.add_argument("--output", type=Path, default=output, help="JSON file to write, and .md beside it")
    options = parser.parse_args(arguments)
    corpus = [line for path in options.text for line in read_lines(path)]
    lines = corpus[:LINES]
    if len(lines) < LINES:
        raise DataError(
            f"{len(lines)} lines of at least 20 characters, where {LINES} are cut",
            hint="give more texts with --text",
        )
    options.models.mkdir(parents=True, exist_ok=True)
    texts = " ".join(f"--text {path.name}" for path in options.text)
    document = {
        "command": f"python -m tools.bench.tokenizing {texts} --models MODELS",
        "machine": machine.cpu_model(),
        "lines": len(lines),
        "characters": sum(map(len, lines)),
        "rounds": ROUNDS,
        "families": [measure(name, corpus, lines) for name in FAMILIES],
        "predict": measure_predict(options.models, lines),
    }
    with atomic_file(options.output) as file:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with atomic_file(options.output.with_suffix(".md")) as file:
        file.write_text(page(document), encoding="utf-8")


def read_lines(path: Path) -> List[str]:
    """The lines of a file of text, packed or not, that have at least 20 characters.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(f"there is no {path}", hint="give a file of text with --text")
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return [line.strip() for line in text.splitlines() if len(line.strip()) >= 20]


def measure(family: str, corpus: List[str], lines: List[str]) -> Dict[str, Any]:
    """Tokens per second of both, in turns, over the lines."""
    description = FAMILIES[family][1](corpus).to_str()
    both = {backend: Tokenizer(description, backend=backend) for backend in BACKENDS}
    ids = {name: [tokenizer.encode(line).ids for line in lines] for name, tokenizer in both.items()}
    tokens = sum(map(len, ids["python"]))
    rates: Dict[str, List[float]] = {backend: [] for backend in BACKENDS}
    for _ in range(ROUNDS):
        for backend, tokenizer in both.items():
            begin = time.perf_counter()
            for line in lines:
                tokenizer.encode(line)
            rates[backend].append(tokens / (time.perf_counter() - begin))
    found = {
        "family": family,
        "tokens": tokens,
        "differing": sum(one != other for one, other in zip(ids["python"], ids["tokenizers"])),
        "rates": rates,
    }
    print(json.dumps(found), flush=True)
    return found


def measure_predict(folder: Path, lines: List[str]) -> Dict[str, Any]:
    """Milliseconds of `predict` with each tokenizer, and of the engine alone, at two lengths."""
    spec = Spec.of_shape("minilm-l6", sparsity=0.8, pattern="4x1", task="encoder")
    session = obert_edge.load(ensure_bundle(folder, spec))
    # The random model's own vocabulary is of letters, which no text of a user's is cut into.
    description = wordpiece(lines).to_str()
    both = {name: Tokenizer(description, backend=name) for name in BACKENDS}
    runs = 200
    rows = []
    for wanted in (20, 128):
        text = _text_of(wanted, both["python"], lines)
        ids = np.array([both["python"].encode(text).ids], np.int32)
        times: Dict[str, List[float]] = {name: [] for name in (*BACKENDS, "engine alone")}
        for _ in range(runs):
            for name in times:
                session._tokenizer = both.get(name)
                begin = time.perf_counter()
                if name in both:
                    session.predict(text)
                else:
                    session.run(input_ids=ids)
                times[name].append((time.perf_counter() - begin) * 1e3)
        medians = {name: float(np.median(values)) for name, values in times.items()}
        rows.append({"tokens": int(ids.shape[1]), "ms": medians})
    facts = {"implementation": session.implementation, "threads": session.threads, "runs": runs}
    return {**facts, "rows": rows}


def page(document: Dict[str, Any]) -> str:
    """The page of the JSON file."""
    headers = ["model", "of", "tokens", "tokenizers, tokens/s", "plain Python, tokens/s", "differing lines"]
    rows = [
        [
            found["family"],
            FAMILIES[found["family"]][0],
            f"{found['tokens']:,}",
            *(_spread(found["rates"][backend]) for backend in BACKENDS),
            str(found["differing"]),
        ]
        for found in document["families"]
    ]
    predict = document["predict"]
    timed = [
        [str(row["tokens"]), *(f"{row['ms'][name]:.2f}" for name in (*BACKENDS, "engine alone"))]
        for row in predict["rows"]
    ]
    heads = ["tokens", "with tokenizers, ms", "with plain Python, ms", "engine alone, ms"]
    parts = [INTRODUCTION.format(**document), *table(headers, rows)]
    parts += [PREDICTING.format(**predict), *table(heads, timed)]
    return "\n".join(parts) + "\n"


def _spread(rates: Sequence[float]) -> str:
    return f"{np.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def _text_of(tokens: int, tokenizer: Tokenizer, lines: List[str]) -> str:
    """Words of the lines that make exactly so many tokens, with the special ones."""
    words = " ".join(lines).split()
    for count in range(1, tokens):
        text = " ".join(words[:count])
        if len(tokenizer.encode(text).ids) >= tokens:
            return text
    return " ".join(words[:tokens])


def _trained(tokenizer: Library, trainer: Any, size: int, lines: List[str], **options: Any) -> Library:
    made = trainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False, **options)
    tokenizer.train_from_iterator(lines, made)
    marks = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer


if __name__ == "__main__":
    sys.exit(command_line.run(main))
