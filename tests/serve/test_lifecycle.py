"""Stopping, killing and reloading under load: no accepted request is lost without a word."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import resource
import shutil
import signal
import socket
import threading

import httpx
import numpy as np
import pytest

import obert_edge

CLIENTS = 8


class Load:
    """Clients that ask until they are told to stop, or their server is gone; what each ask came to."""

    def __init__(self, server, body) -> None:
        self.answers: list[np.ndarray] = []
        self.statuses: list[int] = []
        self.broken: list[Exception] = []
        self._stop = threading.Event()
        self._begun = threading.Barrier(CLIENTS + 1)
        self._pool = concurrent.futures.ThreadPoolExecutor(CLIENTS)
        self._clients = [self._pool.submit(self._ask, server, body) for _ in range(CLIENTS)]
        self._begun.wait(60)

    def _ask(self, server, body) -> None:
        with server.http() as http:
            first = True
            while not self._stop.is_set():
                try:
                    answer = http.post("/v1/embeddings", json=body)
                except httpx.TransportError as error:
                    self.broken.append(error)
                    return
                self.statuses.append(answer.status_code)
                if answer.status_code == 200:
                    # An answer that was cut off would not be JSON, or lack texts.
                    self.answers.append(
                        np.array([one["embedding"] for one in answer.json()["data"]], np.float32)
                    )
                if first:
                    self._begun.wait(60)
                    first = False

    def end(self) -> None:
        """Tell the clients to stop, and wait until they have."""
        self._stop.set()
        self.outlast()

    def outlast(self) -> None:
        """Wait until every client has ended by itself, which it does when it asks and nobody answers."""
        for client in self._clients:
            client.result(60)
        self._pool.shutdown()


BODY = {"model": "model", "input": ["the film is good " * 20] * 8}


@pytest.fixture
def place(tmp_path, embedder):
    path = tmp_path / "model.oeb"
    shutil.copy(embedder, path)
    return path


def expected(bundle) -> bytes:
    with obert_edge.load(bundle, threads=1) as session:
        return session.encode(BODY["input"]).tobytes()


def test_sigterm_ends_with_0_when_all_that_was_accepted_is_answered(serving, place):
    server = serving(place)
    load = Load(server, BODY)
    assert server.stop(signal.SIGTERM) == 0
    load.outlast()
    assert set(load.statuses) <= {200, 503}
    assert {answer.tobytes() for answer in load.answers} == {expected(place)}
    # Each client goes on until it hears that nobody listens any more.
    assert len(load.broken) == CLIENTS
    assert any("finishing what was accepted" in line for line in server.lines)
    assert not any("cut off" in line for line in server.lines)


def test_what_is_not_answered_in_time_is_told_so(serving, place):
    server = serving(place, "--threads", 1, "--shutdown-timeout", 0)
    body = {"model": "model", "input": ["the film is good " * 20] * 1500}
    with concurrent.futures.ThreadPoolExecutor(1) as pool, server.http() as http:
        asked = pool.submit(http.post, "/v1/embeddings", json=body)
        with server.http() as other:
            while "obert_edge_queue_requests 1.0" not in other.get("/metrics").text:
                pass
        assert server.stop(signal.SIGTERM) == 1
        answer = asked.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
    assert any("1 accepted requests were cut off" in line for line in server.lines)
    assert not any("Traceback" in line for line in server.lines)


def test_a_second_signal_ends_a_run_of_minutes(serving, answerer):
    many = 10**9
    server = serving(f"model={answerer}", "--max-request-tokens", many, "--max-queue-tokens", many)
    question = {"question": "is paris fun?", "context": "the film is good. " * 500}
    body = {"inputs": [question] * 150, "parameters": {"stride": 95}}  # 25 million tokens
    with concurrent.futures.ThreadPoolExecutor(1) as pool, server.http() as http:
        asked = pool.submit(http.post, "/predict", json=body)
        with server.http() as other:
            while "obert_edge_queue_seconds_count 1.0" not in other.get("/metrics").text:
                pass
        server.signal(signal.SIGTERM)
        server.wait_for("finishing what was accepted")
        assert server.stop(signal.SIGTERM) == 1
        with contextlib.suppress(httpx.TransportError):
            assert asked.result().json()["error"]["code"] == "stopping"
    assert any("what is not answered yet is cut off" in line for line in server.lines)
    assert not any("Traceback" in line for line in server.lines)
    assert not any("does not end" in line for line in server.lines)


def test_connections_never_outnumber_the_files_that_may_be_open(serving, place):
    few = (96, 96)
    server = serving(place, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few))
    assert any("at most 32 connections in place of 1024" in line for line in server.lines)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.http()) for _ in range(40)]
        statuses = {client.get("/health").status_code for client in clients}
        assert statuses == {200, 503}
    assert server.stop() == 0


def test_a_request_whose_body_is_still_coming_is_answered_after_sigterm(serving, place):
    server = serving(place)
    sent = threading.Event()

    def body():
        yield b'{"model": "model", '
        sent.set()
        server.wait_for("finishing what was accepted")
        yield b'"input": "the film"}'

    with concurrent.futures.ThreadPoolExecutor(1) as pool, server.http() as http:
        asked = pool.submit(
            http.post, "/v1/embeddings", content=body(), headers={"Content-Type": "application/json"}
        )
        assert sent.wait(60)
        with server.http() as other:  # by now the first request is being read
            assert other.get("/health").status_code == 200
        code = server.stop(signal.SIGTERM)
        assert asked.result().status_code == 200
    assert code == 0


def test_a_killed_server_breaks_connections_and_another_takes_its_place(serving, place, tmp_path):
    path = tmp_path / "socket"
    server = serving(place, "--uds", path)
    load = Load(server, BODY)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    load.outlast()
    assert set(load.statuses) == {200}
    assert {answer.tobytes() for answer in load.answers} == {expected(place)}
    assert len(load.broken) == CLIENTS
    assert path.exists()  # nobody could take it away, and it is in nobody's way
    again = serving(place, "--uds", path)
    assert path.stat().st_mode & 0o777 == 0o660
    with again.http() as http:
        assert http.post("/v1/embeddings", json=BODY).status_code == 200
    assert again.stop() == 0
    assert not path.exists()


def test_a_server_that_ends_leaves_the_socket_of_its_successor(serving, place, tmp_path):
    path = tmp_path / "socket"
    server = serving(place, "--uds", path)
    sent = threading.Event()

    def body():
        yield b'{"model": "model", '
        sent.set()
        server.wait_for("finishing what was accepted")
        yield b'"input": '
        serving(place, "--uds", path)
        yield b'"the film"}'

    with concurrent.futures.ThreadPoolExecutor(1) as pool, server.http() as http:
        asked = pool.submit(
            http.post, "/v1/embeddings", content=body(), headers={"Content-Type": "application/json"}
        )
        assert sent.wait(60)
        with server.http() as other:
            assert other.get("/health").status_code == 200
        assert server.stop(signal.SIGTERM) == 0
        assert asked.result().status_code == 200
    with server.http() as http:  # the same path, and the other process
        assert http.post("/v1/embeddings", json=BODY).status_code == 200


@pytest.mark.parametrize("how", ["SIGHUP", "watch"])
def test_a_reload_under_load_fails_no_request(serving, place, plain_embedder, how):
    server = serving(place, "--watch", 0 if how == "SIGHUP" else 0.1)
    before, after = expected(place), expected(plain_embedder)
    load = Load(server, BODY)
    beside = place.with_suffix(".next")
    shutil.copy(plain_embedder, beside)
    beside.replace(place)
    if how == "SIGHUP":
        server.signal(signal.SIGHUP)
    server.wait_for("was replaced")
    with server.http() as http:
        answer = http.post("/v1/embeddings", json=BODY).json()
    assert np.array([one["embedding"] for one in answer["data"]], np.float32).tobytes() == after
    load.end()
    assert set(load.statuses) == {200} and not load.broken
    assert {answer.tobytes() for answer in load.answers} <= {before, after}
    assert server.stop() == 0


def test_a_file_that_is_refused_leaves_the_older_bundle_and_is_said_once(serving, place):
    server = serving(place, "--watch", 0.05)
    before = expected(place)
    # In one step: half a file that is looked at would be refused, and then the whole one again.
    beside = place.with_suffix(".next")
    beside.write_bytes(place.read_bytes()[:-10])
    beside.replace(place)
    server.wait_for("the older bundle goes on")
    with server.http() as http:
        answer = http.post("/v1/embeddings", json=BODY).json()
        assert 'obert_edge_reloads_total{result="failed"} 1.0' in http.get("/metrics").text
    assert np.array([one["embedding"] for one in answer["data"]], np.float32).tobytes() == before
    assert server.stop() == 0
    assert sum("the older bundle goes on" in line for line in server.lines) == 1


def test_more_requests_than_places_are_told_to_come_again(serving, place):
    server = serving(place, "--max-queue", 1)
    body = {"model": "model", "input": ["the film is good " * 20] * 500}
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool, server.http() as http:
        found = list(pool.map(lambda _: http.post("/v1/embeddings", json=body), range(CLIENTS)))
    statuses = [answer.status_code for answer in found]
    assert 200 in statuses and set(statuses) <= {200, 429}
    for answer in found:
        if answer.status_code == 429:
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["error"]["code"] == "queue_full"
    assert 429 in statuses


def test_connections_wait_in_a_socket_that_a_service_manager_holds(serving, place):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        manager = {
            "environment": {"LISTEN_FDS": "1"},
            "wrapper": ("/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh"),
            "preexec_fn": lambda: os.dup2(listening.fileno(), 3),
            "pass_fds": (3,),
        }
        server = serving(place, **manager)
        assert server.place == f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert server.stop() == 0
        with concurrent.futures.ThreadPoolExecutor(1) as pool, server.http() as http:
            asked = pool.submit(http.post, "/v1/embeddings", json=BODY)
            assert serving(place, **manager).place == server.place
            assert asked.result().status_code == 200
