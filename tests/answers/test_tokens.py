"""Entities of a bundle beside transformers' token-classification pipeline, on the same logits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import transformers

from obert_edge.bundle.container import TOKENIZER, Bundle
from obert_edge.device.pipelines import create_pipeline
from obert_edge.device.pipelines.token_classification import AGGREGATIONS
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.host.compiler import build
from tests.answers.models import labeled, make_model, save_byte_bpe, save_wordpiece

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
PLAIN = ["O", "PER", "LOC", "ORG"]
BIOES = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC"]
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


def test_first_is_what_is_trained_and_the_default(tagger):
    model = tagger("uncased", BIO)
    assert model.ours(TEXTS[0]) == model.ours(TEXTS[0], aggregation="first")
