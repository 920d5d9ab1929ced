"""Entities of a bundle beside transformers' token-classification pipeline, on the same logits."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
import transformers
from seqeval.metrics.sequence_labeling import get_entities

from obert_edge.bundle.container import TOKENIZER, Bundle
from obert_edge.device.pipelines import create_pipeline
from obert_edge.device.pipelines.token_classification import AGGREGATIONS
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import UsageError
from obert_edge.host.compiler import build
from tests.answers.models import labeled, make_model, save_byte_bpe, save_wordpiece

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
PLAIN = ["O", "PER", "LOC", "ORG"]
BIOES = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC"]
BILOU = [label.replace("E-", "L-").replace("S-", "U-") for label in BIOES]
#: Offsets matter in these: accents, characters outside the first plane, no spaces, many spaces.
TEXTS = [
    "Angela Merkel met John O'Neil-Smith in New York City on Jan. 5th, 2020.",
    "Zürich \U0001f389\U0001f389 liegt in der Schweiz — naïve café",
    "北京是中国的首都。東京 Tokyo",
    "e-mail: bob@example.com, http://x.y/z?a=1",
    "   leading   and  trailing   ",
    "ÀÉÎ\u0301õ\u0308ü",
    "U.S.A. vs. U.K.",
    "antidisestablishmentarianism pneumonoultramicroscopic",
    "(Paris) [MASK] «Berlin»\tin\nEurope\u00a0und\u3000Asien",
    "İstanbul ﬁne ½ straße ΑΣ",
]
EMPTY = ["", "   ", "\n", "\u200b"]


class Torch:
    """Runs the float model itself, so that a difference is one of rules and not of arithmetic."""

    def __init__(self, model):
        self.model = model

    def run_encodings(self, encodings):
        width = max(map(len, encodings))
        rows = []
        for encoding in encodings:
            inputs = {"input_ids": torch.tensor([encoding.ids])}
            if self.model.config.type_vocab_size > 1:
                inputs["token_type_ids"] = torch.tensor([encoding.type_ids])
            with torch.inference_mode():
                logits = self.model(**inputs).logits[0].numpy()
            rows.append(np.pad(logits, [(0, width - len(logits)), (0, 0)]))
        return {"logits": np.stack(rows)}


class Tagger:
    """A model as transformers has it, and what its bundle says and carries."""

    def __init__(self, folder, kind, labels):
        if kind == "roberta":
            vocabulary = save_byte_bpe(folder, TEXTS)
            self.model = make_model("RobertaForTokenClassification", vocabulary, scale=6.0, **labeled(labels))
        else:
            vocabulary = save_wordpiece(folder, lowercase=kind == "uncased")
            self.model = make_model("BertForTokenClassification", vocabulary, scale=6.0, **labeled(labels))
        self.model.save_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        bundle = build(folder, "x86", folder / "model.oeb", calibration=TEXTS)
        with Bundle.open(bundle) as opened:
            self.manifest = opened.manifest
            self.description = bytes(opened.member(TOKENIZER))

    def ours(self, text, backend="tokenizers", **options):
        tokenizer = Tokenizer(self.description, backend=backend)
        finder = create_pipeline(self.manifest, tokenizer, Torch(self.model), options)
        return finder.predict([finder.read(text)])[0]

    def theirs(self, text, aggregation, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that words of a byte-level tokenizer are a guess
            pipe = transformers.pipeline(
                "token-classification",
                model=self.model,
                tokenizer=self.tokenizer,
                aggregation_strategy=aggregation,
                **options,
            )
            return pipe(text)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    """A function: kind of tokenizer and labels to a tagger, each made once."""
    made = {}

    def make(kind, labels):
        key = (kind, tuple(labels))
        if key not in made:
            made[key] = Tagger(tmp_path_factory.mktemp(kind), kind, labels)
        return made[key]

    return make


def same(ours, theirs):
    assert [(e.label, e.start, e.end) for e in ours] == [
        (e.get("entity_group", e.get("entity")), e["start"], e["end"]) for e in theirs
    ]
    assert [e.score for e in ours] == pytest.approx([float(e["score"]) for e in theirs], abs=1e-5)


@pytest.mark.parametrize("backend", ["tokenizers", "python"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", ["uncased", "cased", "roberta"])
@pytest.mark.parametrize("labels", [BIO, PLAIN], ids=["bio", "plain"])
def test_entities_are_those_of_transformers(tagger, kind, labels, aggregation, backend):
    model = tagger(kind, labels)
    found = 0
    for text in TEXTS + EMPTY:
        ours = model.ours(text, backend, aggregation=aggregation)
        same(ours, model.theirs(text, aggregation))
        assert all(text[e.start : e.end] == e.text for e in ours)
        found += len(ours)
    assert found > 10


@pytest.mark.parametrize(
    ("aggregation", "ignored"),
    [("simple", []), ("first", ["O", "PER"]), ("none", ["B-PER", "O"]), ("average", ["B-PER"])],
)
def test_ignored_labels_are_those_of_transformers(tagger, aggregation, ignored):
    model = tagger("uncased", BIO)
    for text in TEXTS:
        ours = model.ours(text, aggregation=aggregation, ignore_labels=ignored)
        same(ours, model.theirs(text, aggregation, ignore_labels=ignored))


@pytest.mark.parametrize("labels", [BIO, BIOES, BILOU], ids=["bio", "bioes", "bilou"])
def test_words_are_joined_to_the_entities_that_seqeval_reads(tagger, labels):
    """transformers knows B- and I- alone: E-PER is an entity of its own there, called PER."""
    model = tagger("uncased", labels)
    letters = {"L": "E", "U": "S"} if labels == BILOU else {}
    found = 0
    for text in TEXTS:
        encoding = model.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        offsets, words = encoding.pop("offset_mapping")[0].tolist(), encoding.word_ids()
        with torch.inference_mode():
            best = model.model(**encoding).logits[0].argmax(-1).tolist()
        first, last = {}, {}
        for place, word in enumerate(words):
            if word is not None:
                first.setdefault(word, place)
                last[word] = place
        names = [labels[best[first[word]]] for word in first]
        expected = [
            (kind, offsets[first[start]][0], offsets[last[end]][1])
            for kind, start, end in get_entities([letters.get(n[0], n[0]) + n[1:] for n in names])
        ]
        assert [(e.label, e.start, e.end) for e in model.ours(text)] == expected
        found += len(expected)
    assert found > 10


def test_a_word_with_accents_of_their_own_is_a_word_of_its_own(tagger):
    """transformers takes it for a part of the word before it, whose label it then has."""
    text = "the ci\u0302ty paris"
    everything = tagger("uncased", [f"B-{name}" for name in "abc"])
    assert [e.text for e in everything.ours(text)] == ["the", "ci\u0302ty", "paris"]
    assert [(e["start"], e["end"]) for e in everything.theirs(text, "first")] == [(0, 9), (10, 15)]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_long_text_has_the_entities_of_its_parts(tagger, aggregation):
    """Each part is read in its own window here, and in windows of the whole text there."""
    everything = tagger("uncased", [f"B-{name}" for name in "abc"])
    text = " ".join(f"Name{i} lives in City{i}." for i in range(80))
    ours = everything.ours(text, aggregation=aggregation, ignore_labels=[], stride=32)
    whole = [(e.start, e.end) for e in ours]
    assert whole == sorted(set(whole))
    pieces = everything.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if aggregation in ("none", "simple"):
        assert whole == pieces["offset_mapping"]
    else:
        assert [text[a:b] for a, b in whole] == re.findall(r"\w+|[^\w\s]", text)


def test_first_is_what_is_trained_and_the_default(tagger):
    model = tagger("uncased", BIO)
    assert model.ours(TEXTS[0]) == model.ours(TEXTS[0], aggregation="first")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "last"}, "one of none, simple, first"),
        ({"ignore_labels": "O"}, "expected a list"),
    ],
)
def test_other_options_are_refused(tagger, options, message):
    with pytest.raises(UsageError, match=message):
        tagger("uncased", BIO).ours(TEXTS[0], **options)
