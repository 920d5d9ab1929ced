"""Makes the examples' models: tiny encoders, trained in seconds on the sentences of `texts.py`.

    python3 examples/small_models.py classify classify.oeb    # or search, ask, tag, bench: keep the bundle

A model of your own is a folder that transformers saved, and `obert_edge.build` is all it needs.
"""

from __future__ import annotations

import argparse
import platform
import random
import re
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import texts
import torch
import transformers
from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional

import obert_edge

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# A model this small gains nothing from a second thread, and loses where other programs compute.
torch.set_num_threads(1)

#: What to build for, by what Python calls this machine.
TARGETS = {"x86_64": "x86", "aarch64": "arm64", "armv7l": "armhf"}


def classifier(output: Path) -> Path:
    """A model that sorts letters to the library by the desk that should answer them."""
    labels = list(texts.LETTERS)
    letters = [(letter, labels.index(label)) for label in labels for letter in texts.LETTERS[label]]
    corpus = [letter for letter, _ in letters]
    tokenizer = make_tokenizer(corpus)
    model = make_model("BertForSequenceClassification", tokenizer, layers=1, id2label=dict(enumerate(labels)))
    targets = torch.tensor([label for _, label in letters])

    def loss() -> torch.Tensor:
        inputs, _ = encode(tokenizer, [forget_words(letter) for letter in corpus])
        return functional.cross_entropy(model(**inputs).logits, targets)

    train(model, loss, steps=60)
    return save(model, tokenizer, output, corpus)


def embedder(output: Path) -> Path:
    """A model that puts a question and the paragraph that answers it near each other."""
    paragraphs = list(texts.HANDBOOK)
    corpus = [*paragraphs, *(question for questions in texts.HANDBOOK.values() for question in questions)]
    tokenizer = make_tokenizer(corpus)
    model = make_model("BertModel", tokenizer, layers=1, add_pooling_layer=False)

    def embed(batch: list[str]) -> torch.Tensor:
        inputs, _ = encode(tokenizer, batch)
        mask = inputs["attention_mask"][..., None]
        mean = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        return functional.normalize(mean, dim=-1)

    def loss() -> torch.Tensor:
        # Every question should be nearer to its own paragraph than to the other seven.
        questions = [forget_words(random.choice(texts.HANDBOOK[paragraph])) for paragraph in paragraphs]
        nearness = embed(questions) @ embed([forget_words(paragraph) for paragraph in paragraphs]).T
        return functional.cross_entropy(nearness / 0.1, torch.arange(len(paragraphs)))

    train(model, loss, steps=100)
    return save(model, tokenizer, output, corpus)


def answerer(output: Path) -> Path:
    """A model that finds the word of a notice that answers a question."""
    fillings = [word for words in texts.FILLINGS.values() for word in words]
    corpus = [line for fact, questions in texts.FACTS.items() for line in (fact, *questions)]
    tokenizer = make_tokenizer([*corpus, *fillings])
    # Comparing a question with a notice is slow to learn from BERT's own small random weights (0.02).
    model = make_model("BertForQuestionAnswering", tokenizer, initializer_range=0.12, hidden_dropout_prob=0.0)

    def loss() -> torch.Tensor:
        notices = [make_notice() for _ in range(32)]
        inputs, encodings = encode(tokenizer, [(question, notice) for question, notice, _ in notices])
        spans = [
            (encoding.char_to_token(start, 1), encoding.char_to_token(end - 1, 1))
            for encoding, (_, _, (start, end)) in zip(encodings, notices, strict=True)
        ]
        starts, ends = torch.tensor(spans).unbind(1)
        return model(**inputs, start_positions=starts, end_positions=ends).loss

    train(model, loss, steps=300, rate=4e-3)
    return save(model, tokenizer, output, [notice for _, notice, _ in (make_notice() for _ in range(50))])


def tagger(output: Path) -> Path:
    """A model that finds the people, places and companies of a sentence of the news."""
    labels = ["O", "B-person", "I-person", "B-city", "I-city", "B-company", "I-company"]
    fillings = [word for words in texts.FILLINGS.values() for word in words]
    tokenizer = make_tokenizer([*texts.NEWS, *fillings])
    model = make_model("BertForTokenClassification", tokenizer, id2label=dict(enumerate(labels)))

    def loss() -> torch.Tensor:
        sentences = [fill(forget_words(random.choice(texts.NEWS))) for _ in range(32)]
        inputs, encodings = encode(tokenizer, [sentence for sentence, _ in sentences])
        targets = torch.full_like(inputs["input_ids"], -100)
        for row, (encoding, (_, spans)) in enumerate(zip(encodings, sentences, strict=True)):
            for column, (start, _) in enumerate(encoding.offsets):
                if encoding.word_ids[column] is not None:
                    targets[row, column] = labels.index(label_at(start, spans))
        return functional.cross_entropy(model(**inputs).logits.flatten(0, 1), targets.flatten())

    train(model, loss, steps=150)
    return save(model, tokenizer, output, [fill(sentence)[0] for sentence in texts.NEWS])


def sparse_encoder(output: Path) -> Path:
    """An encoder of MiniLM's shape with random weights, 80 % of them pruned in blocks of 4x1.

    Its answers mean nothing, its speed does: that depends on shapes and on where the zeros are.
    """
    words = [question for questions in texts.HANDBOOK.values() for question in questions]
    tokenizer = make_tokenizer(words)
    shape = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
    model = make_model("BertModel", tokenizer, layers=6, **shape)
    for name, weight in model.encoder.named_parameters():
        if weight.dim() == 2 and "LayerNorm" not in name:
            blocks = weight.data.view(-1, 4, weight.shape[1])  # four outputs of one input
            saliency = blocks.norm(dim=1, keepdim=True)
            blocks *= saliency > saliency.quantile(0.8)
    return save(model, tokenizer, output, words)


def fill(template: str) -> tuple[str, list[tuple[str, int, int]]]:
    """A sentence with its places filled at random, and what stands from which character to which."""
    sentence, spans = "", []
    for before, kind in re.findall(r"([^{}]*)(?:{(\w+)})?", template):
        sentence += before
        if kind:
            filling = random.choice(texts.FILLINGS[kind])
            spans.append((kind, len(sentence), len(sentence) + len(filling)))
            sentence += filling
    return sentence, spans


def label_at(start: int, spans: list[tuple[str, int, int]]) -> str:
    """The label of the word that starts at a character."""
    for kind, first, end in spans:
        if first <= start < end:
            return f"{'B' if start == first else 'I'}-{kind}"
    return "O"


def make_notice() -> tuple[str, str, tuple[int, int]]:
    """A question, a notice of several facts in any order, and where the notice has the answer."""
    facts = random.sample(list(texts.FACTS), random.randint(3, 6))
    question = random.choice(texts.FACTS[facts[0]])
    filled = [fill(fact) for fact in facts]
    answered = filled[0]
    random.shuffle(filled)
    before = " ".join(sentence for sentence, _ in filled[: filled.index(answered)])
    shift = len(before) + bool(before)
    _, start, end = answered[1][0]
    return question, " ".join(sentence for sentence, _ in filled), (shift + start, shift + end)


def forget_words(text: str) -> str:
    """A text with a seventh of its words made up, as those of other texts will be to the model."""
    return " ".join(
        "".join(random.choices(string.ascii_lowercase, k=random.randint(2, 8)))
        if random.random() < 1 / 7 and "{" not in word
        else word
        for word in text.split()
    )


def make_tokenizer(corpus: list[str]) -> Tokenizer:
    """A WordPiece tokenizer with the words of a corpus, as BERT's: lower case, [CLS] and [SEP] around.

    Other words are spelled with letters. The vocabulary is sorted, so that every run trains the same model.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    text = tokenizer.normalizer.normalize_str(" ".join(corpus))
    words = {word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    letters = sorted({*string.ascii_lowercase, *"".join(words)})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    pieces += sorted(words - set(letters))
    tokenizer.model = models.WordPiece(
        {piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"
    )
    tokenizer.add_special_tokens(pieces[:5])  # transformers finds them in a text, and so should the file
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_padding()
    return tokenizer


def make_model(kind: str, tokenizer: Tokenizer, layers: int = 2, **options: Any) -> Any:
    """A small BERT with random weights and the head of the transformers class `kind`."""
    random.seed(0)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        num_hidden_layers=layers,
        max_position_embeddings=128,
        **{**shape, **options},
    )
    return getattr(transformers, kind)(config)


def encode(tokenizer: Tokenizer, batch: list[Any]) -> tuple[dict[str, torch.Tensor], list[Encoding]]:
    """Texts, or pairs of texts, as the model's inputs, and as encodings that know each token's characters."""
    encodings = tokenizer.encode_batch(batch)
    inputs = {
        "input_ids": torch.tensor([encoding.ids for encoding in encodings]),
        "attention_mask": torch.tensor([encoding.attention_mask for encoding in encodings]),
        "token_type_ids": torch.tensor([encoding.type_ids for encoding in encodings]),
    }
    return inputs, encodings


def train(model: Any, make_loss: Callable[[], torch.Tensor], steps: int, rate: float = 2e-3) -> None:
    """Take so many steps of AdamW, each on a new batch, at a learning rate that falls to a twentieth."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    model.train()
    for _ in range(steps):
        loss = make_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def save(model: Any, tokenizer: Tokenizer, output: Path, calibration: list[str]) -> Path:
    """Write the folder transformers would, and compile it into a bundle for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.no_padding()
        tokenizer.save(str(Path(folder) / "tokenizer.json"))
        target = TARGETS[platform.machine()]
        return obert_edge.build(folder, target, output, calibration=calibration)


MAKERS = {"classify": classifier, "search": embedder, "ask": answerer, "tag": tagger, "bench": sparse_encoder}


def main() -> None:
    """Make one model and keep its bundle."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", choices=MAKERS)
    parser.add_argument("output", type=Path, help="Bundle to write (.oeb).")
    arguments = parser.parse_args()
    MAKERS[arguments.model](arguments.output)


if __name__ == "__main__":
    main()
