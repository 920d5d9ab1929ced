"""``POST /predict`` in TEI's shape for classifiers, and in that of ``predict`` for other tasks."""

from __future__ import annotations

import pytest

import obert_edge


@pytest.fixture(scope="module")
def session(classifier):
    with obert_edge.load(classifier, threads=1) as loaded:
        yield loaded


def labels(scores):
    return [
        {"label": name, "score": score} for name, score in sorted(scores.items(), key=lambda one: -one[1])
    ]


@pytest.mark.parametrize("path", ["/predict", "/classify"])
def test_a_text_a_pair_and_a_batch(http, session, path):
    text, pair = "the film is good", ("is paris fun?", "hello world")

    def ask(inputs):
        return http.post(path, json={"model": "sort", "inputs": inputs}).json()

    one, two = labels(session.predict(text).scores), labels(session.predict(pair).scores)
    assert ask(text) == one
    assert ask(list(pair)) == two
    assert ask([[text], list(pair)]) == [one, two]


@pytest.mark.parametrize("words", [3, 15000])
def test_a_prompt_stands_before_every_text(http, session, words):
    prompt = "hello " * words
    body = {"model": "sort", "inputs": [["the film is good"], ["a"]], "parameters": {"prompt": prompt}}
    if words > 10000:
        body["inputs"].pop()
    expected = [
        labels(one.scores) for one in session.predict([text for (text,) in body["inputs"]], prompt=prompt)
    ]
    assert http.post("/predict", json=body).json() == expected


def test_raw_scores_are_logits(http, session):
    body = {"model": "sort", "inputs": "the film is good", "raw_scores": True}
    assert http.post("/predict", json=body).json() == labels(session.predict("the film is good").logits)


def test_other_tasks_answer_as_predict_does(http, answerer):
    question = {"question": "is paris fun?", "context": "the film is good. paris is fun."}
    with obert_edge.load(answerer, threads=1) as session:
        expected = session.predict(question, top_k=2).to_dict()
    body = {"model": "ask", "inputs": question, "parameters": {"top_k": 2}}
    assert http.post("/predict", json=body).json() == expected
    both = http.post("/predict", json={**body, "inputs": [question, question]}).json()
    assert both == [expected, expected]


def test_the_tokens_of_every_window_count(http, answerer):
    def ask(times, **parameters):
        question = {"question": "is paris fun?", "context": "the film is good. paris is fun. " * times}
        answer = http.post("/predict", json={"model": "ask", "inputs": question, "parameters": parameters})
        return question, answer

    with obert_edge.load(answerer, threads=1) as session:
        question, answer = ask(100, stride=8)  # some 900 tokens; the server takes 2000
        assert answer.json() == session.predict(question, stride=8).to_dict()
    refused = ask(100, stride=95)[1]
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_many_tokens")
    assert "count in each" in refused.json()["error"]["message"]
    assert ask(20, stride=5, max_length=20)[1].status_code == 200
    assert ask(100, stride=5, max_length=20)[1].status_code == 413


@pytest.mark.parametrize(
    ("parameters", "window"),
    [({"stride": 10**6}, 96), ({"stride": 96}, 96), ({"stride": 9, "max_length": 9}, 9)],
)
def test_windows_cannot_share_more_tokens_than_they_have(http, parameters, window):
    question = {"question": "is paris fun?", "context": "paris is fun."}
    refused = http.post("/predict", json={"model": "ask", "inputs": question, "parameters": parameters})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "invalid_value")
    assert f"parameters.stride is {parameters['stride']}; expected" in error["message"]
    assert f"below the {window} tokens of a window" in error["message"]


def test_an_answer_much_larger_than_a_request_is_refused(http, answerer):
    question = {"question": "is paris fun?", "context": "the film is good. paris is fun. " * 20}

    def ask(top_k):
        body = {"model": "ask", "inputs": question, "parameters": {"top_k": top_k, "stride": 8}}
        return http.post("/predict", json=body)

    with obert_edge.load(answerer, threads=1) as session:
        assert ask(200).json() == session.predict(question, top_k=200, stride=8).to_dict()
    refused = ask(10**6)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "answer_too_large")
    assert "it may have 800000: send a smaller top_k" in refused.json()["error"]["message"]


def test_an_embedder_does_not_predict(http):
    refused = http.post("/predict", json={"model": "embed", "inputs": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_endpoint")
