"""What is wrong with a request is said with a status of 4xx, and the server goes on."""

from __future__ import annotations

import json
import re
import socket

import openai
import pytest

from obert_edge.serve.server import _Transport

EMBED, RERANK, PREDICT = "/v1/embeddings", "/rerank", "/predict"
NAN = b'{"model": "embed", "input": "a", "dimensions": NaN}'


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "said"),
    [
        (EMBED, b"{", 400, "invalid_json", "not JSON"),
        (EMBED, b"", 400, "invalid_json", "not JSON"),
        (EMBED, b'{"input": "\xff"}', 400, "invalid_json", "not JSON"),
        (EMBED, b'{"input": "\\ud800"}', 400, "invalid_json", "not JSON"),
        (EMBED, NAN, 400, "invalid_json", "not JSON"),
        (EMBED, b"[" * 50000, 400, "invalid_json", "not JSON"),
        (EMBED, b'["a"]', 400, "invalid_json", "a list of 1"),
        (EMBED, {}, 400, "missing_field", "input is missing"),
        (EMBED, {"input": None}, 400, "missing_field", "input is missing"),
        (EMBED, {"input": []}, 400, "invalid_value", "an empty list"),
        (EMBED, {"input": [[]]}, 400, "invalid_value", "input[0] is an empty list"),
        (EMBED, {"input": 3}, 400, "invalid_value", "input is a number"),
        (EMBED, {"input": ["a", 3]}, 400, "invalid_value", "input[1] is a number"),
        (EMBED, {"input": [True]}, 400, "invalid_value", "input[0] is true"),
        (EMBED, {"input": [1.5]}, 400, "invalid_value", "input[0] is a number"),
        (EMBED, {"input": [5, 10**6]}, 400, "invalid_value", "tiktoken"),
        (EMBED, {"input": [5, -1]}, 400, "invalid_value", "tiktoken"),
        (EMBED, {"input": [5] * 97}, 413, "text_too_long", "97 tokens"),
        (EMBED, {"input": [5], "prompt_name": "query"}, 400, "invalid_value", "a prompt"),
        (EMBED, {"input": "a", "encoding_format": "hex"}, 400, "invalid_value", "float, base64"),
        (EMBED, {"input": "a", "dimensions": 0}, 400, "invalid_value", "from 1"),
        (EMBED, {"input": "a", "dimensions": 33}, 400, "invalid_value", "at most the 32"),
        (EMBED, {"input": "a", "dimensions": "8"}, 400, "invalid_value", "a whole number"),
        (EMBED, {"input": "a", "prompt_name": "joke"}, 400, "invalid_value", "'query'"),
        (EMBED, {"input": "a", "input_type": "joke"}, 400, "invalid_value", "query, document"),
        (EMBED, {"input": "a", "prompt": "a", "prompt_name": "query"}, 400, "invalid_value", "give one"),
        (EMBED, {"input": "a", "truncate": "yes"}, 400, "invalid_value", "true or false"),
        (EMBED, {"input": ["a"] * 65}, 413, "too_many_inputs", "65 texts"),
        (EMBED, {"input": ["the film is good " * 30] * 60}, 413, "too_many_tokens", "than the 2000 that"),
        (EMBED, {"input": "a" * 100001}, 413, "body_too_large", "it may have 100000"),
        (EMBED, {"input": "a", "model": "gpt-4"}, 404, "model_not_found", "'embed', 'sort', 'rank', 'ask'"),
        (EMBED, {"input": "a", "model": "sort"}, 400, "unsupported_endpoint", "/predict"),
        (RERANK, {"model": "rank", "documents": ["a"]}, 400, "missing_field", "query is missing"),
        (RERANK, {"model": "rank", "query": "a"}, 400, "missing_field", "documents is missing"),
        (RERANK, {"model": "rank", "query": "a", "documents": []}, 400, "invalid_value", "an empty list"),
        (RERANK, {"model": "rank", "query": "a", "documents": "b"}, 400, "invalid_value", "a text"),
        (RERANK, {"model": "rank", "query": "a", "documents": [1]}, 400, "invalid_value", "documents[0]"),
        (
            RERANK,
            {"model": "rank", "query": "a", "documents": ["b"], "top_n": 0},
            400,
            "invalid_value",
            "top_n",
        ),
        (RERANK, {"query": "a", "documents": ["b"]}, 400, "missing_field", "'embed', 'rank'"),
        (RERANK, {"query": "a", "documents": ["b"], "texts": ["b"]}, 400, "invalid_value", "give one"),
        (PREDICT, {"model": "sort"}, 400, "missing_field", "inputs is missing"),
        (PREDICT, {"model": "sort", "inputs": []}, 400, "invalid_value", "an empty list"),
        (PREDICT, {"model": "sort", "inputs": ["a", "b", "c"]}, 400, "invalid_value", "a pair"),
        (PREDICT, {"model": "sort", "inputs": [["a"], "b"]}, 400, "invalid_value", "inputs[1]"),
        (
            PREDICT,
            {"model": "sort", "inputs": "a", "parameters": {"top_k": 3}},
            400,
            "invalid_value",
            "top_k",
        ),
        (
            PREDICT,
            {"model": "sort", "inputs": [["a"]] * 11, "parameters": {"prompt": "b" * 10**4}},
            413,
            "prompt_too_long",
            "10000 characters, before each of 11 texts; together such prompts may have 100000",
        ),
        (EMBED, {"input": ["a"] * 11, "prompt": "b" * 10**4}, 413, "prompt_too_long", "before each of 11"),
        (
            PREDICT,
            {"model": "sort", "inputs": "a", "parameters": {"prompt": 3}},
            400,
            "invalid_value",
            "prompt",
        ),
        (PREDICT, {"model": "ask", "inputs": "a"}, 400, "invalid_value", "question"),
    ],
)
def test_what_is_wrong_is_said(http, path, body, status, code, said):
    if isinstance(body, dict):
        body = {"model": "embed", **body} if path == EMBED else body
        answer = http.post(path, json=body)
    else:
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert said in error["message"]
    assert http.get("/health").status_code == 200


def test_a_body_without_a_length_is_measured_while_it_comes(http):
    parts = (b"a" * 1000 for _ in range(200))
    answer = http.post(EMBED, content=parts, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_other_types_paths_and_methods(http):
    form = http.post(EMBED, data={"input": "a"})
    assert form.status_code == 415 and "send the header Content-Type" in form.json()["error"]["message"]
    packed = http.post(EMBED, json={"input": "a"}, headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415 and "gzip" in packed.json()["error"]["message"]
    before = [refused(http, code) for code in ("no_such_path", "method_not_allowed")]
    elsewhere = http.post("/v1/chat/completions", json={})
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (404, "no_such_path")
    assert EMBED in elsewhere.json()["error"]["message"]
    other = http.get(EMBED)
    assert (other.status_code, other.json()["error"]["code"]) == (405, "method_not_allowed")
    assert other.json()["error"]["message"] == f"{EMBED} answers POST, not GET"
    assert [refused(http, code) for code in ("no_such_path", "method_not_allowed")] == [
        count + 1 for count in before
    ]


def refused(http, code):
    found = re.search(rf'obert_edge_refused_total{{code="{code}"}} ([\d.]+)', http.get("/metrics").text)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("truncate", [True, False])
def test_a_text_of_100_kb_is_cut_or_refused_without_looking_at_all_of_it(http, truncate):
    answer = http.post(EMBED, json={"model": "embed", "input": "a " * 49000, "truncate": truncate})
    if truncate:
        assert answer.status_code == 200 and answer.json()["usage"]["prompt_tokens"] == 96
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "text_too_long")
        assert "more tokens than the 96" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 9\r\n\r\n{", b"408"),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost:", b"408"),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 200000, b"431"),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 70000 + b"\r\n\r\n", b"431"),
        (b"\x16\x03\x01 no HTTP\r\n\r\n", b"400"),
    ],
)
def test_clients_that_stall_or_talk_without_end_are_let_go(server, sent, status):
    host, _, port = server.place.partition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(sent)
            head, body = answer_of(connection)
        except ConnectionError:  # the rest of a request that is too long meets a closed connection
            assert status == b"431"
            return
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"content-type: application/json" in head and json.loads(body)["error"]["message"]


def answer_of(connection):
    """The head and the body of a response, which come as they like."""
    received = b""
    while True:
        part = connection.recv(1000)
        received += part
        head, _, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not part or (length is not None and len(body) >= int(length[1])):
            return head, body


def test_what_is_written_to_a_connection_that_closed_is_dropped():
    class Closing:
        def is_closing(self):
            return True

        def write(self, data):
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    _Transport(Closing()).write(b"an answer that nobody reads")


@pytest.fixture
def locked(serving, embedder, tmp_path):
    """A server with two keys, one from each place."""
    (tmp_path / "keys").write_text("second-key-of-the-file\n")
    environment = {"OBERT_EDGE_API_KEY": "first-key", "OBERT_EDGE_API_KEY_FILE": str(tmp_path / "keys")}
    return serving(embedder, environment=environment)


def test_only_who_has_a_key_is_answered_but_health_is_open(locked):
    for key in ("first-key", "second-key-of-the-file"):
        with locked.openai(key) as client:
            assert client.embeddings.create(model="embedder", input="a").data
    for key in ("first-ke", "first-key,", "none"):
        with locked.openai(key) as client, pytest.raises(openai.AuthenticationError):
            client.embeddings.create(model="embedder", input="a")
    with locked.http() as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/health").status_code == http.get("/ready").status_code == 200
    assert not any("first-key" in line or "second-key" in line for line in locked.lines)
