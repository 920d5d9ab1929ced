"""Answers of a bundle beside those of transformers, and SQuAD 2's scores beside its definition.

transformers 5 has no question-answering pipeline any more. Its algorithm, and that of the example that trains
such models, are written out here and run on the torch model: the pipeline scores a span by the probability of
its start times that of its end, over the tokens of the context and [CLS]; the example adds logits, over all
windows, and compares the best span with the least sum of [CLS]'s logits.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import obert_edge
from obert_edge.bundle.container import TOKENIZER, Bundle
from obert_edge.device.pipelines import create_pipeline
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.host.compiler import build
from obert_edge.host.data import load_task
from obert_edge.host.stages.evaluation import evaluate
from tests.answers.models import make_model, save_wordpiece
from tests.host.data.squad import exact, f1

SHORT = [
    ("Who lives in Paris?", "Angela Merkel met John in New York. He lives in Paris."),
    ("How many people?", "The town on the river: 23 people, 1 market & a bridge!"),
    ("Where?", "Zürich \U0001f389\U0001f389 — naïve café, in Berlin"),
    ("What is my name?", "my   name\tis   unknown"),
    ("Who?", "a"),
    ("When did she play?", "她在东京 played in 1999"),
]
LONG = [(question, " ".join([context] * 30)) for question, context in SHORT[:4]]
MAX_LENGTH, STRIDE, LONGEST = 48, 16, 30


class Torch:
    """Runs the float model itself, so that a difference is one of rules and not of arithmetic."""

    def __init__(self, model):
        self.model = model

    def logits(self, encoding):
        with torch.inference_mode():
            output = self.model(
                input_ids=torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.type_ids])
            )
        return output.start_logits[0].numpy(), output.end_logits[0].numpy()

    def run_encodings(self, encodings):
        width = max(map(len, encodings))
        rows = [self.logits(encoding) for encoding in encodings]
        return {
            name: np.stack([np.pad(row[side], (0, width - len(row[side]))) for row in rows])
            for side, name in enumerate(("start_logits", "end_logits"))
        }


class Reader:
    """A model as transformers has it, and its bundle."""

    def __init__(self, folder):
        vocabulary = save_wordpiece(folder)
        # Of this seed it gives an answer to some questions and none to others.
        self.model = make_model("BertForQuestionAnswering", vocabulary, seed=3, max_position_embeddings=400)
        self.model.save_pretrained(folder)
        self.folder = folder
        self.bundle = build(folder, "x86", folder / "model.oeb", calibration=SHORT)
        with Bundle.open(self.bundle) as opened:
            self.manifest = opened.manifest
            self.description = bytes(opened.member(TOKENIZER))

    def ours(self, question, context, backend="tokenizers", **options):
        tokenizer = Tokenizer(self.description, backend=backend)
        answerer = create_pipeline(self.manifest, tokenizer, Torch(self.model), options)
        return answerer.predict([answerer.read((question, context))])[0]

    def windows(self, question, context, length=128, stride=STRIDE):
        """The logits of each window, and the characters of its context tokens by position."""
        tokenizer = Tokenizer(self.description)
        for window in tokenizer.encode_windows(question, context, length, stride):
            inside = {i: window.offsets[i] for i, sequence in enumerate(window.sequences) if sequence == 1}
            yield (*Torch(self.model).logits(window), inside)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("reader"))


def pairs(inside):
    return [(i, j) for i in inside for j in inside if 0 <= j - i < LONGEST]


def by_the_pipeline(start, end, inside, context, impossible):
    """transformers' pipeline for one window: the text and its score."""

    def probabilities(logits):
        allowed = np.full(len(logits), -10000.0)
        places = [0, *inside]
        allowed[places] = logits[places]
        values = np.exp(allowed - allowed.max())
        return values / values.sum()

    starts, ends = probabilities(start), probabilities(end)
    scored = [(starts[i] * ends[j], context[inside[i][0] : inside[j][1]]) for i, j in pairs(inside)]
    if impossible:
        scored.append((starts[0] * ends[0], ""))
    return max(scored, key=lambda one: one[0])


def by_the_example(windows, context, threshold):
    """transformers' run_qa for all windows: the text."""
    nulls, spans = [], []
    for start, end, inside in windows:
        nulls.append(start[0] + end[0])
        spans += [(start[i] + end[j], context[inside[i][0] : inside[j][1]]) for i, j in pairs(inside)]
    best, text = max(spans, key=lambda one: one[0])
    return "" if threshold is not None and min(nulls) - best > threshold else text


@pytest.mark.parametrize("backend", ["tokenizers", "python"])
@pytest.mark.parametrize("impossible", [False, True])
def test_one_window_is_answered_as_by_transformers_pipeline(reader, impossible, backend):
    texts = []
    for question, context in SHORT:
        ((start, end, inside),) = reader.windows(question, context)
        expected, text = by_the_pipeline(start, end, inside, context, impossible)
        ours = reader.ours(question, context, backend, no_answer_margin=0.0 if impossible else None)
        assert ours.text == text == context[ours.start : ours.end]
        assert ours.score == pytest.approx(expected, rel=1e-4)
        texts.append(text)
    assert ("" in texts) == impossible
    assert any(texts)


@pytest.mark.parametrize("backend", ["tokenizers", "python"])
@pytest.mark.parametrize("threshold", [None, 0.0, 2.0, -2.0, 100.0, -100.0])
def test_long_contexts_are_answered_as_by_transformers_example(reader, threshold, backend):
    for question, context in LONG:
        windows = list(reader.windows(question, context, MAX_LENGTH))
        assert len(windows) > 3
        ours = reader.ours(
            question,
            context,
            backend,
            max_length=MAX_LENGTH,
            stride=STRIDE,
            no_answer_margin=None if threshold is None else -threshold,
        )
        assert ours.text == by_the_example(windows, context, threshold)
        assert (ours.text == "") == (threshold == -100.0) or abs(threshold or 0) <= 2


def test_the_best_spans_stand_beside_no_answer(reader):
    question, context = SHORT[0]
    spans = reader.ours(question, context, top_k=3)
    ranked = [(spans.text, spans.score), *((one.text, one.score) for one in spans.alternatives)]
    nothing = reader.ours(question, context, top_k=3, no_answer_margin=100.0)
    assert nothing.text == ""
    assert [(one.text, one.score) for one in nothing.alternatives] == ranked
    assert 0 < nothing.score < 1


def test_an_empty_context_has_no_answer(reader):
    assert reader.ours("Who?", "", no_answer_margin=0.0).to_dict() == {
        "text": "",
        "score": pytest.approx(1.0),
        "start": 0,
        "end": 0,
        "alternatives": [],
    }


# The official scores of SQuAD 2.


@pytest.fixture(scope="module")
def squad2(tmp_path_factory):
    """A dev split of short and long contexts, half of the questions impossible."""
    folder = tmp_path_factory.mktemp("squad2")
    rows = []
    for number, (question, context) in enumerate([*SHORT, *LONG]):
        answer = context.split()[0]
        known = {"text": [answer, answer.lower()], "answer_start": [context.index(answer), 0]}
        for impossible in (False, True):
            rows.append(
                {
                    "id": f"{number}-{impossible}",
                    "question": f"{question} {'never' * impossible}",
                    "context": context,
                    "answers": {"text": [], "answer_start": []} if impossible else known,
                }
            )
    (folder / "dev.json").write_text(json.dumps(rows))
    return folder


@pytest.mark.parametrize("kind", ["float", "bundle"])
def test_a_folder_and_a_bundle_are_scored_by_the_official_rule(reader, squad2, kind, tmp_path):
    task = load_task("squad", squad2)
    file = tmp_path / "predictions.jsonl"
    model = reader.folder if kind == "float" else reader.bundle
    score = evaluate(model, task, predictions=file)
    given = {row["id"]: row["prediction"] for row in map(json.loads, file.read_text().splitlines())}
    references = {question.id: question.answers for question in task.questions("dev")}
    assert score.kind == kind
    assert "" in given.values()
    assert any(given.values())
    for group, keys in (
        ("", list(references)),
        ("HasAns_", [key for key in references if references[key]]),
        ("NoAns_", [key for key in references if not references[key]]),
    ):
        for name, rule in (("exact", exact), ("f1", f1)):
            values = [max(rule(given[key], answer) for answer in references[key] or [""]) for key in keys]
            assert score.metrics[group + name] == pytest.approx(100 * np.mean(values))
    assert score.metrics["best_f1"] >= score.metrics["f1"]
    assert score.metrics["best_exact"] >= score.metrics["exact"]


def test_evaluate_and_predict_give_the_same_answers(reader, squad2, tmp_path):
    task = load_task("squad", squad2)
    file = tmp_path / "predictions.jsonl"
    evaluate(reader.bundle, task, predictions=file)
    given = {row["id"]: row["prediction"] for row in map(json.loads, file.read_text().splitlines())}
    short = [question for question in task.questions("dev") if len(question.context) < 100]
    with obert_edge.load(reader.bundle) as session:
        answers = session.predict([(q.question, q.context) for q in short], no_answer_margin=0.0)
    assert [answer.text for answer in answers] == [given[question.id] for question in short]
