"""``POST /v1/embeddings`` by OpenAI's own client, and TEI's ``POST /embed``."""

from __future__ import annotations

import base64
import concurrent.futures

import numpy as np
import openai
import pytest

import obert_edge

TEXTS = [
    "the film is good",
    "anna lives in new york",
    "",
    "is paris fun? " * 3,
    "a",
    "bob and anna, hello world!",
]


@pytest.fixture(scope="module")
def session(embedder):
    with obert_edge.load(embedder, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def client(server):
    with server.openai() as made:
        yield made


def vectors(answer) -> np.ndarray:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data], np.float32)


@pytest.mark.parametrize("form", ["base64", "float", openai.NOT_GIVEN])
def test_vectors_have_the_bits_of_encode(client, session, form):
    answer = client.embeddings.create(model="embed", input=TEXTS[:2] + TEXTS[3:], encoding_format=form)
    expected = session.encode(TEXTS[:2] + TEXTS[3:])
    if form == "base64":
        found = np.stack([np.frombuffer(base64.b64decode(one.embedding), "<f4") for one in answer.data])
    else:
        found = vectors(answer)
    assert found.tobytes() == expected.tobytes()
    assert answer.object == "list" and answer.model == "embed"


def test_a_text_is_a_list_of_one_and_usage_counts_its_tokens(client, session):
    answer = client.embeddings.create(model="embed", input="the film is good")
    assert vectors(answer)[0].tobytes() == session.encode("the film is good").tobytes()
    tokens = len(session.tokenizer.encode("the film is good"))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)


def test_token_ids_are_taken_as_they_are(client, session):
    ids = [session.tokenizer.encode(text).ids for text in ("the film", "anna and bob")]
    expected = session.encode(["the film", "anna and bob"])
    assert vectors(client.embeddings.create(model="embed", input=ids)).tobytes() == expected.tobytes()
    one = client.embeddings.create(model="embed", input=ids[0])
    assert vectors(one)[0].tobytes() == expected[0].tobytes()


def test_fewer_dimensions_keep_the_length_of_the_whole(client, session):
    found = vectors(client.embeddings.create(model="embed", input=TEXTS[:2], dimensions=5))
    expected = session.encode(TEXTS[:2], truncate_dim=5, normalize_embeddings=True)
    assert found.tobytes() == expected.tobytes()
    assert np.allclose(np.linalg.norm(found, axis=1), 1)


def test_no_prompt_is_left_out_of_token_ids(serving, embedder, session):
    ids = session.tokenizer.encode("the film is good").ids
    with serving(embedder, "--prompt-name", "query").http() as http:
        inputs = [ids, "the film is good"]
        found = [
            np.array(
                http.post("/v1/embeddings", json={"input": one}).json()["data"][0]["embedding"], np.float32
            )
            for one in inputs
        ]
    assert found[0].tobytes() == session.encode("the film is good", prompt="").tobytes()
    assert found[1].tobytes() == session.encode("the film is good", prompt_name="query").tobytes()


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"prompt": "is paris "}, {"prompt": "is paris "}),
        ({"input_type": "query"}, {"prompt_name": "query"}),
        ({"input_type": "document"}, {"prompt_name": "passage"}),
        ({"input_type": "search_document"}, {"prompt_name": "passage"}),
    ],
)
def test_prompts_are_those_of_encode(client, session, fields, options):
    found = vectors(client.embeddings.create(model="embed", input=TEXTS[:2], extra_body=fields))
    assert found.tobytes() == session.encode(TEXTS[:2], **options).tobytes()
    assert found.tobytes() != session.encode(TEXTS[:2]).tobytes()


def test_long_texts_are_cut_as_encode_cuts_them_unless_the_request_says_no(client, session):
    long = "the film is good " * 60
    found = vectors(client.embeddings.create(model="embed", input=long))
    assert found[0].tobytes() == session.encode(long).tobytes()
    with pytest.raises(openai.APIStatusError, match="than the 96") as refused:
        client.embeddings.create(model="embed", input=long, extra_body={"truncate": False})
    assert refused.value.status_code == 413


def test_many_clients_at_once_get_the_vectors_of_their_own_texts(client, session):
    texts = [
        f"{'the film is ' * (1 + i % 7)} {'good' if i % 2 else 'bad'} {'a ' * (i % 5)}." for i in range(96)
    ]
    expected = session.encode(texts)

    def ask(i):
        prompts = {"prompt_name": "query"} if i % 3 == 0 else {}
        return vectors(client.embeddings.create(model="embed", input=texts[i], extra_body=prompts))[0]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(len(texts))))
    for i, vector in enumerate(found):
        same = session.encode(texts[i], prompt_name="query") if i % 3 == 0 else expected[i]
        assert vector.tobytes() == same.tobytes()


def test_tei_gives_bare_vectors_of_length_one(http, session):
    found = http.post("/embed", json={"inputs": TEXTS[:2]}).json()
    expected = session.encode(TEXTS[:2], normalize_embeddings=True)
    assert np.array(found, np.float32).tobytes() == expected.tobytes()
    assert len(http.post("/embed", json={"inputs": "a"}).json()) == 1


def test_models_say_what_they_are(client, http):
    listed = {one.id: one for one in client.models.list()}
    assert list(listed) == ["embed", "sort", "rank", "ask"]
    assert listed["embed"].dimensions == 32 and listed["embed"].prompts == ["passage", "query"]
    assert client.models.retrieve("sort").labels == ["bad", "so-so", "good"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_a_server_has_a_prompt_of_its_own_for_requests_that_name_none(serving, embedder, session):
    running = serving(embedder, "--prompt-name", "query")
    with running.openai() as client:
        for fields, options in (
            ({}, {"prompt_name": "query"}),
            ({"prompt": ""}, {}),
            ({"prompt_name": "passage"}, {"prompt_name": "passage"}),
        ):
            answer = client.embeddings.create(model="embedder", input=TEXTS[:2], extra_body=fields)
            assert vectors(answer).tobytes() == session.encode(TEXTS[:2], **options).tobytes()
