"""From logits to answers: the logits are a function of the tokens, so that the right answer is known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import obert_edge
from obert_edge.bundle.container import Bundle
from obert_edge.bundle.manifest import TASK_TYPES
from obert_edge.device.pipelines import PIPELINES, create_pipeline
from obert_edge.device.tokenizers.tokenizer import Tokenizer
from obert_edge.errors import BundleError, InputError, UsageError


class Scripted:
    """A runner whose results are a function of one encoding."""

    def __init__(self, function):
        self.function = function
        self.encodings = []

    def run_encodings(self, encodings):
        self.encodings += encodings
        width = max(map(len, encodings))
        rows = [self.function(encoding) for encoding in encodings]
        results = {}
        for name in rows[0]:
            arrays = [np.asarray(row[name], np.float32) for row in rows]
            if arrays[0].ndim and len(arrays[0]) == len(encodings[0]):  # per token: pad, as a session does
                arrays = [np.pad(a, [(0, width - len(a)), *[(0, 0)] * (a.ndim - 1)]) for a in arrays]
            results[name] = np.stack(arrays)
        return results


def test_every_type_of_task_has_a_pipeline():
    assert set(PIPELINES) == set(TASK_TYPES)


@pytest.fixture(scope="module")
def facts(classifier):
    with Bundle.open(classifier) as bundle:
        return bundle.manifest, Tokenizer(bytes(bundle.member("tokenizer.json")))


@pytest.fixture
def pipeline(facts):
    """A function: task facts, logits function and options to a pipeline (and its runner)."""
    manifest, tokenizer = facts

    def make(function, options=None, max_length=None, **task):
        runner = Scripted(function)
        model = dataclasses.replace(manifest.model, max_length=max_length or manifest.model.max_length)
        changed = dataclasses.replace(manifest, task=dataclasses.replace(manifest.task, **task), model=model)
        return create_pipeline(changed, tokenizer, runner, options or {}), runner

    return make


def predict(pipeline, *items):
    return pipeline.predict([pipeline.read(item) for item in items])


def test_classification_gives_the_likeliest_label_and_all_scores(pipeline):
    classifier, _ = pipeline(lambda e: {"logits": [0.0, 2.0, 1.0]}, labels=["bad", "so-so", "good"])
    (answer,) = predict(classifier, "the film")
    assert answer.label == "so-so"
    assert answer.score == pytest.approx(np.exp(2) / (1 + np.exp(2) + np.exp(1)))
    assert sum(answer.scores.values()) == pytest.approx(1)
    assert list(answer.scores) == ["bad", "so-so", "good"]
    json.dumps(answer.to_dict())


def test_multi_label_scores_stand_alone(pipeline):
    task = {"labels": ["a", "b", "c"], "problem_type": "multi_label"}
    tagger, _ = pipeline(lambda e: {"logits": [-3.0, 0.5, 3.0]}, **task)
    (answer,) = predict(tagger, "the film")
    assert answer.labels == ["c", "b"]
    assert answer.scores["b"] == pytest.approx(1 / (1 + np.exp(-0.5)))
    strict, _ = pipeline(lambda e: {"logits": [-3.0, 0.5, 3.0]}, {"threshold": 0.9}, **task)
    assert predict(strict, "the film")[0].labels == ["c"]


def test_regression_gives_the_value_itself(pipeline):
    scorer, _ = pipeline(lambda e: {"logits": [4.25]}, labels=["similarity"], problem_type="regression")
    (answer,) = predict(scorer, ("hello", "world"))
    assert answer.value == 4.25
    assert answer.to_dict() == {"values": {"similarity": 4.25}, "logits": {"similarity": 4.25}}


def test_many_texts_keep_their_order(pipeline):
    counter, _ = pipeline(lambda e: {"logits": [len(e), 0.0]}, labels=["n", "0"], problem_type="regression")
    answers = predict(counter, *["hello " * n for n in range(40)])
    assert [answer.value for answer in answers] == [n + 2 for n in range(40)]


def test_a_text_longer_than_the_model_is_cut(pipeline):
    counter, _ = pipeline(lambda e: {"logits": [len(e)]}, problem_type="regression")
    (answer,) = predict(counter, "hello " * 500)
    assert answer.value == 96


def spans(tokenizer, word, bonus=8.0):
    """Logits that mark every occurrence of ``word`` in the second text."""
    marked = tokenizer.token_id(word)

    def function(encoding):
        hit = [bonus * (i == marked and s == 1) for i, s in zip(encoding.ids, encoding.sequences)]
        return {"start_logits": hit, "end_logits": hit}

    return function


@pytest.mark.parametrize("before", [0, 30, 150, 400])
def test_the_answer_is_found_wherever_it_lies_in_a_long_context(pipeline, facts, before):
    answerer, runner = pipeline(
        spans(facts[1], "paris"), {"stride": 16}, type="question-answering", max_length=64
    )
    context = "hello " * before + "bob lives in Paris, " + "good " * 100
    (answer,) = predict(answerer, {"question": "the film ?", "context": context})
    assert answer.text == "Paris"
    assert context[answer.start : answer.end] == "Paris"
    assert answer.score > 0.9
    assert all(len(encoding) <= 64 for encoding in runner.encodings)


def test_a_span_runs_forward_and_is_not_too_long(pipeline):
    def function(encoding):
        columns = [c for c, s in enumerate(encoding.sequences) if s == 1]
        start, end = np.zeros(len(encoding)), np.zeros(len(encoding))
        start[columns[5]], start[columns[1]] = 9.5, 5
        end[columns[2]], end[columns[8]] = 9, 1
        return {"start_logits": start, "end_logits": end}

    def ask(**options):
        answerer, _ = pipeline(function, options, type="question-answering")
        return predict(answerer, ("hello ?", "a b c the film is good bad fun hello"))[0]

    assert ask().text == "b c"  # 5 + 9 beats 9.5 + 1, and 9.5 + 9 would run backwards
    assert ask(max_answer_tokens=1).text == "is"
    assert [a.text for a in ask(top_k=3).alternatives] == ["is good bad fun", "is"]


def test_no_answer_wins_only_when_asked_for_and_ahead_by_the_margin(pipeline):
    def function(encoding):
        start = np.zeros(len(encoding))
        start[0], start[-2] = 5.0, 4.0
        return {"start_logits": start, "end_logits": start}

    def ask(**options):
        answerer, _ = pipeline(function, options, type="question-answering")
        return predict(answerer, ("hello ?", "a b c"))[0]

    assert ask().text == "c"
    assert ask(no_answer_margin=0.0).text == ""
    assert ask(no_answer_margin=-3.0).text == "c"


def test_an_empty_context_has_no_answer(pipeline, facts):
    answerer, _ = pipeline(spans(facts[1], "paris"), type="question-answering")
    assert predict(answerer, ("hello ?", ""))[0].text == ""


LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def tags(tokenizer, by_word):
    """Logits that give the named words their labels and all others ``O``."""
    ids = {tokenizer.token_id(word): LABELS.index(label) for word, label in by_word.items()}
    return lambda e: {"logits": np.eye(len(LABELS))[[ids.get(i, 0) for i in e.ids]] * 10}


def test_entities_join_words_by_their_bio_labels(pipeline, facts):
    function = tags(
        facts[1],
        {"anna": "B-PER", "bob": "B-PER", "new": "B-LOC", "york": "I-LOC", "paris": "I-LOC", "##ny": "B-LOC"},
    )
    finder, _ = pipeline(function, type="token-classification", labels=LABELS)
    text = "Anna Bob lives in New York and Paris, funny"
    (entities,) = predict(finder, text)
    assert [(e.label, e.text) for e in entities] == [
        ("PER", "Anna"),  # two B- labels: two people
        ("PER", "Bob"),
        ("LOC", "New York"),
        ("LOC", "Paris"),  # I- without B- begins an entity
    ]  # "funny" takes the label of its first piece, which is O
    assert all(text[e.start : e.end] == e.text and e.score > 0.99 for e in entities)


def test_entities_are_found_in_texts_longer_than_the_model(pipeline, facts):
    function = tags(facts[1], {"new": "B-LOC", "york": "I-LOC"})
    finder, _ = pipeline(function, {"stride": 8}, type="token-classification", labels=LABELS, max_length=32)
    text = " ".join("hello " * n + "new york" for n in (3, 10, 17, 29, 50))
    (entities,) = predict(finder, text)
    assert [e.text for e in entities] == ["new york"] * 5
    assert len({e.start for e in entities}) == 5


def test_masks_are_filled_with_the_likeliest_tokens(pipeline, facts):
    tokenizer = facts[1]
    good, bad = tokenizer.token_id("good"), tokenizer.token_id("bad")

    def function(encoding):
        logits = np.zeros((len(encoding), 40))
        logits[:, good], logits[:, bad] = 9.0, 8.0
        return {"logits": logits}

    filler, _ = pipeline(function, {"top_k": 2}, type="masked-lm")
    answers = predict(filler, *["the film is [MASK] !"] * 20, "[MASK] and [MASK]")
    (candidates,) = answers[0].masks
    assert [c.token for c in candidates] == ["good", "bad"]
    assert candidates[0].text == "the film is good !"
    assert candidates[0].score > candidates[1].score
    assert len(answers[20].masks) == 2
    with pytest.raises(InputError, match=r"no \[MASK\]"):
        predict(filler, "nothing to fill")


@pytest.mark.parametrize("times", [1, 40, 200])
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("question-answering", {"stride": 16}),
        ("question-answering", {"stride": 3, "max_length": 20}),
        ("question-answering", {"stride": 10**6}),
        ("token-classification", {"stride": 8}),
        ("masked-lm", {}),
    ],
)
def test_the_tokens_of_a_text_are_counted_as_they_are_run(pipeline, facts, task, options, times):
    def function(encoding):
        flat = np.zeros(len(encoding))
        return {"start_logits": flat, "end_logits": flat, "logits": np.zeros((len(encoding), 40))}

    made, runner = pipeline(function, options, type=task, max_length=64)
    text, pair = ("the film ?", "hello " * times) if made.PAIR else ("[MASK] is " + "good " * times, None)
    predict(made, (text, pair) if pair else text)
    run = sum(map(len, runner.encodings))
    assert made.count_tokens(text, pair, 10**9) == run
    # Where enough are found, no more need be counted.
    for enough in (1, 50, run):
        assert min(made.count_tokens(text, pair, enough), enough) == min(run, enough)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("question-answering", {"top_k": 50, "stride": 16}),
        ("question-answering", {"top_k": 10**6, "max_answer_tokens": 10**6}),
        ("token-classification", {"ignore_labels": ()}),
        ("masked-lm", {"top_k": 10**6}),
    ],
)
def test_an_answer_holds_no_more_than_it_was_said_to(pipeline, facts, task, options):
    def function(encoding):
        flat = np.zeros(len(encoding))
        logits = np.zeros((len(encoding), facts[0].model.vocabulary))
        return {"start_logits": flat, "end_logits": flat, "logits": logits}

    made, _ = pipeline(function, options, type=task, max_length=32)
    text, pair = ("the film ?", "hello " * 40) if made.PAIR else ("[MASK] is [MASK] good", None)
    (answer,) = predict(made, (text, pair) if pair else text)

    def characters(value):
        if isinstance(value, dict):
            return sum(characters(one) for name, one in value.items() if name not in ("token", "label"))
        if isinstance(value, (list, tuple)):
            return sum(map(characters, value))
        return len(value) if isinstance(value, str) else 0

    assert 0 < characters(answer.to_dict()) <= made.answer_characters(text, pair)


def test_embeddings_are_normalized_when_the_manifest_says_so(pipeline, facts):
    manifest, _ = facts
    output = manifest.outputs[0].name  # one row per sequence

    def embed(**task):
        embedder, _ = pipeline(
            lambda e: {output: [3.0, 4.0]}, task.pop("options", {}), type="encoder", **task
        )
        return predict(embedder, "hello")[0].vector.tolist()

    assert embed() == [3.0, 4.0]
    assert embed(normalize=True) == pytest.approx([0.6, 0.8])
    assert embed(normalize=True, options={"normalize": False}) == [3.0, 4.0]


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (5, "int"),
        (None, "NoneType"),
        (["a"], "list"),
        (("a", 3), "int"),
        ({"txt": "a"}, "txt"),
        ({"text": None}, "NoneType"),
    ],
)
def test_inputs_of_another_kind_are_refused(pipeline, item, found):
    classifier, _ = pipeline(lambda e: {"logits": [0.0, 1.0]})
    with pytest.raises(InputError, match=found):
        predict(classifier, item)


def test_a_task_for_pairs_wants_pairs_and_one_for_texts_wants_texts(pipeline):
    answerer, _ = pipeline(lambda e: {}, type="question-answering")
    with pytest.raises(InputError, match="a pair"):
        predict(answerer, "only a question")
    finder, _ = pipeline(lambda e: {}, type="token-classification")
    with pytest.raises(InputError, match="one text"):
        predict(finder, ("a", "b"))


def test_an_unknown_option_names_those_there_are(pipeline):
    with pytest.raises(UsageError, match="stride"):
        pipeline(lambda e: {}, {"beams": 3}, type="question-answering")


def test_a_real_bundle_answers_one_and_many(classifier, answerer, roberta_tagger):
    with obert_edge.load(classifier) as session:
        one = session.predict("the film is good")
        assert one.label in ("bad", "so-so", "good")
        assert session.predict(["the film is good", ("hello", "world")])[0] == one
        assert session.predict([]) == []
    with obert_edge.load(answerer) as session:
        context = "anna lives in paris. " * 30
        answer = session.predict(("bob ?", context), top_k=2)
        assert context[answer.start : answer.end] == answer.text != ""
        assert answer == session.predict({"question": "bob ?", "context": context}, top_k=2)
    with obert_edge.load(roberta_tagger) as session:
        entities = session.predict("anna lives in new york")
        assert entities.to_dict()["entities"] == [dataclasses.asdict(e) for e in entities]


@pytest.mark.parametrize(
    ("model", "task"), [("BertForMaskedLM", None), ("DistilBertForMaskedLM", None), ("BertModel", "encoder")]
)
def test_language_models_and_encoders_answer_too(build_bundle, model, task):
    if model.startswith("DistilBert"):
        bundle = build_bundle(model, "DistilBertConfig", dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    else:
        bundle = build_bundle(model, task=task)
    with obert_edge.load(bundle) as session:
        if task:
            vector = session.predict("hello world").vector
            assert vector.shape == (32,)
            assert np.isfinite(vector).all()
        else:
            (candidates,) = session.predict("the film is [MASK]", top_k=3).masks
            assert len({candidate.id for candidate in candidates}) == 3


def test_a_bundle_without_a_tokenizer_takes_ids_only(build_bundle, tmp_path, monkeypatch):
    from obert_edge.bundle import container

    source = build_bundle("BertForSequenceClassification")
    with Bundle.open(source) as bundle:
        members = {name: bundle.member(name) for name in bundle.names}
        del members["manifest.json"], members["tokenizer.json"]
        container.write_bundle(tmp_path / "ids.oeb", bundle.manifest, members)
    with obert_edge.load(tmp_path / "ids.oeb") as session:
        assert session.run([[2, 5, 3]])["logits"].shape == (1, 2)
        with pytest.raises(BundleError, match=r"tokenizer\.json"):
            session.predict("hello")
